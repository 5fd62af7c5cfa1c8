import LabPlanner
import LinuxLab
import NetAddress
import PathTrace
import PeeringCheck
import RendezvousProtocol
import TopologyModel
import WireGuardControl
import WireGuardKeys

// Where packets get lost between the hosts, and what the NATs did to them.
extension DiagnosisJudge {
    func wayFindings() -> [Finding] {
        zip(journeys, evidence.sides).flatMap { journey, sides in
            loss(of: journey, from: sides.side, to: sides.other)
        }
    }

    private func loss(of journey: Journey, from: PairEvidence.Side, to: PairEvidence.Side) -> [Finding] {
        guard let loss = journey.loss else {
            if journey.sent == 0, let finding = missingRoute(from: from, to: to) { return [finding] }
            guard journey.sent == 0,
                let drop = finder.dropBeforeLeaving(from, to: finder.endpoints(of: to, at: from))
            else { return [] }
            return [
                Finding(
                    .droppedOutbound, at: from.host,
                    "\(from.host)'s own firewall drops what it sends to \(drop.destination) (\(JourneyFinder.words(drop)))",
                    mend: "let UDP out at \(from.host)")
            ]
        }
        let seen = loss.lastSeen
        if let finding = notSentOn(loss) { return [finding] }
        if !seen.isOutgoing, from.routers.contains(loss.node), isFromInside(seen), isExplained(loss) {
            if isHairpin(loss, for: to) {
                // One that turns packets round filters them like those from outside.
                if turnsRound(loss.node), isNATs(loss) {
                    return filtered(seen, loss, from: from, to: to)
                }
                return [
                    Finding(
                        .hairpinMissing, at: loss.node,
                        "both are behind \(loss.node), and what \(from.host) sends to \(to.host)'s external endpoint"
                            + " \(seen.destination) there is not turned round (no hairpinning)",
                        mend: "give \(loss.node) a NAT with hairpin = true")
                ]
            }
            return [
                Finding(
                    .droppedOutbound, at: loss.node,
                    "\(loss.node) drops what \(from.host) sends to \(seen.destination)\(ruleText(loss))",
                    mend: "let UDP out at \(loss.node)")
            ]
        }
        if !seen.isOutgoing, to.routers.contains(loss.node) {
            if loss.rule != nil, !isNATs(loss) {
                return [
                    Finding(
                        .droppedInbound, at: loss.node,
                        "\(loss.node) drops what comes from \(from.host) for \(to.host) at \(seen.destination)\(ruleText(loss))",
                        mend: "let that in at \(loss.node)")
                ]
            }
            if map.addresses(of: loss.node).contains(seen.destination.address) {
                return filtered(seen, loss, from: from, to: to)
            }
        }
        if !seen.isOutgoing, loss.node == to.host || loss.node == from.host, loss.rule != nil {
            return [
                Finding(
                    loss.node == to.host ? .droppedInbound : .droppedOutbound, at: loss.node,
                    "\(loss.node)'s own firewall drops what \(from.host) sends to \(to.host)\(ruleText(loss))"
                )
            ]
        }
        let isNobodys = loss.node != seen.node && (!seen.isOutgoing || !map.isAnybodys(seen))
        return [
            Finding(
                .lost, at: loss.node,
                "what \(from.host) sends to \(seen.destination) was last seen at \(seen.interface) of \(seen.node)"
                    + (isNobodys ? ": nobody there has \(seen.destination.address)" : untraced(loss)))
        ]
    }

    /// What may have dropped a packet that did not go on.
    private func untraced(_ loss: Journey.Loss) -> String {
        evidence.untraced.contains(loss.node) && !loss.lastSeen.isOutgoing
            ? "; \(loss.node)'s firewall, which could not be traced, may have dropped it" : ""
    }

