/// What the interfaces at the inner side of segments and routers are called.
struct LinkNames {
    /// By child: its port in the parent's namespace.
    private(set) var ports: [Int: String] = [:]
    /// For each segment but the first, the two ends of its veth to the first, the centre of the star.
    private(set) var betweenSegments: [(atCentre: String, atLeaf: String)] = []

    init(_ underlay: Underlay) {
        let segments = underlay.nodes.filter { $0.kind == .segment }
        var centreNames = InterfaceNames()
        for segment in segments.dropFirst() {
            betweenSegments.append((centreNames.take("to-\(segment.name)"), "to-\(segments[0].name)"))
        }
        for (index, node) in underlay.nodes.enumerated() where node.kind != .host {
            var names = index == 0 ? centreNames : InterfaceNames()
            if node.kind == .segment, index > 0 {
                betweenSegments[index - 1].atLeaf = names.take("to-\(segments[0].name)")
            }
            for child in node.children {
                ports[child] = Self.hasBridge(node) ? names.take(underlay.nodes[child].name) : "lan0"
            }
        }
    }

    /// Whether the inner interface is a bridge with ports.
    ///
    /// A segment's always is. A router's lan0 is one unless exactly one node is attached: then lan0 is that node's veth
    /// itself, one bridge less a site to make and to pass.
    static func hasBridge(_ node: Underlay.Node) -> Bool {
        node.kind == .segment || (node.kind == .router && node.children.count != 1)
    }

    /// Every interface of the node.
    func interfaces(of node: Underlay.Node, inner: String, outer: String, in underlay: Underlay) -> [String] {
        var names: [String] = []
        if node.kind != .host { names.append(inner) }
        if Self.hasBridge(node) { names += node.children.compactMap { ports[$0] } }
        if node.kind == .segment {
            names +=
                underlay.segmentNumber(node) == 0
                ? betweenSegments.map(\.atCentre)
                : underlay.segmentNumber(node).map { [betweenSegments[$0 - 1].atLeaf] } ?? []
        } else {
            names.append(outer)
        }
        return names
    }
}
