import LabAgent
import LabPlanner
import NetAddress
import PathTrace
import PeeringCheck
import RendezvousProtocol
import TopologyModel
import WireGuardControl
import WireGuardKeys

// What programs, links and configurations tell, whatever was sent.
extension DiagnosisJudge {
    func deadParts() -> [Finding] {
        var findings = evidence.sides.compactMap { side, _ in
            side.unreadable.map {
                Finding(
                    .wireGuardDead, at: side.host, $0,
                    mend: "see `natlab logs`, then build the lab anew: natlab down, natlab up")
            }
        }
        let needed = Set(
            evidence.from.way + evidence.to.way + (needsRendezvous ? evidence.rendezvous?.way ?? [] : []))
        findings += dark(evidence.links.filter { needed.contains($0.node) && isMeant($0) })
        if needsRendezvous, let failure = evidence.agentFailure {
            findings.append(
                Finding(
                    .agentDead, at: evidence.rendezvous?.host,
                    "the lab's agent, which runs the rendezvous and its clients, does not answer (\(failure))",
                    mend: "build the lab anew: natlab down, natlab up"))
        }
        return findings
    }

    /// Whether a link is on the underlay, or the pair's own tunnel: those of other networks do not matter.
    private func isMeant(_ link: PairEvidence.Link) -> Bool {
        map.isUnderlay(link.interface, of: link.node)
            || evidence.sides.contains {
                $0.side.host == link.node && $0.side.tunnel.interface == link.interface
            }
    }

    /// The links that carry nothing.
    ///
    /// One end of a veth that is down or gone takes the other's carrier, which is then no news.
    private func dark(_ links: [PairEvidence.Link]) -> [Finding] {
        let off = links.filter { !$0.isUp }
        return (off.isEmpty ? links.filter { !$0.hasCarrier } : off).map { link in
            let name = "\(link.interface) of \(link.node)"
            guard link.isThere else {
                return Finding(
                    .interfaceDown, at: link.node, "\(name) is gone",
                    mend: "build the lab anew: natlab down, natlab up")
            }
            return Finding(
                .interfaceDown, at: link.node, link.isUp ? "\(name) has no carrier" : "\(name) is down",
                mend: link.isUp ? nil : "natlab exec \(link.node) -- ip link set \(link.interface) up")
        }
    }

    // MARK: Keys

    func keys() -> [Finding] {
        let states = evidence.sides.map { listing(of: $1, at: $0) }
        var findings: [Finding] = []
        for (state, (side, other)) in zip(states, evidence.sides) {
            guard case .otherKey(let key) = state else { continue }
            findings.append(
                Finding(
                    .wrongPublicKey, at: side.host,
                    "\(side.host) has the public key \(short(key)) for \(other.host), whose key is \(short(other.key))",
                    mend: "give \(side.host) \(other.host)'s public key \(other.key.base64)"))
        }
        let lacking = zip(states, evidence.sides).filter { if case .missing = $0.0 { true } else { false } }
            .map(\.1)
        guard let first = lacking.first else { return findings }
        let text =
            lacking.count == 2
            ? "they are not each other's peers" + (commonPeer.map { " (each has only \($0))" } ?? "")
                + (evidence.rendezvous == nil ? "" : ", so neither asks the rendezvous for the other")
            : "\(first.other.host) is not a peer of \(first.side.host), though \(first.side.host) is one of \(first.other.host)"
        findings.append(
            Finding(
                .notMutualPeers, at: lacking.count == 2 ? nil : first.side.host, text,
                mend:
                    "list each other's public keys as peers on both sides (peers = \"mesh\" does it for all members)"
            ))
        return findings
    }

    private enum Listing {
        case listed, missing, unknown
        case otherKey(PublicKey)
    }