    /// Why a router sends nothing on, whatever a packet is: its forwarding is off, or it has no route.
    func notSentOn(_ loss: Journey.Loss) -> Finding? {
        let seen = loss.lastSeen
        guard loss.rule == nil, !seen.isOutgoing, loss.node == seen.node, map.kind(loss.node) == .router
        else {
            return nil
        }
        let link = evidence.links.first { $0.node == seen.node && $0.interface == seen.interface }
        if link?.forwards == false {
            let all = evidence.links.allSatisfy { $0.node != seen.node || $0.forwards == false }
            return Finding(
                .notForwarded, at: loss.node,
                all
                    ? "\(loss.node) does not forward (net.ipv4.ip_forward is 0)"
                    : "\(loss.node) does not forward what comes in at \(seen.interface)"
                        + " (net.ipv4.conf.\(seen.interface).forwarding is 0)",
                mend: "natlab exec \(loss.node) -- sysctl -w net.ipv4.ip_forward=1")
        }
        let inner = flows(seen.destination, at: loss.node).compactMap(\.mapping?.inner.address)
        let routes = evidence.missingRoutes[loss.node] ?? [:]
        for address in [seen.destination.address] + inner {
            if let reason = routes[address] { return missingRoute(at: loss.node, to: address, reason) }
        }
        return nil
    }

    /// What keeps a host's packets from leaving at all.
    private func missingRoute(from: PairEvidence.Side, to: PairEvidence.Side) -> Finding? {
        guard let endpoint = from.device?.peer(to.key)?.endpoint,
            let reason = evidence.missingRoutes[from.host]?[endpoint.address]
        else { return nil }
        return missingRoute(at: from.host, to: endpoint.address, reason)
    }

    private func missingRoute(at node: String, to address: IPAddress, _ reason: String) -> Finding {
        Finding(
            .noRoute, at: node, "\(node) has \(reason) to \(address)",
            mend: "see natlab exec \(node) -- ip route get \(address)")
    }

    /// Whether it is known what a router did with a packet: a rule dropped it, or it was the router's own.
    private func isExplained(_ loss: Journey.Loss) -> Bool {
        loss.rule != nil || map.addresses(of: loss.node).contains(loss.lastSeen.destination.address)
    }

    /// Whether a packet should have turned round in a router that both are behind.
    private func isHairpin(_ loss: Journey.Loss, for to: PairEvidence.Side) -> Bool {
        to.routers.contains(loss.node)
            && map.addresses(of: loss.node).contains(loss.lastSeen.destination.address)
    }

    private func turnsRound(_ router: String) -> Bool {
        evidence.router(router)?.nat?.behaviour.hairpin ?? false
    }

    /// Whether a packet came into a router from its LAN side.
    private func isFromInside(_ hop: Journey.Hop) -> Bool { hop.interface != "wan0" }

    /// Whether what dropped a packet is the NAT's own filtering: it lets in flows that it knows, and nothing else.
    private func isNATs(_ loss: Journey.Loss) -> Bool {
        guard let rule = loss.rule else { return true }
        if rule.contains("@seen") || rule.contains("@owner") { return true }
        // It asks for nothing that a user's own rule would be about.
        return rule.contains("wan0") && rule.contains("new")
            && !["saddr", "daddr", "sport", "dport"].contains { rule.contains($0) }
    }

    // MARK: NATs

    /// A NAT in front of `to` that lets a packet of `from` not in.
    private func filtered(
        _ seen: Journey.Hop, _ loss: Journey.Loss, from: PairEvidence.Side, to: PairEvidence.Side
    ) -> [Finding] {
        // What `to` sends arrives, and WireGuard answers to where it comes from: it is no filter that keeps them apart,
        // unless it stops what the mapping is for.
        let isForThem = flows(seen.destination, at: loss.node).contains { $0.mapping?.remote == seen.source }
        if !isForThem, journeys.contains(where: { $0.from == to.host && $0.arrived > 0 }) { return [] }
        var findings = stolen(at: from, remote: to) + stolen(at: to, remote: from)
        if findings.isEmpty { findings = symmetric(from, to) + symmetric(to, from) }
        if findings.isEmpty, flows(seen.destination, at: loss.node).isEmpty, !hasExpired(from, to) {
            findings.append(
                Finding(
                    .noMapping, at: loss.node,
                    "\(loss.node) has no mapping for \(seen.destination), where \(from.host) sends to: \(to.host) has opened none",
                    mend:
                        "let \(to.host) send first (keepalive, a rendezvous), or forward the port at \(loss.node)"
                ))
        }
        if findings.isEmpty, !hasExpired(from, to) {
            // No rule of a firewall that was traced has done it: only that much is known.
            let isLost =
                loss.rule == nil && !evidence.untraced.contains(loss.node)
                && flows(seen.destination, at: loss.node).contains {
                    $0.mapping?.remote == seen.source
                }
            findings.append(
                Finding(
                    isLost ? .lost : .droppedInbound, at: loss.node,
                    "\(loss.node) lets \(from.host)'s packets from \(seen.source) not in at \(seen.destination):"
                        + " \(allowed(seen.destination, at: loss.node, from: seen.source))\(untraced(loss))"))
        }
        return findings
    }

