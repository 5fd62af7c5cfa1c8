package import LabPlanner
package import NetAddress

/// Who is next to whom.
package struct NodeMap: Sendable {
    private let nodes: [String: PlannedNode]
    private let children: [String: [String]]

    package init(_ plan: LabPlan) {
        nodes = Dictionary(plan.nodes.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        children = Dictionary(grouping: plan.nodes.filter { $0.uplink != nil }, by: { $0.uplink ?? "" })
            .mapValues { $0.map(\.name) }
    }

    /// From a node up to its segment, both included.
    package func way(from name: String) -> [String] {
        var result: [String] = []
        var next: String? = name
        while let node = next, result.count <= nodes.count {
            result.append(node)
            next = nodes[node]?.uplink
        }
        return result
    }

    /// Whether an interface is one of those that the plan gives a node.
    func isUnderlay(_ interface: String, of name: String) -> Bool {
        nodes[name]?.interfaces.contains { $0.name == interface } ?? false
    }

    package func kind(_ name: String) -> PlannedNode.Kind? { nodes[name]?.kind }

    /// Those that a node has towards its uplink: the interface's, a router's further ones, 1:1 addresses.
    package func addresses(of name: String) -> [IPAddress] {
        nodes[name]?.outerAddresses ?? []
    }

    /// Who gets a packet that has left a node: the neighbour with its address, else the router or segment above, else the
    /// network itself, where nobody has that address.
    func receiver(after hop: Journey.Hop) -> String {
        guard let node = nodes[hop.node] else { return hop.node }
        let network = hop.interface == node.interfaces.first?.name ? node.uplink ?? hop.node : hop.node
        let address = hop.destination.address
        if let neighbour = (children[network] ?? []).first(where: { addresses(of: $0).contains(address) }) {
            return neighbour
        }
        if network == hop.node {
            // Inward through routers that translate nothing.
            return (children[network] ?? []).first { leads(to: address, $0) } ?? network
        }
        return network
    }

    private func leads(to address: IPAddress, _ name: String) -> Bool {
        guard let node = nodes[name], node.kind == .router else { return false }
        return node.interfaces.dropFirst().contains { $0.address.network.contains(address) }
            || (children[name] ?? []).contains { leads(to: address, $0) }
    }

    /// Whether anybody on the network that a packet was sent into has its address.
    func isAnybodys(_ hop: Journey.Hop) -> Bool {
        // Between segments everything is routed.
        let node = receiver(after: hop)
        guard kind(node) == .segment else { return true }
        return nodes.values.contains { other in
            addresses(of: other.name).contains(hop.destination.address)
                || other.kind == .segment
                    && other.interfaces.contains { $0.address.address == hop.destination.address }
        } && !isPrivate(hop.destination.address)
    }

    /// Whether an address belongs to a LAN, which no segment has a route to.
    private func isPrivate(_ address: IPAddress) -> Bool {
        nodes.values.contains { node in
            node.kind == .router && node.translation != nil
                && node.interfaces.dropFirst().contains { $0.address.network.contains(address) }
        }
    }

    /// The segment above a router that a packet has come into from its LAN, where nobody there has the packet's address.
    func emptyNetwork(beyond hop: Journey.Hop) -> String? {
        guard let node = nodes[hop.node], node.kind == .router, let above = node.uplink,
            kind(above) == .segment,
            let outer = node.interfaces.first, hop.interface != outer.name
        else { return nil }
        var outgoing = hop
        outgoing.interface = outer.name
        return isAnybodys(outgoing) ? nil : above
    }

    /// The segments that a packet crosses between two nodes that are not in one another's LAN.
    func segments(between first: String, _ second: String) -> [String] {
        guard let one = nodes[first]?.uplink, let other = nodes[second]?.uplink, one != second,
            other != first,
            kind(one) == .segment, kind(other) == .segment
        else { return [] }
        return one == other ? [one] : [one, other]
    }
}