    private func listing(of other: PairEvidence.Side, at side: PairEvidence.Side) -> Listing {
        guard let device = side.device else { return .unknown }
        if device.peer(other.key) != nil { return .listed }
        // Its key has been changed, or the one that stands for it here is somebody else's.
        if device.peer(other.labKey) != nil { return .otherKey(other.labKey) }
        let strangers = device.peers.filter { evidence.hostsByKey[$0.publicKey] == nil }
        if let stand = strangers.first(where: { $0.allowedIPs.contains { $0.contains(other.address) } }) {
            return .otherKey(stand.publicKey)
        }
        return .missing
    }

    /// The one host that both have as their only peer.
    private var commonPeer: String? {
        let peers = evidence.sides.map { Set(($0.side.device?.peers ?? []).map(\.publicKey)) }
        guard peers[0] == peers[1], peers[0].count == 1 else { return nil }
        return peers[0].first.flatMap { evidence.hostsByKey[$0] }
    }

    func short(_ key: PublicKey) -> String { String(key.base64.prefix(15)) }

    // MARK: Cryptokey routing

    func cryptokeyRouting() -> [Finding] {
        evidence.sides.flatMap { side, other -> [Finding] in
            guard let device = side.device, let peer = device.peer(other.key) else { return [] }
            let taker = Self.taker(of: other.address, among: device.peers)
            if taker?.publicKey == other.key { return [] }
            let list = peer.allowedIPs.map(\.description).joined(separator: ", ")
            let mend =
                "natlab exec \(side.host) -- wg set \(side.tunnel.interface) peer \(other.key.base64) allowed-ips"
                + " \((peer.allowedIPs.map(\.description) + ["\(other.address)/\(other.address.isV4 ? 32 : 128)"]).joined(separator: ","))"
            guard let taker else {
                return [
                    Finding(
                        .allowedIPs, at: side.host,
                        "\(side.host)'s allowed IPs of \(other.host) (\(list.isEmpty ? "none" : list)) exclude its address"
                            + " \(other.address)", mend: mend)
                ]
            }
            let owner = evidence.hostsByKey[taker.publicKey] ?? short(taker.publicKey)
            return [
                Finding(
                    .allowedIPs, at: side.host,
                    "\(side.host)'s allowed IPs give \(other.host)'s address \(other.address) to its peer \(owner)",
                    mend: mend)
            ]
        }
    }

    /// The peer that WireGuard sends an address to: the longest prefix decides.
    private static func taker(of address: IPAddress, among peers: [WireGuardPeer]) -> WireGuardPeer? {
        var best: (peer: WireGuardPeer, length: Int)?
        for peer in peers {
            for prefix in peer.allowedIPs where prefix.contains(address) && prefix.length > best?.length ?? -1
            {
                best = (peer, prefix.length)
            }
        }
        return best?.peer
    }

    // MARK: Endpoints

    func endpointFindings() -> [Finding] {
        evidence.sides.compactMap { side, other -> Finding? in
            guard let peer = side.device?.peer(other.key) else { return nil }
            let client = side.client?.peers.first { $0.publicKey == other.key }
            guard let endpoint = peer.endpoint else {
                // Said once of both; where a client is needed and runs, it says why there is none.
                guard evidence.rendezvous == nil, side.host == evidence.from.host,
                    other.device?.peer(side.key)?.endpoint == nil
                else {
                    return nil
                }
                return Finding(
                    .noEndpoint, at: side.host,
                    "nobody tells \(side.host) where \(other.host) is, nor \(other.host) where \(side.host) is: there is no rendezvous",
                    mend: "add a [rendezvous], or write an endpoint that leads to one of them")
            }
            let planned = side.tunnel.peers.first { $0.host == other.host }?.endpoint
            // The client has not set what it refuses.
            let resolved = client?.phase == .endpointRefused ? nil : client?.resolved
            let known = [planned, resolved, client?.local, client?.punchedFrom].compactMap(\.self)
            guard !known.contains(endpoint), !known.isEmpty, !isPlausible(endpoint, side, other) else {
                return nil
            }
            let owner = owner(of: endpoint, side, other)
            return Finding(
                .endpointOverwritten, at: side.host,
                "\(side.host)'s WireGuard sends to \(endpoint) (\(owner)), while"
                    + " \(planned != nil ? "the topology" : "the rendezvous") has \(known[0]) for \(other.host):"
                    + " something else has set that endpoint",
                mend:
                    "natlab exec \(side.host) -- wg set \(side.tunnel.interface) peer \(other.key.base64) endpoint \(known[0])"
            )
        }
    }

