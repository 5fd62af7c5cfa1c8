import NetAddress
package import TopologyModel

/// What theory says of a topology that its file does not seem to mean, in the order of the file; it may mean it, so it is no
/// error.
package func theoryWarnings(_ topology: Topology, fileName: String) -> [Diagnostic] {
    guard !topology.networks.isEmpty else { return [] }
    let warnings = TheoryWarnings(topology, fileName)
    // Hosts that are peers in several networks have the same said of them, once.
    var seen: Set<Diagnostic> = []
    return
        (topology.networks.flatMap(warnings.warnings) + warnings.takenPorts()
        + warnings.sharedPorts()).filter {
            seen.insert($0).inserted
        }.sorted { $0.span.start < $1.span.start }
}

/// Warns once of all pairs that one cause keeps from each other: a mesh of 1,000 hosts has half a million pairs.
private struct TheoryWarnings {
    /// Pairs with one thing to say of them.
    private struct Group {
        var first: Topology.MemberPair
        var count: Int
        /// There may be more of them.
        var isAll = true
    }

    /// What pairs have in common: the warning that tells of them.
    private enum Cause: Hashable {
        case noRendezvous
        case noHairpin(String)
        case behaviour
        /// The expectation of all other pairs says otherwise.
        case contradiction
    }

    /// More of a network's pairs are not looked at: a mesh of 1,448 hosts has as many.
    private static let pairLimit = 1 << 20

    private let topology: Topology
    private let fileName: String
    private let nodes: [PlannedNode]
    private let byName: [String: PlannedNode]
    private let tunnels: [PlannedTunnel]
    private let rendezvous: PlannedRendezvous?
    private let theory: TraversalTheory
    /// Of the pairs that no other expectation names.
    private let others: Topology.Expectation?