    private func flows(_ outer: Endpoint, at router: String) -> [PairEvidence.Flow] {
        guard let router = evidence.router(router) else { return [] }
        return router.after.filter { $0.mapping?.outer == outer }
    }

    private func allowed(_ outer: Endpoint, at router: String, from source: Endpoint) -> String {
        let remotes = flows(outer, at: router).compactMap { $0.mapping?.remote.description }
        if remotes.contains(source.description) {
            return "the mapping \(outer) is for them: something else there drops them"
        }
        return remotes.isEmpty
            ? "no mapping for \(outer)"
            : "the mapping \(outer) lets in \(Set(remotes).sorted().joined(separator: ", ")) only"
    }

    /// The endpoint by which the other side knows this one.
    private func known(_ side: PairEvidence.Side, to other: PairEvidence.Side) -> Endpoint? {
        let entry = evidence.rendezvous?.server?.entries.first { side.has($0.publicKey) }
        return entry?.endpoint ?? other.device?.peer(side.key)?.endpoint
    }

    /// A flow of the other side's packets that came first has the port, and the side's own got another.
    ///
    /// Without filtering of what comes to the router itself conntrack confirms the flow of such a packet; it then clashes
    /// with that of the hole about to be punched.
    private func stolen(at side: PairEvidence.Side, remote other: PairEvidence.Side) -> [Finding] {
        guard let known = known(side, to: other) else { return [] }
        for name in side.routers {
            guard let router = evidence.router(name) else { continue }
            let thief = (router.after + router.before).first { flow in
                flow.destination == known && flow.mapping == nil
                    && finder.outermost(other).contains(flow.source.address)
            }
            guard let thief else { continue }
            let own = router.after.compactMap(\.mapping).first {
                $0.remote == thief.source && $0.outer != known && $0.inner.port == side.device?.listenPort
            }
            guard let own else { continue }
            return [
                Finding(
                    .mappingStolen, at: name,
                    "a packet from \(thief.source) came to \(name) before \(side.host) had sent there, and its flow took the"
                        + " port of \(known): \(side.host) now comes from \(own.outer), which \(other.host) does not expect",
                    mend:
                        "drop unsolicited packets at \(name): iptables -A INPUT -i wan0 -m conntrack --ctstate NEW,INVALID -j DROP"
                )
            ]
        }
        return []
    }

    /// The side's mapping towards the other is another than the one it is known by.
    private func symmetric(_ side: PairEvidence.Side, _ other: PairEvidence.Side) -> [Finding] {
        guard let known = known(side, to: other), let outside = leaving(side, for: other),
            outside.source != known, let mapper = mapper(of: side)
        else { return [] }
        return [
            Finding(
                .symmetricNAT, at: mapper,
                "\(mapper) is symmetric: \(side.host) is known as \(known), but what it sends to \(other.host) comes from"
                    + " \(outside.source)",
                mend: "give \(mapper) endpoint-independent mapping, or the other side a NAT that filters less"
            )
        ]
    }

    /// How the side's packets leave its outermost router for the other's external address.
    private func leaving(_ side: PairEvidence.Side, for other: PairEvidence.Side) -> Sighting? {
        guard let outermost = side.routers.last else { return nil }
        let theirs = finder.outermost(other)
        for datagram in evidence.datagrams.reversed() where datagram.sightings.first?.point.node == side.host
        {
            guard
                let exit = datagram.sightings.last(where: {
                    $0.point.node == outermost && $0.isOutgoing && theirs.contains($0.destination.address)
                })
            else { continue }
            switch datagram.kind {
            case .rendezvousInit, .rendezvousLookup: continue
            default: break
            }
            return exit
        }
        return nil
    }