    /// Endpoints that were nobody's of the other side before the watch, and that the other's own packets have since mended.
    func healedEndpoints() -> [Finding] {
        evidence.sides.compactMap { side, other in
            guard let before = side.deviceBefore?.peer(other.key)?.endpoint,
                let now = side.device?.peer(other.key)?.endpoint, before != now,
                let alone = side.alone, alone.sent > 0, alone.answered == 0,
                !finder.outermost(other).contains(before.address)
            else { return nil }
            return Finding(
                .endpointOverwritten, at: side.host,
                "\(side.host)'s WireGuard sent to \(before) (\(owner(of: before, side, other))), which is not"
                    + " \(other.host)'s: \(side.host) alone did not reach \(other.host), whose own packets have set the"
                    + " endpoint right just now")
        }
    }

    /// Whether the other side's packets can have come from there: then WireGuard has followed them by itself.
    private func isPlausible(_ endpoint: Endpoint, _ side: PairEvidence.Side, _ other: PairEvidence.Side)
        -> Bool
    {
        if evidence.verdict.translation?.original != nil, side.host == evidence.from.host { return true }
        if evidence.verdict.returnTranslation?.original != nil, side.host == evidence.to.host { return true }
        // It has been seen to send from there.
        if evidence.datagrams.contains(where: { datagram in
            datagram.sightings.first?.point.node == other.host
                && finder.arrival(of: datagram, at: side.host)?.source == endpoint
        }) {
            return true
        }
        guard
            case .onPath(let node) = addresses.owner(
                of: endpoint.address, seenFrom: side.host, towards: other.host)
        else { return false }
        if node == other.host { return endpoint.port == other.device?.listenPort }
        guard let router = evidence.router(node) else { return false }
        if (router.before + router.after).contains(where: { $0.mapping?.outer == endpoint }) { return true }
        // A mapping that has been forgotten since may have had any port.
        let hadSession = side.device?.peer(other.key)?.lastHandshake != nil
        let isFixed = other.routers.compactMap { evidence.router($0)?.nat?.behaviour }.allSatisfy {
            $0.mapping == .endpointIndependent && $0.ports == .preserve
        }
        return hadSession && !isFixed
    }

    func owner(of endpoint: Endpoint, _ side: PairEvidence.Side, _ other: PairEvidence.Side) -> String {
        switch addresses.owner(of: endpoint.address, seenFrom: side.host, towards: other.host) {
        case .onPath(let node), .elsewhere(let node): node
        case .insideTunnel: "inside a tunnel"
        case .unknown: "nobody's address in the lab"
        }
    }

    // MARK: Packets of the tunnel's size

    func largePackets() -> [Finding] {
        guard evidence.passesLargePackets == false else { return [] }
        let size = min(evidence.from.tunnel.mtu, evidence.to.tunnel.mtu)
        // WireGuard's data header and tag are 32 bytes, UDP's header 8, IPv4's 20.
        let needed = size + 60
        let ways = Set(evidence.from.way + evidence.to.way)
        let narrow = evidence.links.filter {
            ways.contains($0.node) && $0.mtu < needed && map.isUnderlay($0.interface, of: $0.node)
        }.min { $0.mtu < $1.mtu }
        let place =
            narrow.map { "\($0.interface) of \($0.node) has an MTU of \($0.mtu)" }
            ?? "something on the way takes no packets of that size"
        return [
            Finding(
                .mtuTooSmall, at: narrow?.node,
                "small packets pass, those of the tunnel's MTU (\(size) bytes, \(needed) with WireGuard's headers) do not: \(place)",
                mend: narrow.map {
                    "set the tunnel's mtu to \($0.mtu - 60) or less, or the link's to \(needed)"
                }
                    ?? "set a smaller mtu for the tunnel")
        ]
    }
}
