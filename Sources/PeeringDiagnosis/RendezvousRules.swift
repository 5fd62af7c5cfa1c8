import LabAgent
import LabPlanner
import NetAddress
import PathTrace
import RendezvousProtocol
import WireGuardControl
import WireGuardKeys

// Whether each client gets from the rendezvous what it needs.
extension DiagnosisJudge {
    func rendezvousFindings() -> [Finding] {
        guard let rendezvous = evidence.rendezvous else { return [] }
        var findings: [Finding] = []
        for side in [evidence.from, evidence.to] {
            findings += contact(side, rendezvous)
        }
        // Who does not get through cannot be known there: that is said already.
        guard findings.isEmpty else { return findings }
        for (side, other) in evidence.sides {
            guard let peer = side.word(of: other),
                peer.phase == .unknownToServer || peer.phase == .endpointRefused
            else { continue }
            if peer.phase == .endpointRefused {
                findings.append(
                    Finding(
                        .throughTunnel, at: other.host,
                        "the rendezvous has an address inside the tunnel for \(other.host)"
                            + " (\(peer.resolved?.description ?? "?")): \(other.host) reaches it through the tunnel",
                        mend: "reach the rendezvous at an address outside the tunnel"))
                continue
            }
            let state = other.client.map { "its client \(whatItDoes($0.says))" } ?? "no client runs for it"
            findings.append(
                Finding(
                    .unknownKey, at: other.host,
                    "the rendezvous does not know \(other.host)'s key \(short(peer.publicKey)): \(state)",
                    mend: "start a client with that key at \(other.host)"))
        }
        return findings
    }

    private func whatItDoes(_ says: String) -> String { says.hasPrefix("starts ") ? says : "says: \(says)" }

    /// Why a client is not served.
    private func contact(_ side: PairEvidence.Side, _ rendezvous: PairEvidence.Rendezvous) -> [Finding] {
        guard let client = side.client, client.standing != .registered, client.standing != .interfaceFailed
        else {
            return []
        }
        let endpoint = client.server ?? rendezvous.endpoint
        if client.standing == .insideTunnel || side.serverInterface == side.tunnel.interface {
            // The client refuses what its tunnel takes in even where the route leads elsewhere.
            return [
                Finding(
                    .throughTunnel, at: side.host,
                    "\(side.host) would reach the rendezvous \(endpoint) through the tunnel (\(side.tunnel.interface)) that"
                        + " it is to help to set up, and be known there by \(side.address), its address inside",
                    mend: wayOutside(endpoint, side, rendezvous))
            ]
        }
        // Its packets do not even leave; what has left before says nothing of now.
        if client.standing == .socketError {
            return [
                Finding(
                    .rendezvousUnreachable, at: side.host,
                    "\(side.host) cannot send to the rendezvous \(endpoint): \(client.says)",
                    mend: "see natlab exec \(side.host) -- ip route get \(endpoint.address)")
            ]
        }
        // It has not had the time.
        if client.standing == .starting, client.counters.handshakesSent == 0 { return [] }
        let journey = finder.rendezvousJourney(side, rendezvous, back: false)
        let refusal = refusals(side, rendezvous)
        if let server = rendezvous.server, client.serverKey != server.publicKey {
            return [
                Finding(
                    .wrongServerKey, at: side.host,
                    "\(side.host)'s client takes \(short(client.serverKey)) for the rendezvous' key, which is"
                        + " \(short(server.publicKey))\(refusal)",
                    mend: "give it the server's key \(server.publicKey.base64)")
            ]
        }
        if journey.arrived > 0 {
            return answering(side, rendezvous, endpoint, refusal).map { [$0] } ?? []
        }
        guard let loss = journey.loss else {
            return [
                Finding(
                    .rendezvousUnreachable, at: side.host,
                    "\(side.host) sends nothing to the rendezvous \(endpoint): \(client.says)")
            ]
        }
        if let finding = notSentOn(loss) { return [finding] }
        return [unreachable(side, rendezvous, endpoint, loss)]
    }

