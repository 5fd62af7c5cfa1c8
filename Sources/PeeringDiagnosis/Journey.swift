import LabAgent
import LinuxLab
package import NetAddress
import PathTrace
import WireGuardControl

/// What became of the datagrams that one host sent to another.
package struct Journey: Codable, Hashable, Sendable {
    package var from: String
    package var to: String
    /// Datagrams that left `from`, and those of them that reached `to`.
    package var sent: Int
    package var arrived: Int
    /// Of the one that came furthest.
    package var hops: [Hop]
    /// Where that one got lost; nil where it arrived, or where none was sent.
    package var loss: Loss?

    /// A place that a datagram was seen at.
    package struct Hop: Codable, Hashable, Sendable {
        package var node: String
        package var interface: String
        package var isOutgoing: Bool
        package var source: Endpoint
        package var destination: Endpoint

        private enum CodingKeys: String, CodingKey {
            case node, interface, source, destination
            case isOutgoing = "outgoing"
        }
    }

    package struct Loss: Codable, Hashable, Sendable {
        /// The node that it did not leave again, or the segment, or whoever it never came to.
        package var node: String
        /// Where it was last seen.
        package var lastSeen: Hop
        /// The rule that dropped it, in nft's words; nil where no rule did.
        package var rule: String?
        /// In a few words.
        package var reason: String = ""

        private enum CodingKeys: String, CodingKey {
            case node, rule, reason
            case lastSeen = "last_seen"
        }

        package func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(node, forKey: .node)
            try container.encode(lastSeen, forKey: .lastSeen)
            try container.encode(rule, forKey: .rule)
            try container.encode(reason, forKey: .reason)
        }
    }

    /// The nodes on the way, each once, the segments between them too.
    package var nodes: [String]

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(from, forKey: .from)
        try container.encode(to, forKey: .to)
        try container.encode(sent, forKey: .sent)
        try container.encode(arrived, forKey: .arrived)
        try container.encode(nodes, forKey: .nodes)
        try container.encode(hops, forKey: .hops)
        try container.encode(loss, forKey: .loss)
    }
}

/// Follows datagrams through the places that they were seen at.
struct JourneyFinder {
    let evidence: PairEvidence
    let map: NodeMap

    /// What `from` sends to `to`, apart from what goes to the rendezvous.
    func journey(from: PairEvidence.Side, to: PairEvidence.Side) -> Journey {
        let targets = endpoints(of: to, at: from)
        return journey(from.host, to.host, towards: mainEndpoint(of: to, at: from)) { datagram, first in
            switch datagram.kind {
            case .rendezvousInit, .rendezvousResponse, .rendezvousLookup, .rendezvousReply, .rendezvousPush:
                false
            case .other: false
            default:
                targets.contains(first.destination)
                    || datagram.sightings.contains { $0.point.node == to.host && !$0.isOutgoing }
            }
        }
    }

    /// What a client asks the rendezvous, or with `back` what that answers.
    func rendezvousJourney(_ side: PairEvidence.Side, _ rendezvous: PairEvidence.Rendezvous, back: Bool)
        -> Journey
    {
        let endpoint = side.client?.server ?? rendezvous.endpoint
        if back {
            return journey(rendezvous.host, side.host) { datagram, _ in
                switch datagram.kind {
                case .rendezvousResponse, .rendezvousReply, .rendezvousPush:
                    datagram.sightings.last.map { last in
                        outermost(side).contains(last.destination.address) || last.point.node == side.host
                    } ?? false
                default: false
                }
            }
        }
        return journey(side.host, rendezvous.host) { datagram, first in
            (datagram.kind == .rendezvousInit || datagram.kind == .rendezvousLookup)
                && first.destination == endpoint
        }
    }

    /// The addresses that a host has on its way out.
    func outermost(_ side: PairEvidence.Side) -> Set<IPAddress> {
        Set(side.way.flatMap { map.addresses(of: $0) })
    }

    /// Where `from` may think that `to` is.
    func endpoints(of to: PairEvidence.Side, at from: PairEvidence.Side) -> Set<Endpoint> {
        let client = from.word(of: to)
        var all = [client?.resolved, client?.local, client?.punchedFrom, client?.endpoint]
        all += [from.device, from.deviceBefore].map { device in
            (device?.peer(to.key) ?? device?.peer(to.labKey))?.endpoint
        }
        // A peer under a key that is nobody's.
        all += (from.device?.peers ?? []).filter { peer in
            peer.allowedIPs.contains { $0.contains(to.address) }
        }.map(\.endpoint)
        return Set(all.compactMap(\.self))
    }

    /// Where a packet of `from` had best arrive: where WireGuard sends, else where the rendezvous says.
    private func mainEndpoint(of to: PairEvidence.Side, at from: PairEvidence.Side) -> Endpoint? {
        let client = from.word(of: to)
        return from.device?.peer(to.key)?.endpoint ?? client?.resolved
    }

