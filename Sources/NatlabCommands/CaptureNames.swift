import LabPlanner
import NetAddress
import PcapngFormat

/// The names that a capture's addresses get.
///
/// A node's own, and NODE.IFACE for addresses inside of a tunnel. Two homes may share one prefix, while a file has one name
/// for an address: then what is on a captured link goes before what is not, and where that does not decide it either, two
/// owners give both their names, "a|b", and more give none.
struct CaptureNames {
    private struct Owner {
        var name: String
        /// The segment, the router whose LAN it is, or the tunnel's network.
        var network: String
    }

    private var owners: [IPAddress: [Owner]] = [:]
    /// In the plan's order.
    private var addresses: [IPAddress] = []
    private let plan: LabPlan

    init(_ plan: LabPlan) {
        self.plan = plan
        for node in plan.nodes {
            for interface in node.interfaces {
                add(interface.address.address, node.name, Self.network(of: interface.name, node))
            }
            let further =
                (node.translation?.externals ?? []) + (node.translation?.oneToOne.map(\.external) ?? [])
            for address in further { add(address, node.name, node.uplink ?? node.name) }
        }
        for tunnel in plan.tunnels {
            add(tunnel.address.address, "\(tunnel.host).\(tunnel.interface)", "tunnel \(tunnel.interface)")
        }
    }

    /// The names for a file with packets of these interfaces.
    func names(for interfaces: [(node: String, interface: String)]) -> [Pcapng.Name] {
        let captured = Set(interfaces.compactMap { network(of: $0.interface, $0.node) })
        return addresses.compactMap { address in
            let all = owners[address] ?? []
            let near = all.filter { captured.contains($0.network) }
            let meant = (near.isEmpty ? all : near).map(\.name)
            return meant.count > 2 ? nil : Pcapng.Name(address, meant.joined(separator: "|"))
        }
    }

    private mutating func add(_ address: IPAddress, _ name: String, _ network: String) {
        let known = owners[address] ?? []
        if known.isEmpty { addresses.append(address) }
        guard !known.contains(where: { $0.name == name }) else { return }
        owners[address, default: []].append(Owner(name: name, network: network))
    }

    private func network(of interface: String, _ name: String) -> String? {
        if plan.tunnel(host: name, interface: interface) != nil { return "tunnel \(interface)" }
        return plan.node(name).map { Self.network(of: interface, $0) }
    }

    /// What an interface of the underlay is on: the node's uplink, or what hangs on the node itself.
    private static func network(of interface: String, _ node: PlannedNode) -> String {
        interface == node.outerInterface ? node.uplink ?? node.name : node.name
    }
}

extension PlannedNode {
    /// The one towards the uplink: a router's wan0, a host's eth0; nil for a segment.
    var outerInterface: String? { uplink == nil ? nil : interfaces.first?.name }
}
