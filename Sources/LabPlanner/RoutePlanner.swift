import NetAddress
import TopologyModel

/// Plans the underlay's routes: out by default, back where no NAT hides what is behind.
struct RoutePlanner {
    /// By node: the route and the line that asks for it.
    private(set) var byNode: [String: [(route: Route, line: Int?)]] = [:]
    private let underlay: Underlay
    private let links: LinkNames

    init(_ underlay: Underlay, _ links: LinkNames) {
        self.underlay = underlay
        self.links = links
        for node in underlay.nodes {
            if node.kind == .segment { addStar(node) } else { addDefault(node) }
        }
        for node in underlay.nodes where node.kind == .router && node.nat == Topology.NAT.none {
            addReturn(to: node)
        }
    }

    private mutating func addDefault(_ node: Underlay.Node) {
        guard let parent = node.parent, let gateway = underlay.gateway(underlay.nodes[parent]) else { return }
        let interface = node.kind == .router ? "wan0" : "eth0"
        byNode[node.name, default: []].append(
            (Route(to: .allIPv4, via: gateway.address, interface: interface), node.line))
    }

    /// The first segment knows every other; the others send whatever is not theirs to the first.
    private mutating func addStar(_ leaf: Underlay.Node) {
        guard let number = underlay.segmentNumber(leaf), number > 0, let prefix = leaf.prefix,
            let centreGateway = underlay.gateway(underlay.nodes[0])
        else { return }
        let interface = links.betweenSegments[number - 1].atLeaf
        byNode[leaf.name, default: []].append(
            (Route(to: .allIPv4, via: centreGateway.address, interface: interface, onLink: true), leaf.line))
        addAtCentre(prefix, beyond: leaf, line: leaf.line)
    }

    private mutating func addAtCentre(_ prefix: IPPrefix, beyond leaf: Underlay.Node, line: Int?) {
        guard let number = underlay.segmentNumber(leaf), number > 0, let gateway = underlay.gateway(leaf)
        else { return }
        let interface = links.betweenSegments[number - 1].atCentre
        byNode[underlay.nodes[0].name, default: []].append(
            (Route(to: prefix, via: gateway.address, interface: interface, onLink: true), line))
    }

    /// The LAN of a router without NAT: routed by everything above it up to the first NAT, or by the segments.
    private mutating func addReturn(to router: Underlay.Node) {
        guard let lan = router.prefix else { return }
        var below = router
        while let parent = below.parent, let nextHop = below.address {
            let node = underlay.nodes[parent]
            let interface = node.kind == .segment ? "br0" : "lan0"
            byNode[node.name, default: []].append(
                (Route(to: lan, via: nextHop, interface: interface), router.line))
            if node.kind == .segment { addAtCentre(lan, beyond: node, line: router.line) }
            if node.kind == .router, node.nat != Topology.NAT.none { return }
            below = node
        }
    }
}