    /// The first router whose mapping depends on the destination: as it is declared to, or as its flows show.
    private func mapper(of side: PairEvidence.Side) -> String? {
        let routers = side.routers.compactMap { evidence.router($0) }
        let declared = routers.first {
            ($0.nat?.behaviour.mapping ?? .endpointIndependent) != .endpointIndependent
        }
        let shown = routers.first { router in
            let mappings = router.after.compactMap(\.mapping)
            return mappings.contains { one in
                mappings.contains {
                    $0.inner == one.inner && $0.outer != one.outer && $0.remote != one.remote
                }
            }
        }
        return (declared ?? shown)?.name
    }

    // MARK: Expiry

    /// Whether the pair had a session, and a NAT has since forgotten the mapping that it went through.
    private func hasExpired(_ from: PairEvidence.Side, _ to: PairEvidence.Side) -> Bool {
        expired(from, to) != nil || expired(to, from) != nil
    }

    func expiredMappings() -> [Finding] {
        evidence.sides.compactMap { expired($0, $1) }
    }

    /// `from` had a session with `to` over a mapping that was gone when the watch began.
    private func expired(_ from: PairEvidence.Side, _ to: PairEvidence.Side) -> Finding? {
        guard let peer = from.deviceBefore?.peer(to.key), peer.lastHandshake != nil,
            let endpoint = peer.endpoint,
            let alone = from.alone, alone.sent > 0, alone.answered == 0
        else { return nil }
        // From the outside inwards: a mapping leads to that of the next NAT.
        var place = endpoint
        for name in to.routers.reversed() where map.addresses(of: name).contains(place.address) {
            guard let router = evidence.router(name), let nat = router.nat else { continue }
            // What the topology opens does not expire.
            if nat.forwards.contains(where: { $0.external == place })
                || nat.oneToOne.contains(where: { $0.external == place.address })
            {
                return nil
            }
            if let mapping = router.before.compactMap(\.mapping).first(where: { $0.outer == place }) {
                place = mapping.inner
                continue
            }
            let keepalive = Int(to.device?.peer(from.key)?.persistentKeepalive ?? 0)
            // Without a word about it, the kernel's nf_conntrack_udp_timeout.
            let lifetime = Int(nat.behaviour.udpTimeout ?? 30)
            guard keepalive == 0 || keepalive >= lifetime else {
                return Finding(
                    .mappingExpired, at: name,
                    "\(name) has lost its mapping \(place) of \(to.host), though \(to.host)'s keepalive of \(keepalive) s"
                        + " comes within its \(lifetime) s: something has removed it, and what \(from.host) sends is dropped"
                        + " there\(healed(to))")
            }
            let idle = nat.behaviour.udpTimeout.map { " (after \($0) s without a packet)" } ?? ""
            let habit = keepalive == 0 ? "sends no keepalives" : "sends a keepalive only every \(keepalive) s"
            return Finding(
                .mappingExpired, at: name,
                "\(name)'s mapping \(place) of \(to.host) has expired\(idle), as \(to.host) \(habit): what \(from.host)"
                    + " sends is dropped there\(healed(to))",
                mend:
                    "give \(to.host) a keepalive for \(from.host) that is shorter than \(name)'s udp-timeout")
        }
        return nil
    }

    private func healed(_ side: PairEvidence.Side) -> String {
        evidence.verdict.observed == .direct
            ? "; \(side.host)'s own packets have opened it again just now" : ""
    }

    // MARK: In a few words

    /// Why a packet was lost, beside its place.
    func lossReason(_ loss: Journey.Loss) -> String {
        let seen = loss.lastSeen
        if loss.node != seen.node {
            return seen.isOutgoing && map.isAnybodys(seen)
                ? "it did not get there" : "nobody has \(seen.destination.address)"
        }
        if seen.isOutgoing { return "it did not get there" }
        switch notSentOn(loss)?.cause {
        case .notForwarded: return "it does not forward"
        case .noRoute: return "it has no route"
        default: break
        }
        if isFromInside(seen), !turnsRound(loss.node),
            map.addresses(of: loss.node).contains(seen.destination.address)
        {
            return "no hairpinning"
        }
        if loss.rule != nil, !isNATs(loss) || isFromInside(seen) { return "dropped by \(loss.rule ?? "")" }
        if map.addresses(of: loss.node).contains(seen.destination.address) {
            let known = flows(seen.destination, at: loss.node)
            return known.isEmpty
                ? "no mapping for \(seen.destination)"
                : "from \(seen.source): \(allowed(seen.destination, at: loss.node, from: seen.source))"
        }
        return "it was not sent on"
    }
}