    init(_ topology: Topology, _ fileName: String) {
        self.topology = topology
        self.fileName = fileName
        let underlay = Underlay(topology)
        let planner = TunnelPlanner(topology, underlay, onlyPeersOfTheFile: true)
        nodes = NetworkPlanner(underlay, hubs: []).nodes()
        byName = Dictionary(nodes.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        tunnels = planner.tunnels.map(\.planned)
        rendezvous = planner.rendezvous()
        theory = TraversalTheory(nodes: nodes, tunnels: tunnels, rendezvous: rendezvous)
        others = topology.expectations.first { $0.between.isEmpty }
    }

    private func warning(
        _ message: String, at span: SourceSpan, hint: String? = nil, notes: [Diagnostic.Note] = []
    ) -> Diagnostic {
        Diagnostic(.warning, message, file: fileName, at: span, hint: hint, notes: notes)
    }

    // MARK: Pairs

    func warnings(of network: Topology.WireGuardNetwork) -> [Diagnostic] {
        let named = named(network)
        let obstacles = theory.obstacles(among: network.members.map(\.host), interface: network.name)
        let arePeers = network.peerTest()
        var warnings = named.filter { arePeers($0.key.first, $0.key.second) }.flatMap { pair, expectation in
            contradiction(expectation, pair, network, obstacles(pair.first, pair.second))
        }
        var causes: [Cause] = []
        var groups: [Cause: Group] = [:]
        let isAll = network.visitPairs(atMost: Self.pairLimit) { pair in
            guard named.isEmpty || named[pair] == nil, let cause = cause(obstacles(pair.first, pair.second))
            else { return }
            if groups[cause] == nil { causes.append(cause) }
            groups[cause, default: Group(first: pair, count: 0)].count += 1
        }
        for cause in causes {
            guard var group = groups[cause] else { continue }
            group.isAll = isAll
            warnings.append(text(cause, group, network))
        }
        return warnings
    }

    /// What the file says of single pairs.
    private func named(_ network: Topology.WireGuardNetwork) -> [Topology.MemberPair: Topology.Expectation] {
        guard topology.expectations.contains(where: { !$0.between.isEmpty }) else { return [:] }
        let numbers = Dictionary(
            network.members.enumerated().map { ($0.element.host, $0.offset) },
            uniquingKeysWith: { first, _ in first })
        let pairs = topology.expectations.compactMap { expectation in
            expectation.pair(numbers).map { ($0, expectation) }
        }
        return Dictionary(pairs, uniquingKeysWith: { first, _ in first })
    }

    private func contradiction(
        _ expectation: Topology.Expectation, _ pair: Topology.MemberPair,
        _ network: Topology.WireGuardNetwork,
        _ obstacle: TraversalTheory.Obstacle?
    ) -> [Diagnostic] {
        guard contradicts(expectation.path, obstacle) else { return [] }
        return [told(Group(first: pair, count: 1), network, obstacle, at: expectation.span)]
    }

    private func contradicts(_ path: Topology.Path, _ obstacle: TraversalTheory.Obstacle?) -> Bool {
        switch path {
        case .direct: obstacle != nil
        case .none: obstacle == nil
        case .theory: false
        }
    }

    private func told(
        _ group: Group, _ network: Topology.WireGuardNetwork, _ obstacle: TraversalTheory.Obstacle?,
        at span: SourceSpan
    ) -> Diagnostic {
        let can = obstacle == nil ? "reach each other" : "cannot reach each other directly"
        let more = obstacle == nil ? "so do" : "nor can"
        return warning(
            "by theory \(names(group.first, network)) \(can): \(reason(group.first, network))"
                + self.more(group, network, more),
            at: span, hint: "without an [[expect]] natlab expects what theory says")
    }

    /// What is to be said of a pair that the file does not name; nil for nothing.
    private func cause(_ obstacle: TraversalTheory.Obstacle?) -> Cause? {
        if let others { return contradicts(others.path, obstacle) ? .contradiction : nil }
        switch obstacle {
        case .noRendezvous: return .noRendezvous
        case .noHairpin(let router): return .noHairpin(router)
        case .behaviour: return .behaviour
        // A file that lets no UDP through says so, and a rendezvous behind a NAT has a warning of its own.
        case .barrier, .unregistered, nil: return nil
        }
    }

    private func text(_ cause: Cause, _ group: Group, _ network: Topology.WireGuardNetwork) -> Diagnostic {
        let pair = group.first
        let names = names(pair, network)
        switch cause {
        case .contradiction:
            let expected = others?.path
            return told(
                group, network, expected == .direct ? .behaviour : nil, at: others?.span ?? network.span)
        case .noRendezvous:
            return warning(
                "\(names) are behind NATs, and nobody tells either where the other is: there is no [rendezvous], and no "
                    + "`endpoint` leads to one of them" + more(group, network, "the same holds for"),
                at: network.span,
                hint:
                    "add a [rendezvous] on a segment, or a `forward` to one of them and that `endpoint` to the other"
            )
        case .noHairpin(let router):
            let span = topology.routers.first { $0.name == router }?.natSpan ?? network.span
            let members = [network.members[pair.first].host, network.members[pair.second].host]
            let lans = Set(members.map { byName[$0]?.uplink })
            return warning(
                "\(names) are both behind `\(router)`, which does not hairpin\(lans.count > 1 ? ", in different LANs" : ""): "
                    + "by theory they cannot reach each other directly" + more(group, network, "nor can"),
                at: span,
                hint: "a NAT with hairpin = true sends back inside what is for its own external address; "
                    + meant(group, network))
        case .behaviour:
            return warning(
                "by theory \(names) cannot reach each other directly: \(reason(pair, network))"
                    + more(group, network, "nor can"), at: network.span, hint: meant(group, network))
        }
    }

    private func names(_ pair: Topology.MemberPair, _ network: Topology.WireGuardNetwork) -> String {
        "`\(network.members[pair.first].host)` and `\(network.members[pair.second].host)`"
    }

    private func reason(_ pair: Topology.MemberPair, _ network: Topology.WireGuardNetwork) -> String {
        theory.verdict(
            network.members[pair.first].host, network.members[pair.second].host, interface: network.name
        ).reason
    }

    /// "; nor can 3 more pairs of wg0".
    private func more(_ group: Group, _ network: Topology.WireGuardNetwork, _ verb: String) -> String {
        let others = group.count - 1
        guard others > 0 else { return "" }
        return
            "; \(verb) \(group.isAll ? "" : "at least ")\(others) more pair\(others == 1 ? "" : "s") of \(network.name)"
    }

    private func meant(_ group: Group, _ network: Topology.WireGuardNetwork) -> String {
        let (a, b) = (network.members[group.first.first].host, network.members[group.first.second].host)
        return "if it is meant so, add [[expect]] with "
            + (group.count == 1
                ? "between = [\"\(a)\", \"\(b)\"] and path = \"none\""
                : "between = \"*\" and path = \"theory\"")
    }

    // MARK: Ports

    /// Ports that MASQUERADE gives to one host although a forward has them for another.
    ///
    /// Two hosts with one source port do no harm by themselves: whoever is second gets another port, and Linux gives it the
    /// same one towards everybody else (net/netfilter/nf_nat_core.c, find_appropriate_src). But what comes in at a forward's
    /// port from a remote that the other host has not sent to yet goes to the forward's host, and from then on the other
    /// one's packets to that remote leave by another port than the one that the remote knows.
    func takenPorts() -> [Diagnostic] {
        topology.routers.flatMap { router -> [Diagnostic] in
            let forwards = router.forwards.filter { $0.transport == .udp }
            guard router.nat.engine == .masquerade, !forwards.isEmpty,
                let nat = byName[router.name]?.translation
            else { return [] }
            let ports = Set(forwards.map(\.port))
            let senders = tunnels.filter { tunnel in
                ports.contains(tunnel.listenPort) && keepsPort(tunnel, at: router.name)
                    && !nat.oneToOne.contains { $0.host == tunnel.host }
            }
            guard !senders.isEmpty else { return [] }
            let lost = lostPeers(withPortsOf: router.name)
            return forwards.compactMap { forward in
                for tunnel in senders where tunnel.listenPort == forward.port && tunnel.host != forward.host {
                    if let peer = lost(tunnel) { return takenPort(forward, router, tunnel, peer) }
                }
                return nil
            }
        }
    }

    private func takenPort(
        _ forward: Topology.Forward, _ router: Topology.Router, _ tunnel: PlannedTunnel, _ peer: String
    ) -> Diagnostic {
        warning(
            "port \(forward.port) of `\(router.name)` leads to `\(forward.host)`, but MASQUERADE gives it to "
                + "`\(tunnel.host)` too, which sends from it: if `\(peer)` sends there first, its packets go to "
                + "`\(forward.host)`, and `\(tunnel.host)` gets another port than the one that `\(peer)` knows",
            at: forward.span,
            hint: "give [host.\(tunnel.host).wireguard.\(tunnel.interface)] a listen-port of its own")
    }

    /// Hosts that share a source port behind MASQUERADE and begin with different remotes.
    ///
    /// Each has the port then, until their remotes cross; one gets another port towards those, and has two external endpoints
    /// from there on: which of them a third remote sees is not declared anywhere (find_appropriate_src takes any that is
    /// free).
    func sharedPorts() -> [Diagnostic] {
        let firstRemotes = firstRemotes()
        return topology.routers.compactMap { router in
            guard router.nat.engine == .masquerade, let nat = byName[router.name]?.translation else {
                return nil
            }
            let senders = tunnels.filter { tunnel in
                tunnel.listenPort != 0 && keepsPort(tunnel, at: router.name)
                    && !nat.oneToOne.contains { $0.host == tunnel.host }
            }
            for (number, one) in senders.enumerated() {
                guard let first = firstRemotes(one),
                    let other = senders[..<number].first(where: { other in
                        other.host != one.host && other.listenPort == one.listenPort
                            && firstRemotes(other).map { $0 != first } ?? false
                    })
                else { continue }
                let lost = lostPeers(withPortsOf: router.name)
                guard
                    let (tunnel, peer) = [other, one].lazy.compactMap({ tunnel in
                        lost(tunnel).map { (tunnel, $0) }
                    })
                    .first
                else { continue }
                return warning(
                    "`\(other.host)` and `\(one.host)` both send from port \(one.listenPort) through `\(router.name)`, and begin "
                        + "with different hosts: MASQUERADE then gives one of them two external ports, and `\(peer)` may know "
                        + "`\(tunnel.host)` by the wrong one",
                    at: router.natSpan,
                    hint:
                        "give them different listen-ports, or `\(router.name)` a NAT whose ports are exclusive, such as "
                        + "\"port-restricted-cone\"")
            }
            return nil
        }
    }

    /// By tunnel: the hosts that it sends to as soon as it is up, which are known from the start; nil for none.
    private func firstRemotes() -> (PlannedTunnel) -> Set<String>? {
        let networks = topology.networks.map { network in
            (
                network, network.peerTest(),
                plain: network.members.indices.filter {
                    byName[network.members[$0].host]?.uplink.map { byName[$0]?.kind == .segment } ?? false
                }
            )
        }
        return { tunnel in
            guard let (network, arePeers, plain) = networks.first(where: { $0.0.name == tunnel.interface }),
                let own = network.members.firstIndex(where: { $0.host == tunnel.host })
            else { return nil }
            let known = plain.filter { arePeers(own, $0) }.map { network.members[$0].host }
            return known.isEmpty ? nil : Set(known)
        }
    }

    /// Whether the host's WireGuard port comes unchanged to the router, as far as other hosts leave it alone.
    private func keepsPort(_ tunnel: PlannedTunnel, at router: String) -> Bool {
        var next = byName[tunnel.host]?.uplink
        while let name = next, name != router {
            guard let node = byName[name] else { return false }
            if let nat = node.translation?.behaviour, nat.ports != .preserve { return false }
            next = node.uplink
        }
        return next == router
    }

    private func isBehind(_ host: String, _ router: String) -> Bool {
        var next = byName[host]?.uplink
        while let name = next, name != router { next = byName[name]?.uplink }
        return next == router
    }

    /// By tunnel: a peer outside that punches to it as long as the router gives it one external port, and not without.
    private func lostPeers(withPortsOf router: String) -> (PlannedTunnel) -> String? {
        let dependent = nodes.map { node in
            var node = node
            if node.name == router { node.translation?.behaviour.mapping = .addressAndPortDependent }
            return node
        }
        let changed = TraversalTheory(nodes: dependent, tunnels: tunnels, rendezvous: rendezvous)
        let networks = topology.networks.map { network in
            let hosts = network.members.map(\.host)
            return (
                network, named(network), arePeers: network.peerTest(),
                isOutside: hosts.map { !isBehind($0, router) },
                now: theory.obstacles(among: hosts, interface: network.name),
                then: changed.obstacles(among: hosts, interface: network.name)
            )
        }
        return { tunnel in
            guard
                let (network, named, arePeers, isOutside, now, then) = networks.first(where: {
                    $0.0.name == tunnel.interface
                }),
                let own = network.members.firstIndex(where: { $0.host == tunnel.host })
            else { return nil }
            let peer = network.members.indices.first { other in
                guard isOutside[other], arePeers(own, other) else { return false }
                let pair = Topology.MemberPair(own, other)
                guard (named[pair] ?? others)?.path != Topology.Path.none else { return false }
                return now(pair.first, pair.second) == nil && then(pair.first, pair.second) != nil
            }
            return peer.map { network.members[$0].host }
        }
    }
}

extension Topology.Expectation {
    /// The pair of members that it names; nil where it names others.
    fileprivate func pair(_ numbers: [String: Int]) -> Topology.MemberPair? {
        guard between.count == 2, let first = numbers[between[0]], let second = numbers[between[1]] else {
            return nil
        }
        return Topology.MemberPair(first, second)
    }
}
