import NetAddress

// What is valid, and cannot do what it seems meant to do: the ways that packets for the tunnel take.
extension TopologyChecker {
    func warnOfTunnels() {
        warnOfRendezvousInTunnel()
        warnOfRendezvousForNobody()
        // What is not understood, or wrong anyway, is not warned of as well.
        let isSound = !report.hasErrors
        let isMeant = meantToFail()
        let chains = draft.hosts.indices.map { chain(from: .host($0)) }
        for host in draft.hosts.indices {
            for override in draft.hosts[host].overrides {
                var untold: [Located<IPPrefix>] = []
                for peer in override.peers {
                    untold += warn(of: peer, override, host)
                    if isSound { warnOfMissingAddress(peer, override, host, isMeant) }
                }
                if isSound { warnOfUnderlay(untold, override, host, chains) }
            }
        }
        warnOfKeepalives()
    }

    /// A client refuses a server that it would reach only by the tunnel which the server is to help to set up.
    private func warnOfRendezvousInTunnel() {
        guard let endpoint = draft.rendezvous?.endpoint,
            let network = draft.networks.first(where: {
                $0.prefix?.value.contains(endpoint.value.address) == true
            }),
            let prefix = network.prefix
        else { return }
        report.warning(
            "the rendezvous at \(endpoint.value) lies inside the tunnel \(network.name.value), which is up only after "
                + "it has served", at: endpoint.span,
            hint: "leave `endpoint` out: clients then reach the host at its own address",
            notes: [.init("\(prefix.value) is \(network.name.value)", at: prefix.span)])
    }

    /// What goes to an allowed IP goes into the tunnel, also what should carry the tunnel.
    ///
    /// - Returns: the allowed IPs that nothing was said of.
    private func warn(of peer: PeerDraft, _ override: OverrideDraft, _ host: Int) -> [Located<IPPrefix>] {
        var untold: [Located<IPPrefix>] = []
        let hostName = draft.hosts[host].name.value
        for allowed in peer.allowedIPs ?? [] {
            var isToldOf = false
            if let endpoint = peer.endpoint,
                isRouted(allowed.value, override, to: endpoint.value.address, from: host)
            {
                isToldOf = true
                report.warning(
                    "\(endpoint.value), the endpoint of `\(peer.peer.value)`, is one of its own allowed IPs: packets of "
                        + "the tunnel would go into the tunnel", at: endpoint.span,
                    hint: "leave it out of the allowed IPs",
                    notes: [.init("\(allowed.value) takes it in", at: allowed.span)])
            }
            if let server = rendezvousAddress, isInside(allowed.value, override, server, from: host) {
                isToldOf = true
                report.warning(
                    "\(allowed.value) takes in \(server), where the rendezvous is: `\(hostName)` would reach it only by "
                        + "the tunnel", at: allowed.span, hint: "leave it out of the allowed IPs")
            }
            if !isToldOf { untold.append(allowed) }
        }
        for (earlier, other) in pairs(peer, override) where earlier.value != other.value {
            report.warning(
                "\(other.value) of `\(peer.peer.value)` lies inside \(earlier.value), which `\(hostName)` has for another "
                    + "peer; the longer prefix wins", at: other.span,
                notes: [.init("the other one is here", at: earlier.span)])
        }
        return untold
    }

    /// Prefixes of earlier peers that take in one of this peer's.
    private func pairs(
        _ peer: PeerDraft, _ override: OverrideDraft
    ) -> [(Located<IPPrefix>, Located<IPPrefix>)] {
        let earlier = override.peers.prefix { $0.peer.span.start < peer.peer.span.start }
        return earlier.flatMap { other in
            (other.allowedIPs ?? []).flatMap { wide in
                (peer.allowedIPs ?? []).filter { wide.value.overlaps($0.value) && wide.value.length > 0 }.map
                { (wide, $0) }
            }
        }
    }

    /// Where the clients reach it, as far as the file says.
    private var rendezvousAddress: IPAddress? {
        guard let rendezvous = draft.rendezvous else { return nil }
        if let endpoint = rendezvous.endpoint { return endpoint.value.address }
        guard let name = rendezvous.host, case .host(let host) = nodes[name.value] else { return nil }
        return draft.hosts[host].address?.value
    }