    private func wayOutside(
        _ endpoint: Endpoint, _ side: PairEvidence.Side, _ rendezvous: PairEvidence.Rendezvous
    ) -> String {
        let addresses = map.addresses(of: rendezvous.host)
        if addresses.contains(endpoint.address) {
            return "keep \(endpoint.address) out of \(side.host)'s allowed IPs"
        }
        // Behind a router its own address may lead nowhere.
        guard rendezvous.way.count == 2, let address = addresses.first else {
            return "ask the rendezvous at an address outside the tunnel, and keep that out of the allowed IPs"
        }
        return
            "ask the rendezvous at \(Endpoint(address, port: rendezvous.port)), outside the tunnel, and keep that"
            + " address out of the allowed IPs"
    }

    /// What comes to the rendezvous' host and is not answered, or the answers get lost.
    private func answering(
        _ side: PairEvidence.Side, _ rendezvous: PairEvidence.Rendezvous, _ endpoint: Endpoint,
        _ refusal: String
    ) -> Finding? {
        let isClosed = evidence.icmpErrors.contains {
            $0.type == 3 && $0.code == 3 && $0.destination.port == endpoint.port
                && $0.point.node == rendezvous.host
        }
        if isClosed || endpoint.port != rendezvous.port {
            let answer = isClosed ? " (ICMP port unreachable comes back)" : ""
            return Finding(
                .rendezvousDown, at: rendezvous.host,
                "nobody listens at \(endpoint) on \(rendezvous.host), where \(side.host)'s client looks for the"
                    + " rendezvous\(answer); the lab's listens on port \(rendezvous.port)",
                mend: "use port \(rendezvous.port)")
        }
        let back = finder.rendezvousJourney(side, rendezvous, back: true)
        if let loss = back.loss {
            let isAtSide = side.routers.contains(loss.node) || loss.node == side.host
            if isAtSide, loss.rule != nil, !isAimed(loss, at: endpoint) {
                return Finding(
                    .droppedInbound, at: loss.node,
                    "\(loss.node == side.host ? "\(side.host)'s own firewall drops what comes in" : "\(loss.node) drops what comes for \(side.host)"), the rendezvous' answers too\(ruleText(loss))",
                    mend: "let that in at \(loss.node)")
            }
            return Finding(
                .rendezvousUnreachable, at: loss.node,
                "what the rendezvous answers \(side.host) gets lost at \(loss.node)\(ruleText(loss))")
        }
        // It has only just begun.
        if back.arrived > 0, side.client?.standing == .contacting { return nil }
        return Finding(
            .rendezvousDown, at: rendezvous.host,
            "the rendezvous at \(endpoint) gets what \(side.host)'s client sends and does not answer\(refusal)"
        )
    }

    private func unreachable(
        _ side: PairEvidence.Side, _ rendezvous: PairEvidence.Rendezvous, _ endpoint: Endpoint,
        _ loss: Journey.Loss
    ) -> Finding {
        // A rule that does not ask where a packet goes stops all of the host's UDP.
        if side.routers.contains(loss.node), !loss.lastSeen.isOutgoing, !isAimed(loss, at: endpoint) {
            return Finding(
                .droppedOutbound, at: loss.node,
                "\(loss.node) lets none of \(side.host)'s UDP out\(ruleText(loss))",
                mend: "let UDP out at \(loss.node)")
        }
        return Finding(
            .rendezvousUnreachable, at: loss.node,
            "what \(side.host)'s client sends to the rendezvous \(endpoint) gets lost at \(loss.node)"
                + ruleText(loss),
            mend: "let UDP to \(endpoint) pass at \(loss.node)")
    }

    /// Whether a rule is about this endpoint, and not about everything; no rule is about nothing else.
    private func isAimed(_ loss: Journey.Loss, at endpoint: Endpoint) -> Bool {
        guard let rule = loss.rule else { return true }
        return rule.contains("port \(endpoint.port)") || rule.contains("\(endpoint.address)")
    }

    func ruleText(_ loss: Journey.Loss) -> String { loss.rule.map { " (dropped by \($0))" } ?? "" }

    /// What the server refused from one of the side's own external addresses.
    private func refusals(_ side: PairEvidence.Side, _ rendezvous: PairEvidence.Rendezvous) -> String {
        let own = finder.outermost(side)
        let hits = (rendezvous.server?.refusals ?? []).filter { own.contains($0.source.address) }
        guard let last = hits.max(by: { $0.last < $1.last }) else { return "" }
        return "; it refused \(last.count) datagrams from \(last.source) (\(last.reason.rawValue))"
    }
}