    /// - Parameter target: of datagrams that do not arrive, those to this endpoint are looked at first.
    private func journey(
        _ from: String, _ to: String, towards target: Endpoint? = nil,
        _ isMeant: (Datagram, Sighting) -> Bool
    ) -> Journey {
        let meant = evidence.datagrams.filter { datagram in
            guard let first = datagram.sightings.first, first.point.node == from, first.isOutgoing else {
                return false
            }
            return isMeant(datagram, first)
        }
        let arrived = meant.filter { arrival(of: $0, at: to) != nil }
        let direct = meant.filter { $0.sightings.first?.destination == target }
        let furthest =
            arrived.last
            ?? settled(direct.isEmpty ? meant : direct).max {
                ($0.sightings.count, rank($0.kind)) < ($1.sightings.count, rank($1.kind))
            }
        let hops = (furthest?.sightings ?? []).map(Self.hop)
        var journey = Journey(
            from: from, to: to, sent: meant.count, arrived: arrived.count, hops: hops, loss: nil, nodes: [])
        journey.nodes = nodes(hops)
        guard arrived.isEmpty, let last = furthest?.sightings.last, let size = furthest?.size else {
            return journey
        }
        let loss = loss(after: last, size: size)
        // What has just left may still come.
        guard loss.rule != nil || furthest?.sightings.first.map(isSettled) ?? true else { return journey }
        journey.loss = loss
        if let node = journey.loss?.node, node != journey.nodes.last {
            journey.nodes += crossing(to: node, journey.nodes.last)
        }
        return journey
    }

    /// How a datagram came to a host; nil where it did not, or where the host's own firewall then dropped it.
    func arrival(of datagram: Datagram, at host: String) -> Sighting? {
        datagram.sightings.last { $0.point.node == host && !$0.isOutgoing }
            .flatMap { drop(at: host, $0, datagram.size) == nil ? $0 : nil }
    }

    /// Those that have had the time to arrive, unless there are no others.
    private func settled(_ datagrams: [Datagram]) -> [Datagram] {
        let old = datagrams.filter { $0.sightings.first.map(isSettled) ?? false }
        return old.isEmpty ? datagrams : old
    }

    /// Whether that was long enough before the end for what follows to be known.
    func isSettled(_ sighting: Sighting) -> Bool {
        sighting.time < evidence.ended.nanoseconds - Self.patience
    }

    /// Longer than a lab's way takes without a declared delay, nanoseconds.
    private static let patience: Int64 = 300_000_000

    /// Of several that came as far, WireGuard's own say most.
    private func rank(_ kind: DatagramKind) -> Int {
        switch kind {
        case .handshakeInitiation, .handshakeResponse: 3
        case .data, .keepalive, .cookie: 2
        case .punch: 1
        default: 0
        }
    }

    private static func hop(_ sighting: Sighting) -> Journey.Hop {
        Journey.Hop(
            node: sighting.point.node, interface: sighting.point.interface, isOutgoing: sighting.isOutgoing,
            source: sighting.source, destination: sighting.destination)
    }

    // MARK: Losing

    private func loss(after last: Sighting, size: Int) -> Journey.Loss {
        let hop = Self.hop(last)
        let node = last.isOutgoing ? map.receiver(after: hop) : last.point.node
        let drop = drop(at: node, last, size)
        // A router that nobody answers (ARP) sends nothing on.
        if drop == nil, !last.isOutgoing, let network = map.emptyNetwork(beyond: hop) {
            return Journey.Loss(node: network, lastSeen: hop, rule: nil)
        }
        return Journey.Loss(node: node, lastSeen: hop, rule: drop.map(Self.words))
    }

    /// The drop of a datagram that was last seen like this, by a node's firewall.
    ///
    /// A NAT translates destinations before any hook but the first, and sources only in postrouting: datagrams of one size from
    /// others to the same place, and from the same place to others, are not this one.
    private func drop(at node: String, _ last: Sighting, _ size: Int) -> PacketDrop? {
        let isItsOwn = map.addresses(of: node).contains(last.destination.address)
        return (evidence.drops[node] ?? []).last { drop in
            guard (drop.payloadSize ?? size) == size else { return false }
            if drop.source == last.source { return isItsOwn || drop.destination == last.destination }
            return drop.hook == "postrouting" && drop.destination == last.destination
        }
    }

    /// What a host's own firewall has dropped of what it would have sent to these endpoints.
    func dropBeforeLeaving(_ side: PairEvidence.Side, to targets: Set<Endpoint>) -> PacketDrop? {
        (evidence.drops[side.host] ?? []).last { $0.hook == "output" && targets.contains($0.destination) }
    }

    static func words(_ drop: PacketDrop) -> String {
        let place = "\(drop.table) \(drop.chain)"
        return drop.rule.map { "\(place): \($0)" } ?? "policy of \(place)"
    }

    // MARK: Drawing

    private func nodes(_ hops: [Journey.Hop]) -> [String] {
        var result: [String] = []
        for hop in hops where result.last != hop.node {
            if let last = result.last { result += map.segments(between: last, hop.node) }
            result.append(hop.node)
        }
        return result
    }

    private func crossing(to node: String, _ last: String?) -> [String] {
        (last.map { map.segments(between: $0, node) } ?? []) + [node]
    }
}