    // MARK: The underlay

    /// Whether packets of the host for that prefix are routed into the tunnel.
    ///
    /// Of all traffic the tunnel's own packets are kept outside by a mark, as wg-quick(8) does it; a table of another
    /// number than those of ip-rule(8)'s default rules is looked up by nobody.
    func isRouted(_ allowed: IPPrefix, _ override: OverrideDraft) -> Bool {
        switch override.table ?? .auto {
        case .auto: allowed != .allIPv4
        case .off: false
        case .number(let table): (253...255).contains(table)
        }
    }

    /// Whether the host's packets for the address go into the tunnel by that prefix: of two routes the longer one wins.
    private func isRouted(
        _ allowed: IPPrefix, _ override: OverrideDraft, to address: IPAddress, from host: Int
    )
        -> Bool
    {
        // An address of its own the host never routes.
        guard isRouted(allowed, override), allowed.contains(address),
            draft.hosts[host].address?.value != address
        else { return false }
        guard let own = attachments[host].flatMap(prefix)?.value, own.contains(address) else { return true }
        return allowed.length > own.length
    }

    /// The same for an address that the host's client is to use.
    ///
    /// Clients refuse what an allowed IP takes in, however it is routed; but not for all traffic or half of it.
    private func isInside(
        _ allowed: IPPrefix, _ override: OverrideDraft, _ address: IPAddress, from host: Int
    )
        -> Bool
    {
        if isRouted(allowed, override, to: address, from: host) { return true }
        return draft.rendezvous != nil && allowed.length > 1 && allowed.contains(address)
            && draft.hosts[host].address?.value != address
    }

    /// Where a host reaches a peer: the first network that both are in or behind, and the address there where the file
    /// gives it; all segments are one network.
    private struct Place: Hashable {
        var network: NodeReference
        var address: IPAddress?
        /// The peer is behind some NAT, so that it has to be found there first.
        var isPunched: Bool
    }

    /// Packets of a tunnel that would go into the tunnel: those for the places where the host's peers are.
    private func warnOfUnderlay(
        _ candidates: [Located<IPPrefix>], _ override: OverrideDraft, _ host: Int, _ chains: [[NodeReference]]
    ) {
        // No network on the way out overlaps a tunnel's own.
        let tunnels = (memberships[host] ?? []).compactMap { draft.networks[$0.network].prefix?.value }
        let candidates = candidates.filter { allowed in !tunnels.contains { $0.contains(allowed.value) } }
        guard !candidates.isEmpty else { return }
        var seen: Set<Place> = []
        var places: [(Place, peer: Int)] = []
        for (index, number) in memberships[host] ?? [] {
            for (other, peer) in networks[index].hosts.enumerated()
            where networks[index].arePeers(number, other) {
                if let place = place(of: chains[peer], peer, from: chains[host]), seen.insert(place).inserted
                {
                    places.append((place, peer))
                }
            }
        }
        for allowed in candidates {
            let taken = places.first { isTaken($0.0, by: allowed.value, override, host) }
            guard let (place, peer) = taken else { continue }
            let what = place.address.map { "\($0)" } ?? networkName(of: place.network)
            let isRouted = address(of: place, in: allowed.value).map {
                self.isRouted(allowed.value, override, to: $0, from: host)
            }
            report.warning(
                "\(allowed.value) takes in \(what), where `\(draft.hosts[host].name.value)` is to reach "
                    + "`\(draft.hosts[peer].name.value)`: "
                    + (isRouted == true
                        ? "packets of the tunnel would go into the tunnel"
                        : "its client refuses what is inside the tunnel"),
                at: allowed.span,
                hint:
                    "leave it out of the allowed IPs; of \"0.0.0.0/0\" the tunnel's own packets are kept outside",
                notes: prefixNote(of: place.network))
        }
    }

