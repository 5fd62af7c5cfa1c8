import Glibc
package import NetlinkWire
package import SystemCalls

/// The kernel's own WireGuard, by generic netlink.
///
/// Not for several threads at once. Source: linux/wireguard.h.
package final class KernelWireGuard: WireGuardTransport {
    let socket: GenericNetlinkSocket
    let family: UInt16
    let interface: String
    private let namespace: String?

    /// How often a dump is tried that changes keep interrupting.
    private static let attempts = 5
    private static let familyName = "wireguard"

    /// An interface of a namespace; of the machine's own where `namespace` is nil.
    ///
    /// Throws EOPNOTSUPP where the kernel has no WireGuard. Whether there is such an interface shows only when it is used.
    package convenience init(interface: String, in namespace: NetworkNamespace?) throws(OperationFailure) {
        let socket =
            if let namespace { try GenericNetlinkSocket(in: namespace) } else { try GenericNetlinkSocket() }
        try self.init(socket: socket, interface: interface, namespace: namespace?.name)
    }

    /// An interface of the namespace that `socket` belongs to, whose name `namespace` is for error texts.
    package init(
        socket: GenericNetlinkSocket, interface: String, namespace: String? = nil
    ) throws(OperationFailure) {
        guard let family = try socket.family(named: Self.familyName) else {
            throw OperationFailure(
                "reach WireGuard", interface, namespace: namespace, errno: EOPNOTSUPP,
                detail: "this kernel has no WireGuard",
                mend: "use backend = \"userspace\", or `modprobe wireguard`")
        }
        self.socket = socket
        self.family = family
        self.interface = interface
        self.namespace = namespace
    }

    /// Whether the kernel has WireGuard; the kernel loads its module where it can.
    package static func isAvailable() throws(OperationFailure) -> Bool {
        try GenericNetlinkSocket().family(named: familyName) != nil
    }

    /// Reads the interface and all its peers.
    ///
    /// ENODEV: no such interface; EOPNOTSUPP: not a WireGuard one.
    package func read() throws(OperationFailure) -> WireGuardDevice {
        let request = try KernelGetMessages.request(interface: interface)
        var attempt = 1
        while true {
            var reader = KernelDeviceReader(interface: interface)
            do throws(OperationFailure) {
                try socket.dump(request, family: family, operation: "read WireGuard", object: interface) {
                    payload throws(OperationFailure) in try reader.take(payload)
                }
                return reader.result
            } catch {
                guard error.errno == EINTR, attempt < Self.attempts else { throw error }
                attempt += 1
            }
        }
    }

    /// Applies a change, message by message; what was sent before one that fails stays applied.
    package func apply(_ change: WireGuardChange) throws(OperationFailure) {
        for message in try KernelSetMessages.messages(for: change, interface: interface) {
            try socket.request(message, family: family, operation: "configure WireGuard", object: interface)
        }
    }
}
