import NetAddress
import TopologyModel

/// Whether hole punching can work between two hosts of a plan, from what the NATs on their ways are declared to do.
///
/// Both sides learn from the rendezvous which endpoint the other has there, and send to it again and again. One packet that
/// arrives is enough: its answer goes back the way it came. So the question is whether either side's NATs let the other's
/// packet in, filter state being that of the mapping which the rendezvous saw (facts of RFC 4787 sections 4.1 and 5).
package struct TraversalTheory: Sendable {
    package struct Verdict: Codable, Hashable, Sendable {
        package var path: PlannedPair.Path
        /// One sentence.
        package var reason: String
    }

    /// What keeps two hosts from each other.
    enum Obstacle: Hashable, Sendable {
        /// A router on the way lets no UDP through.
        case barrier
        /// Nobody tells them of each other.
        case noRendezvous
        /// One of them does not reach the rendezvous, which is behind a NAT.
        case unregistered
        /// The router that both are behind, by name.
        case noHairpin(String)
        /// What the NATs map and filter.
        case behaviour
    }

    private struct Node {
        var name: String
        var uplink: Int?
        var isSegment: Bool
        var address: IPAddress?
        var nat: PlannedNAT?
    }

    private let nodes: [Node]
    private let indices: [String: Int]
    /// By node: the nodes above it, up to the segment; all segments are one network.
    private let ways: [[Int]]
    private let rendezvous: Int?
    /// The user has said how clients reach it, other than at its host's own address.
    private let rendezvousIsForwarded: Bool
    private let tunnels: [String: PlannedTunnel]
    /// By HOST.INTERFACE.
    private var sides: [String: Side] = [:]
    /// Some endpoint of a host behind a NAT was written down by the user.
    private let hasFixedEndpoints: Bool
    /// Some router lets no UDP through.
    private let hasBarriers: Bool

    package init(_ plan: LabPlan) {
        self.init(nodes: plan.nodes, tunnels: plan.tunnels, rendezvous: plan.rendezvous)
    }

    init(nodes planned: [PlannedNode], tunnels: [PlannedTunnel], rendezvous: PlannedRendezvous?) {
        let indices = Dictionary(
            planned.enumerated().map { ($0.element.name, $0.offset) }, uniquingKeysWith: { first, _ in first }
        )
        let nodes = planned.map { node in
            Node(
                name: node.name, uplink: node.uplink.flatMap { indices[$0] },
                isSegment: node.kind == .segment,
                address: node.kind == .segment ? nil : node.interfaces.first?.address.address,
                nat: node.translation)
        }
        self.nodes = nodes
        self.indices = indices
        ways = nodes.indices.map { start in
            var way: [Int] = []
            var next = nodes[start].uplink
            while let index = next, way.count <= nodes.count {
                // One number for all segments, as they are routed to each other.
                way.append(nodes[index].isSegment ? -1 : index)
                next = nodes[index].uplink
            }
            return way
        }
        let server = rendezvous.flatMap { indices[$0.host] }
        self.rendezvous = server
        rendezvousIsForwarded = server.map { nodes[$0].address != rendezvous?.endpoint.address } ?? false
        self.tunnels = Dictionary(
            tunnels.map { ("\($0.host).\($0.interface)", $0) }, uniquingKeysWith: { first, _ in first })
        hasBarriers = nodes.contains { $0.nat.map { $0.behaviour.udp != .forward } ?? false }
        let ways = ways
        hasFixedEndpoints = tunnels.contains { tunnel in
            tunnel.peers.contains { peer in
                guard let endpoint = peer.endpoint, let index = indices[peer.host] else { return false }
                return endpoint.address != nodes[index].address
                    || ways[index].contains { $0 >= 0 && nodes[$0].nat != nil }
            }
        }
        for tunnel in tunnels {
            sides["\(tunnel.host).\(tunnel.interface)"] = makeSide(tunnel)
        }
    }

    /// The NATs from a router's LAN to the segments, that router's included: what a host on the LAN has in front of it.
    package func composite(of router: String) -> NATPath {
        guard let index = indices[router] else { return NATPath() }
        return NATPath(([index] + ways[index]).compactMap { hop($0, nil) })
    }

    /// The router that keeps a host's client from the rendezvous; nil where none does.
    package func barrierToRendezvous(_ host: String, interface: String) -> String? {
        side(host, interface).flatMap { $0.inbound.barrier?.router }
    }

    /// The verdict on two hosts' interfaces of one WireGuard network.
    package func verdict(_ from: String, _ to: String, interface: String) -> Verdict {
        guard let a = side(from, interface), let b = side(to, interface) else {
            return Verdict(path: .none, reason: "\(from) and \(to) are not both hosts with \(interface)")
        }
        let (obstacle, reason) = judge(a, b)
        return Verdict(path: obstacle == nil ? .direct : .none, reason: reason())
    }

    /// The same without a sentence, for each pair of a network's members that is asked for.
    ///
    /// Members are looked up only once: a mesh of 1,000 hosts has half a million pairs.
    func paths(among hosts: [String], interface: String) -> (_ first: Int, _ second: Int) -> PlannedPair.Path
    {
        let obstacles = obstacles(among: hosts, interface: interface)
        return { obstacles($0, $1) == nil ? .direct : .none }
    }

    /// What is in the way of each pair; nil for one that reaches each other.
    func obstacles(among hosts: [String], interface: String) -> (_ first: Int, _ second: Int) -> Obstacle? {
        let sides = hosts.map { side($0, interface) }
        var numbers: [Kind: Int] = [:]
        let kinds = sides.map { side in
            side.flatMap(kind).map { kind in
                let number = numbers[kind] ?? numbers.count
                numbers[kind] = number
                return number
            }
        }
        let count = numbers.count
        // By the kinds of both: of all such pairs only the first is judged.
        var known = [Obstacle??](repeating: nil, count: count * count)
        return { first, second in
            guard let a = sides[first], let b = sides[second] else { return .behaviour }
            guard let one = kinds[first], let other = kinds[second],
                a.isPlain || a.translators.last != b.translators.last
            else { return judge(a, b).obstacle }
            if let obstacle = known[one * count + other] { return obstacle }
            let obstacle = judge(a, b).obstacle
            known[one * count + other] = obstacle
            return obstacle
        }
    }

    /// All that `judge` looks at where the other side is behind other NATs, and both are known on the segments.
    private struct Kind: Hashable {
        var mapping: NATDependence
        var filtering: NATDependence
        var hasOneAddress: Bool
        var isPlain: Bool
        var isRegistered: Bool
    }

    /// Nil where it takes more to judge a side: endpoints that somebody wrote down, routers without UDP, a rendezvous that
    /// is not on a segment.
    private func kind(_ side: Side) -> Kind? {
        let isOutside = side.known.count >= ways[side.index].count - 1 && ways[side.index].last == -1
        guard isOutside, !hasFixedEndpoints, !hasBarriers else { return nil }
        return Kind(
            mapping: side.inbound.mapping, filtering: side.inbound.filtering,
            hasOneAddress: hasOneAddress(side, side.translators), isPlain: side.isPlain,
            isRegistered: side.isRegistered)
    }

    // MARK: Sides

    private struct Side {
        var name: String
        var interface: String
        var index: Int
        var endpoint: Endpoint
        /// The nodes below the network in which the other side, by the rendezvous, knows this one's endpoint.
        var known: [Int]
        /// Those of them that translate, and what they do together.
        var translators: [Int]
        var inbound: NATPath
        /// No NAT is in front of it: its peers know its address from the start.
        var isPlain: Bool
        /// The rendezvous is there, and no NAT is in front of that which would keep this side out.
        var isRegistered: Bool
    }

    private func side(_ host: String, _ interface: String) -> Side? { sides["\(host).\(interface)"] }

    private func makeSide(_ tunnel: PlannedTunnel) -> Side? {
        guard let index = indices[tunnel.host], let address = nodes[index].address else { return nil }
        let known = rendezvous.map { below(index, meeting: $0) } ?? ways[index]
        let endpoint = Endpoint(address, port: tunnel.listenPort)
        return Side(
            name: tunnel.host, interface: tunnel.interface, index: index, endpoint: endpoint, known: known,
            translators: translators(known), inbound: path(known, from: endpoint),
            isPlain: translators(ways[index]).isEmpty,
            isRegistered: rendezvous.map {
                rendezvousIsForwarded || translators(below($0, meeting: index)).isEmpty
            } ?? false)
    }

    /// The nodes on the way from one host up to, and without, the first network that both are in.
    private func below(_ host: Int, meeting other: Int) -> [Int] {
        let theirs = ways[other]
        return Array(ways[host].prefix { !theirs.contains($0) })
    }

    private func hop(_ node: Int, _ inner: Endpoint?) -> NATPath.Hop? {
        guard node >= 0 else { return nil }
        return nodes[node].nat?.hop(nodes[node].name, inner)
    }

    private func path(_ way: some Sequence<Int>, from inner: Endpoint) -> NATPath {
        var isFirst = true
        return NATPath(
            way.compactMap { node in
                // Behind the first NAT the endpoint is no longer the host's own.
                let hop = hop(node, isFirst ? inner : nil)
                if hop != nil { isFirst = false }
                return hop
            })
    }

    /// The networks in which an address is known that the way begins at: up to the LAN of the first NAT.
    private func realm(_ way: [Int]) -> [Int] {
        guard let end = way.firstIndex(where: { $0 >= 0 && nodes[$0].nat != nil }) else { return way }
        return Array(way[...end])
    }

    private func translators(_ way: some Sequence<Int>) -> [Int] {
        way.filter { $0 >= 0 && nodes[$0].nat != nil }
    }

    // MARK: Judging

    /// Sentences are made only when somebody reads them: a mesh of 1,000 hosts has half a million pairs.
    private enum Passage {
        case open(() -> String)
        case shut(Obstacle, () -> String)

        var obstacle: Obstacle? { if case .shut(let obstacle, _) = self { obstacle } else { nil } }
        var reason: String {
            switch self {
            case .open(let reason), .shut(_, let reason): reason()
            }
        }
    }

    private func judge(_ a: Side, _ b: Side) -> (obstacle: Obstacle?, reason: () -> String) {
        for (side, other) in [(a, b), (b, a)] where hasBarriers {
            let way = (rendezvous == nil ? [] : side.known) + below(side.index, meeting: other.index)
            guard let barrier = path(way, from: side.endpoint).barrier else { continue }
            return (
                .barrier,
                {
                    "\(barrier.router) lets none of \(side.name)'s UDP through (udp = \"\(barrier.udp.rawValue)\")"
                }
            )
        }
        if let local = localAddress(a, b) ?? localAddress(b, a) { return (nil, local) }
        let way = passage(a, to: b)
        guard let obstacle = way.obstacle else { return (nil, { way.reason }) }
        let back = passage(b, to: a)
        guard let other = back.obstacle else { return (nil, { back.reason }) }
        return (
            obstacle == .behaviour ? other : obstacle,
            { way.reason == back.reason ? way.reason : "\(way.reason); \(back.reason)" }
        )
    }

    /// Whether a packet that `a` sends to the known endpoint of `b` arrives, once both have sent.
    private func passage(_ a: Side, to b: Side) -> Passage {
        if let fixed = fixedEndpoint(of: b, at: a), leads(fixed, to: b, from: a) {
            return .open { "\(fixed) always leads to \(b.name)" }
        }
        guard b.isPlain || (a.isRegistered && b.isRegistered) else {
            return .shut(rendezvous == nil ? .noRendezvous : .unregistered) {
                rendezvous == nil
                    ? "nobody tells \(a.name) where \(b.name) is: there is no rendezvous"
                    : "\((a.isRegistered ? b : a).name) does not reach the rendezvous, which is behind a NAT"
            }
        }
        // Where a's packet leaves its own NATs: below the NAT that has b's endpoint, or in it when a is behind it too.
        let way = ways[a.index]
        let outermost = b.translators.last
        let sent: ArraySlice<Int>
        if let outermost, let end = way.firstIndex(of: outermost) {
            guard nodes[outermost].nat?.behaviour.hairpin == true else {
                // The same words for both directions.
                let (first, second) = a.index < b.index ? (a.name, b.name) : (b.name, a.name)
                return .shut(.noHairpin(nodes[outermost].name)) {
                    "\(first) and \(second) are both behind \(nodes[outermost].name), which does not hairpin"
                }
            }
            sent = way[...end]
        } else {
            let realm = realm(ways[outermost ?? b.index])
            guard let end = way.firstIndex(where: { realm.contains($0) }) else {
                return .shut(.behaviour) {
                    "the endpoint by which \(b.name) is known lies behind \(nodes[realm[0]].name), where \(a.name) is not"
                }
            }
            sent = way[..<end]
        }
        return admission(
            a, translators(sent), path(sent, from: a.endpoint), to: b, b.inbound)
    }

    /// Whether the NATs in front of `b` let in what comes from `a`'s.
    private func admission(
        _ a: Side, _ sent: [Int], _ outbound: NATPath, to b: Side, _ inbound: NATPath
    ) -> Passage {
        guard let filter = inbound.filter, inbound.filtering != .endpointIndependent else {
            return .open {
                guard let last = inbound.hops.last else { return "no NAT is in front of \(b.name)" }
                return
                    "\(last.router) lets in whoever sends to \(b.name)'s external endpoint (endpoint-independent filtering)"
            }
        }
        let filters = "\(filter.router) filters (\(filter.filtering.rawValue))"
        if inbound.mapping != .endpointIndependent, let mapper = inbound.mapper {
            return .shut(.behaviour) {
                "\(filters), and what \(b.name) sends to \(a.name) opens another port than the one that \(a.name) knows"
                    + " (\(mapper.router): \(mapper.mapping.rawValue) mapping)"
            }
        }
        // A mapping that is the same towards everybody has one address, however that was chosen.
        guard a.translators == sent, outbound.mapping == .endpointIndependent || hasOneAddress(a, sent) else {
            return .shut(.behaviour) {
                "\(filters), and \(a.name)'s packets come from another address than the one that \(b.name) knows"
            }
        }
        if filter.filtering == .addressDependent {
            return .open {
                "\(filter.router) lets in every port of an address that \(b.name) has sent to (address-dependent filtering)"
            }
        }
        if outbound.mapping != .endpointIndependent, let mapper = outbound.mapper {
            return .shut(.behaviour) {
                "\(filters), and \(a.name) sends to \(b.name) from another port than the one that \(b.name) knows"
                    + " (\(mapper.router): \(mapper.mapping.rawValue) mapping)"
            }
        }
        return .open {
            "both have one external endpoint towards everybody (endpoint-independent mapping), and each sends to the other's"
        }
    }

    private func fixedEndpoint(of b: Side, at a: Side) -> Endpoint? {
        guard hasFixedEndpoints else { return nil }
        return tunnels["\(a.name).\(a.interface)"]?.peers.first { $0.host == b.name }?.endpoint
    }

    /// Whether the NATs give a host one external address, whoever it sends to.
    private func hasOneAddress(_ side: Side, _ sent: [Int]) -> Bool {
        guard let last = sent.last, let nat = nodes[last].nat else { return true }
        return external(of: side, at: last) != nil || nat.externals.count == 1
    }

    /// The external address at a NAT on the side's way, as the NAT before it makes it come.
    private func external(of side: Side, at router: Int) -> IPAddress? {
        var inner: IPAddress? = side.endpoint.address
        var port: UInt16? = side.endpoint.port
        for node in ways[side.index] where node >= 0 {
            guard let nat = nodes[node].nat else { continue }
            inner = nat.external(for: inner, port: port)
            // Behind the first NAT the port is no longer the host's own.
            port = nil
            if node == router { return inner }
        }
        return nil
    }

    /// Hosts that the rendezvous sees at one external address are told each other's local addresses.
    private func localAddress(_ a: Side, _ b: Side) -> (() -> String)? {
        guard rendezvous != nil, let outermost = a.translators.last,
            b.translators.last == outermost,
            let address = external(of: a, at: outermost), external(of: b, at: outermost) == address,
            translators(below(b.index, meeting: a.index)).isEmpty
        else { return nil }
        return {
            "both are behind \(nodes[outermost].name), and \(a.name) reaches \(b.name)'s own address inside"
        }
    }

    /// Whether an endpoint that a user has written down leads from one host to another: its own, or a forward or 1:1
    /// address of its NAT.
    private func leads(_ endpoint: Endpoint, to side: Side, from other: Side) -> Bool {
        if endpoint == side.endpoint { return translators(below(side.index, meeting: other.index)).isEmpty }
        guard let first = translators(ways[side.index]).first, let nat = nodes[first].nat else {
            return false
        }
        let isForward = nat.forwards.contains {
            $0.transport == .udp && $0.external == endpoint && $0.inner == side.endpoint
        }
        let isOwn = nat.oneToOne.contains {
            $0.external == endpoint.address && $0.inner == side.endpoint.address
        }
        guard isForward || (isOwn && endpoint.port == side.endpoint.port) else { return false }
        if ways[other.index].contains(first) { return nat.behaviour.hairpin }
        return realm(ways[first]).contains { ways[other.index].contains($0) }
    }
}
