package import NetAddress
import NetlinkWire
package import SystemCalls

/// One interface to capture, as it was when it was looked up.
package struct CapturePoint: Hashable, Sendable {
    package var namespace: NetworkNamespace
    package var node: String
    package var interface: CaptureInterface
    /// if_description.
    package var description: String
    package var addresses: [IPPrefix]

    package init(
        namespace: NetworkNamespace, node: String, interface: CaptureInterface, description: String,
        addresses: [IPPrefix]
    ) {
        self.namespace = namespace
        self.node = node
        self.interface = interface
        self.description = description
        self.addresses = addresses
    }
}

extension CapturePoint {
    /// What it is called on the command line and in the file (if_name): "alpine1:eth0".
    package var name: String { "\(node):\(interface.name)" }
}

/// An interface of a namespace.
package struct CaptureInterface: Hashable, Sendable {
    package enum Kind: Hashable, Sendable {
        case plain
        case loopback
        /// Shows, if asked to, every frame that it passes on.
        case bridge
        /// Whatever passes it passes its bridge, too.
        case port
    }

    package var name: String
    package var kind: Kind
    package var isUp: Bool
    var index: Int32
    /// ARPHRD_* of linux/if_arp.h.
    var hardware: UInt16

    /// All interfaces of a namespace, in the kernel's order.
    package static func all(in namespace: NetworkNamespace) throws(OperationFailure) -> [CaptureInterface] {
        try RouteSocket(namespace).links().map { link in
            let kind: Kind =
                link.hardware == loopbackHardware
                ? .loopback : link.kind == "bridge" ? .bridge : link.master != nil ? .port : .plain
            return CaptureInterface(
                name: link.name, kind: kind, isUp: link.isUp, index: link.index, hardware: link.hardware)
        }
    }

    /// Whether it is among those that are meant when only the node is named.
    package var isMeantByItsNode: Bool {
        isUp && (kind == .plain || kind == .bridge) && linkType != nil
    }
}

/// ARPHRD_LOOPBACK of linux/if_arp.h.
private let loopbackHardware: UInt16 = 772