    private func place(of theirs: [NodeReference], _ peer: Int, from way: [NodeReference]) -> Place? {
        guard
            let end = theirs.firstIndex(where: { node in
                if case .segment = node { true } else { way.contains(node) }
            })
        else { return nil }
        func translates(_ node: NodeReference) -> Bool {
            if case .router(let index) = node { draft.routers[index].nat.translates } else { false }
        }
        let isPunched = theirs.contains(where: translates)
        guard case .router(let router) = theirs[..<end].last(where: translates) else {
            return Place(
                network: theirs[end], address: draft.hosts[peer].address?.value, isPunched: isPunched)
        }
        return Place(
            network: theirs[end], address: draft.routers[router].wan.first?.value, isPunched: isPunched)
    }

    /// The plan chooses the addresses that the file does not give: any of the network's.
    private func address(of place: Place, in allowed: IPPrefix) -> IPAddress? {
        if let address = place.address { return address }
        guard let network = prefix(of: place.network)?.value, allowed.contains(network) else { return nil }
        return network.host(2)
    }

    private func isTaken(_ place: Place, by allowed: IPPrefix, _ override: OverrideDraft, _ host: Int) -> Bool
    {
        guard let address = address(of: place, in: allowed) else { return false }
        return place.isPunched
            ? isInside(allowed, override, address, from: host)
            : isRouted(allowed, override, to: address, from: host)
    }

    /// What no allowed IP takes in is neither sent to a peer nor taken from it.
    private func warnOfMissingAddress(
        _ peer: PeerDraft, _ override: OverrideDraft, _ host: Int, _ isMeant: (Int, Int) -> Bool
    ) {
        guard let allowed = peer.allowedIPs,
            case .host(let other) = nodes[peer.peer.value],
            let index = draft.networks.firstIndex(where: { $0.name.value == override.network.value }),
            let number = networks[index].numbers[other],
            let address = draft.networks[index].prefix?.value.host(UInt64(number) + 1),
            !allowed.contains(where: { $0.value.contains(address) }), !isMeant(host, other)
        else { return }
        report.warning(
            "`\(draft.hosts[host].name.value)` sends nothing to `\(peer.peer.value)` at \(address) in "
                + "\(override.network.value), and takes nothing from there: its allowed IPs leave it out",
            at: allowed.first?.span ?? peer.peer.span, hint: "add \"\(address)\"")
    }

    /// Whether an expectation says that two hosts do not reach each other.
    private func meantToFail() -> (_ a: Int, _ b: Int) -> Bool {
        let expectations = draft.expectations.filter { $0.path?.value == Topology.Path.none }
        var pairs: Set<Set<String>> = []
        var isForOthers = false
        for expectation in expectations {
            switch expectation.between?.value {
            case .pair(let first, let second): pairs.insert([first.value, second.value])
            case .others: isForOthers = true
            case nil: break
            }
        }
        return { isForOthers || pairs.contains([draft.hosts[$0].name.value, draft.hosts[$1].name.value]) }
    }

    // MARK: Keepalives

    /// A mapping that runs out between two keepalives is no mapping in between.
    private func warnOfKeepalives() {
        var warned: Set<SourceSpan> = []
        func warn(_ keepalive: Located<UInt16>?, _ host: Int) {
            guard let keepalive, keepalive.value > 0, let (router, seconds) = shortestMapping(of: host),
                Int(keepalive.value) >= seconds, warned.insert(keepalive.span).inserted
            else { return }
            report.warning(
                "a keepalive of \(keepalive.value) s comes too late for `\(router.name.value)`, whose mappings live "
                    + "\(seconds) s", at: keepalive.span,
                hint: "make it at most \"\(max(1, seconds - 1))s\"",
                notes: router.natSpan.map { [.init("its NAT is described here", at: $0)] } ?? [])
        }
        for (index, network) in networks.enumerated() {
            for host in network.hosts { warn(draft.networks[index].keepalive, host) }
        }
        for host in draft.hosts.indices {
            for override in draft.hosts[host].overrides {
                for peer in override.peers { warn(peer.keepalive, host) }
            }
        }
    }

    /// The NAT on the host's way out that forgets first, and after how many seconds, where the file says so.
    private func shortestMapping(of host: Int) -> (RouterDraft, Int)? {
        chain(from: .host(host)).compactMap { node -> (RouterDraft, Int)? in
            guard case .router(let index) = node, let seconds = draft.routers[index].nat.behaviour?.udpTimeout
            else { return nil }
            return (draft.routers[index], seconds)
        }.min { $0.1 < $1.1 }
    }
}
