import CNatlab
import Glibc
import NetlinkWire
import SystemCalls

/// A port of a LAN bridge that has none, whose other end is in a namespace of its own.
///
/// However this process ends, the kernel takes the namespace away and with it the port.
final class ProbePort {
    let end: FarEnd
    private let network: NetworkNamespace
    private let name: String
    private let namespace: Descriptor

    static let interface = "eth0"

    /// Makes it in the router's namespace and adds it to the bridge.
    init(in network: NetworkNamespace, bridge: String) throws(OperationFailure) {
        let namespace = try NetworkNamespace.unnamed()
        let place = NetworkNamespace("the namespace of a probe", path: "/proc/self/fd/\(namespace.rawValue)")
        let name = "probe" + String(UInt32.random(in: 0...0xFFFF_FFFF), radix: 16)
        let routes = try RouteSocket(network)
        let master = try routes.linkIndex(bridge)
        let far = try RouteSocket(place)
        try routes.perform(
            .makeVeth(VethEnd(name: name), VethEnd(name: Self.interface, network: namespace.rawValue)))
        do throws(OperationFailure) {
            let index = try routes.linkIndex(name)
            let other = try far.linkIndex(Self.interface)
            try routes.perform([
                .setNoLinkLocal(index: index, name: name),
                .setMaster(index: index, master: master, name: name),
                .setUp(index: index, name: name),
            ])
            try far.perform([
                .setNoLinkLocal(index: other, name: Self.interface),
                .setUp(index: other, name: Self.interface),
            ])
        } catch {
            // It goes with the namespace anyway, but later.
            _ = try? Self.remove(name, routes)
            throw error
        }
        end = FarEnd(place, Self.interface)
        self.network = network
        self.name = name
        self.namespace = namespace
    }

    func remove() throws(OperationFailure) { try Self.remove(name, try RouteSocket(network)) }

    private static func remove(_ name: String, _ routes: RouteSocket) throws(OperationFailure) {
        try routes.perform(.deleteLink(index: try routes.linkIndex(name), name: name))
    }
}
