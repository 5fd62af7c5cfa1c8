import NetAddress
import TopologyModel

/// The networks below the tunnels: who is attached where, with which address.
///
/// Looked up by name in constant time.
struct Underlay {
    struct Node {
        var name: String
        var kind: PlannedNode.Kind
        var namespace: String
        var line: Int?
        /// The segment or router above; nil for a segment.
        var parent: Int?
        /// Its own address there; a segment's is nil.
        var address: IPAddress?
        /// What its children have addresses in; nil for a host.
        var prefix: IPPrefix?
        var nat: Topology.NAT?
        /// Further addresses of a router's wan0, those of `one-to-one` last.
        var furtherAddresses: [IPAddress] = []
        /// Nil where nothing is translated.
        var translation: PlannedNAT?
        /// What the link to the parent does; nil for nothing.
        var link: LinkShape?
        /// Attached nodes, in the order of the file.
        var children: [Int] = []
    }

    /// Segments, then routers, then hosts.
    var nodes: [Node] = []
    private var indices: [String: Int] = [:]

    init(_ topology: Topology) {
        func add(_ node: Node) {
            indices[node.name] = nodes.count
            nodes.append(node)
        }
        func namespace(_ name: String) -> String { "\(topology.name).\(name)" }
        for segment in topology.segments {
            add(
                Node(
                    name: segment.name, kind: .segment, namespace: namespace(segment.name),
                    line: segment.position?.line, prefix: segment.prefix))
        }
        for router in topology.routers {
            add(
                Node(
                    name: router.name, kind: .router, namespace: namespace(router.name),
                    line: router.position.line,
                    address: router.wan.first, prefix: router.lan, nat: router.nat,
                    furtherAddresses: router.wan.dropFirst() + router.oneToOne.map(\.address),
                    link: router.link.flatMap(LinkShape.init)))
        }
        for host in topology.hosts {
            add(
                Node(
                    name: host.name, kind: .host, namespace: namespace(host.name), line: host.position.line,
                    address: host.address, link: host.link.flatMap(LinkShape.init)))
        }
        let attachments =
            topology.routers.map { ($0.name, $0.uplink, $0.position) }
            + topology.hosts.map { ($0.name, $0.attachment, $0.position) }
        for (name, above, _) in attachments.sorted(by: { $0.2 < $1.2 }) {
            guard let index = indices[name], let parent = indices[above] else { continue }
            nodes[index].parent = parent
            nodes[parent].children.append(index)
        }
        for index in nodes.indices { assignAddresses(below: index) }
        for router in topology.routers { addTranslation(router) }
        // Only now it is known who translates.
        for index in nodes.indices where nodes[index].translation != nil {
            let inside = addresses(below: nodes[index])
            nodes[index].translation?.inside = inside
        }
    }

    private mutating func addTranslation(_ router: Topology.Router) {
        guard let index = indices[router.name], let behaviour = router.nat.behaviour,
            let own = nodes[index].address
        else { return }
        let externals = [own] + router.wan.dropFirst()
        func address(_ host: String) -> IPAddress? { self[host]?.address }
        nodes[index].translation = PlannedNAT(
            engine: router.nat.engine, behaviour: behaviour, externals: externals, inside: [],
            forwards: router.forwards.compactMap { forward in
                address(forward.host).map {
                    PlannedForward(
                        transport: forward.transport,
                        external: Endpoint(forward.address ?? own, port: forward.port),
                        host: forward.host, inner: Endpoint($0, port: forward.innerPort))
                }
            },
            oneToOne: router.oneToOne.compactMap { entry in
                address(entry.host).map {
                    PlannedOneToOne(external: entry.address, host: entry.host, inner: $0)
                }
            })
    }

    /// The addresses that a router or segment sees on its inner side, in the order of the file.
    func addresses(below node: Node) -> [IPAddress] {
        node.children.flatMap { index -> [IPAddress] in
            let child = nodes[index]
            let own = [child.address].compactMap(\.self) + child.furtherAddresses
            return child.kind == .router && child.translation == nil ? own + addresses(below: child) : own
        }
    }

    subscript(name: String) -> Node? { indices[name].map { nodes[$0] } }

    /// The place of a segment among the segments; nil for other nodes.
    func segmentNumber(_ node: Node) -> Int? { node.kind == .segment ? indices[node.name] : nil }

    /// Gives an address to each child that asked for none.
    ///
    /// The gateway has the first; who asked for none gets the next that nobody asked for.
    private mutating func assignAddresses(below parent: Int) {
        guard let prefix = nodes[parent].prefix else { return }
        let taken = Set(
            nodes[parent].children.flatMap {
                [nodes[$0].address].compactMap(\.self) + nodes[$0].furtherAddresses
            })
        var number: UInt64 = 2
        for child in nodes[parent].children where nodes[child].address == nil {
            // The topology was checked for room, so the prefix does not run out before the children do.
            while let address = prefix.host(number), taken.contains(address) { number += 1 }
            nodes[child].address = prefix.host(number)
            number += 1
        }
    }

    /// The node's address with the length of its network's prefix.
    func interfaceAddress(_ node: Node) -> IPPrefix? {
        guard let parent = node.parent, let prefix = nodes[parent].prefix, let address = node.address else {
            return nil
        }
        return IPPrefix(address, length: prefix.length)
    }

    /// The address that a segment or router has towards its children.
    func gateway(_ node: Node) -> IPPrefix? {
        guard let prefix = node.prefix, let address = prefix.host(1) else { return nil }
        return IPPrefix(address, length: prefix.length)
    }

    /// Whether a NAT is on the way from the node to the segments, its own not included.
    func isBehindNAT(_ node: Node) -> Bool {
        var next = node.parent
        while let index = next {
            if nodes[index].kind == .router, nodes[index].nat != Topology.NAT.none { return true }
            next = nodes[index].parent
        }
        return false
    }
}

extension LinkShape {
    /// Nil when it does nothing, as with a loss of 0%.
    fileprivate init?(_ link: Topology.Link) {
        self.init(delay: link.delay, jitter: link.jitter, loss: link.loss, rate: link.rate)
        if isNothing { return nil }
    }
}
