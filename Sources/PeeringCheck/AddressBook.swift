package import LabPlanner
package import NetAddress
import TopologyModel

/// Whose an underlay address is, seen from one host on the way to another.
package struct AddressBook: Sendable {
    /// Every node with its underlay addresses, in the plan's order.
    private let addresses: [(node: String, address: IPAddress)]
    /// A host's way out: its own address, then the WAN address of each router up to the segment.
    private let ways: [String: [(node: String, address: IPAddress)]]
    private let hairpinning: Set<String>
    private let tunnelPrefixes: [IPPrefix]
    private let tunnelAddresses: [(host: String, address: IPAddress)]

    package init(_ plan: LabPlan) {
        let nodes = Dictionary(plan.nodes.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        addresses = plan.nodes.flatMap { node in
            node.interfaces.map { (node.name, $0.address.address) }
                + node.outerAddresses.dropFirst().map { (node.name, $0) }
        }
        var ways: [String: [(node: String, address: IPAddress)]] = [:]
        for host in plan.nodes where host.kind == .host {
            var way: [(node: String, address: IPAddress)] = []
            var next: PlannedNode? = host
            while let node = next, node.kind != .segment, way.count <= addresses.count {
                way += node.outerAddresses.map { (node.name, $0) }
                next = node.uplink.flatMap { nodes[$0] }
            }
            ways[host.name] = way
        }
        self.ways = ways
        hairpinning = Set(
            plan.nodes.filter { $0.translation?.behaviour.hairpin == true }.map(\.name))
        tunnelPrefixes = plan.tunnels.map(\.address.network)
        tunnelAddresses = plan.tunnels.map { ($0.host, $0.address.address) }
    }

    /// What an address is, for packets from `host` to `peer`.
    package enum Owner: Hashable, Sendable {
        /// The peer itself, or a NAT on the peer's way out: a packet sent there can only be for the peer's side.
        case onPath(String)
        /// Another node of the lab.
        case elsewhere(String)
        /// An address inside a WireGuard tunnel of the lab.
        case insideTunnel
        case unknown

        /// The node that has the address; nil where none has.
        package var node: String? {
            switch self {
            case .onPath(let node), .elsewhere(let node): node
            case .insideTunnel, .unknown: nil
            }
        }
    }

    /// The owner of `address` where `host` uses it as the endpoint of `peer`.
    ///
    /// Two homes may share one prefix, so the peer's own way is searched first, and addresses that are also the
    /// asking host's own count for the peer only where both are on one link.
    package func owner(of address: IPAddress, seenFrom host: String, towards peer: String) -> Owner {
        let own = ways[host]?.first?.address
        if address != own, let hit = ways[peer]?.first(where: { $0.address == address }) {
            return .onPath(hit.node)
        }
        if let hit = addresses.first(where: { $0.address == address }) { return .elsewhere(hit.node) }
        if tunnelPrefixes.contains(where: { $0.contains(address) }) { return .insideTunnel }
        return .unknown
    }

    /// Whether `node` is a router on `host`'s own way out.
    package func isBehind(_ host: String, _ node: String) -> Bool {
        ways[host]?.dropFirst().contains { $0.node == node } ?? false
    }

    /// Whether hosts behind a router reach each other's external endpoints through it.
    package func hairpins(_ router: String) -> Bool { hairpinning.contains(router) }

    /// The routers on a host's way out, from the inside.
    package func routers(of host: String) -> [String] {
        var seen: Set<String> = []
        return (ways[host] ?? []).dropFirst().map(\.node).filter { seen.insert($0).inserted }
    }

    /// The host with this address inside a tunnel.
    package func hostInTunnel(_ address: IPAddress) -> String? {
        tunnelAddresses.first { $0.address == address }?.host
    }
}
