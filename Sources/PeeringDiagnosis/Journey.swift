import LabAgent
package import LabPlanner
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
    }

    /// The nodes on the way, each once, the segments between them too.
    package var nodes: [String]
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
        let client = from.client?.peers.first { $0.publicKey == to.key || $0.publicKey == to.labKey }
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
        let client = from.client?.peers.first { $0.publicKey == to.key || $0.publicKey == to.labKey }
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
        func hasArrived(_ datagram: Datagram) -> Bool {
            guard let last = datagram.sightings.last(where: { $0.point.node == to && !$0.isOutgoing }) else {
                return false
            }
            // Its own firewall may still have dropped it.
            return drop(at: to, last, datagram.size) == nil
        }
        let arrived = meant.filter(hasArrived)
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
        journey.loss = loss(after: last, size: size)
        if let node = journey.loss?.node, node != journey.nodes.last {
            journey.nodes += crossing(to: node, journey.nodes.last)
        }
        return journey
    }

    /// Those that have had the time to arrive, unless there are no others.
    private func settled(_ datagrams: [Datagram]) -> [Datagram] {
        let limit = evidence.ended.nanoseconds - Self.patience
        let old = datagrams.filter { ($0.sightings.first?.time ?? 0) < limit }
        return old.isEmpty ? datagrams : old
    }

    /// Longer than a lab's way takes without a declared delay, nanoseconds.
    static let patience: Int64 = 300_000_000

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
    /// Behind a NAT's first chains one of its ends may already be translated.
    private func drop(at node: String, _ last: Sighting, _ size: Int) -> PacketDrop? {
        (evidence.drops[node] ?? []).last { drop in
            (drop.source == last.source || drop.destination == last.destination)
                && (drop.payloadSize ?? size) == size
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

/// Who is next to whom.
package struct NodeMap: Sendable {
    private let nodes: [String: PlannedNode]
    private let children: [String: [String]]

    package init(_ plan: LabPlan) {
        nodes = Dictionary(plan.nodes.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        children = Dictionary(grouping: plan.nodes.filter { $0.uplink != nil }, by: { $0.uplink ?? "" })
            .mapValues { $0.map(\.name) }
    }

    /// From a node up to its segment, both included.
    package func way(from name: String) -> [String] {
        var result: [String] = []
        var next: String? = name
        while let node = next, result.count <= nodes.count {
            result.append(node)
            next = nodes[node]?.uplink
        }
        return result
    }

    package func kind(_ name: String) -> PlannedNode.Kind? { nodes[name]?.kind }

    /// Those that a node has towards its uplink: the interface's, a router's further ones, 1:1 addresses.
    package func addresses(of name: String) -> [IPAddress] {
        guard let node = nodes[name], node.kind != .segment else { return [] }
        let own = node.interfaces.first.map { [$0.address.address] } ?? []
        let nat = node.translation
        return own + (nat?.externals.filter { !own.contains($0) } ?? [])
            + (nat?.oneToOne.map(\.external) ?? [])
    }

    /// Who gets a packet that has left a node: the neighbour with its address, else the router or segment above, else the
    /// network itself, where nobody has that address.
    func receiver(after hop: Journey.Hop) -> String {
        guard let node = nodes[hop.node] else { return hop.node }
        let network = hop.interface == node.interfaces.first?.name ? node.uplink ?? hop.node : hop.node
        let address = hop.destination.address
        if let neighbour = (children[network] ?? []).first(where: { addresses(of: $0).contains(address) }) {
            return neighbour
        }
        if network == hop.node {
            // Inward through routers that translate nothing.
            return (children[network] ?? []).first { leads(to: address, $0) } ?? network
        }
        return network
    }

    private func leads(to address: IPAddress, _ name: String) -> Bool {
        guard let node = nodes[name], node.kind == .router else { return false }
        return node.interfaces.dropFirst().contains { $0.address.network.contains(address) }
            || (children[name] ?? []).contains { leads(to: address, $0) }
    }

    /// Whether anybody on the network that a packet was sent into has its address.
    func isAnybodys(_ hop: Journey.Hop) -> Bool {
        // Between segments everything is routed.
        let node = receiver(after: hop)
        guard kind(node) == .segment else { return true }
        return nodes.values.contains { other in
            addresses(of: other.name).contains(hop.destination.address)
                || other.kind == .segment
                    && other.interfaces.contains { $0.address.address == hop.destination.address }
        } && !isPrivate(hop.destination.address)
    }

    /// Whether an address belongs to a LAN, which no segment has a route to.
    private func isPrivate(_ address: IPAddress) -> Bool {
        nodes.values.contains { node in
            node.kind == .router && node.translation != nil
                && node.interfaces.dropFirst().contains { $0.address.network.contains(address) }
        }
    }

    /// The segment above a router that a packet has come into from its LAN, where nobody there has the packet's address.
    func emptyNetwork(beyond hop: Journey.Hop) -> String? {
        guard let node = nodes[hop.node], node.kind == .router, let above = node.uplink,
            kind(above) == .segment,
            let outer = node.interfaces.first, hop.interface != outer.name
        else { return nil }
        var outgoing = hop
        outgoing.interface = outer.name
        return isAnybodys(outgoing) ? nil : above
    }

    /// The segments that a packet crosses between two nodes that are not in one another's LAN.
    func segments(between first: String, _ second: String) -> [String] {
        guard let one = nodes[first]?.uplink, let other = nodes[second]?.uplink, one != second,
            other != first,
            kind(one) == .segment, kind(other) == .segment
        else { return [] }
        return one == other ? [one] : [one, other]
    }
}
