import LabAgent
package import LabPlanner
import LinuxLab
package import NetAddress
import PeeringCheck
package import RendezvousProtocol
import WireGuardControl
import WireGuardKeys

/// What `why` found: the JSON form is documented in docs/json.md and held by tests.
package struct WhyReport: Codable, Hashable, Sendable {
    package var lab: String
    package var from: String
    package var to: String
    /// The WireGuard interface both use.
    package var interface: String
    package var isConnected: Bool
    /// Nil where they are connected.
    package var cause: Cause?
    package var verdict: String
    package var mend: String?
    /// The verdict's own first.
    package var findings: [Finding]
    package var theory: TraversalTheory.Verdict
    /// `from`, then `to`.
    package var sides: [Side]
    package var rendezvous: Rendezvous?
    /// The routers on both ways.
    package var nats: [NAT]
    /// From `from` to `to`, and back.
    package var directions: [Journey]
    /// What could not be looked at.
    package var gaps: [String]

    private enum CodingKeys: String, CodingKey {
        case lab, from, to, interface, cause, verdict, mend, findings, theory, sides, rendezvous, nats,
            directions, gaps
        case isConnected = "connected"
    }

    // Every key is always there, null where there is nothing: here and in all parts.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(lab, forKey: .lab)
        try container.encode(from, forKey: .from)
        try container.encode(to, forKey: .to)
        try container.encode(interface, forKey: .interface)
        try container.encode(isConnected, forKey: .isConnected)
        try container.encode(cause, forKey: .cause)
        try container.encode(verdict, forKey: .verdict)
        try container.encode(mend, forKey: .mend)
        try container.encode(findings, forKey: .findings)
        try container.encode(theory, forKey: .theory)
        try container.encode(sides, forKey: .sides)
        try container.encode(rendezvous, forKey: .rendezvous)
        try container.encode(nats, forKey: .nats)
        try container.encode(directions, forKey: .directions)
        try container.encode(gaps, forKey: .gaps)
    }

    /// What one host knows.
    package struct Side: Codable, Hashable, Sendable {
        package var host: String
        package var address: IPAddress
        package var publicKey: String
        package var listenPort: UInt16?
        /// Why its WireGuard cannot be read.
        package var unreadable: String?
        /// The other host, as its WireGuard has it; nil where it has not.
        package var peer: Peer?
        package var client: Client?

        private enum CodingKeys: String, CodingKey {
            case host, address, unreadable, peer, client
            case publicKey = "public_key"
            case listenPort = "listen_port"
        }

        package func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(host, forKey: .host)
            try container.encode(address, forKey: .address)
            try container.encode(publicKey, forKey: .publicKey)
            try container.encode(listenPort, forKey: .listenPort)
            try container.encode(unreadable, forKey: .unreadable)
            try container.encode(peer, forKey: .peer)
            try container.encode(client, forKey: .client)
        }
    }

    package struct Peer: Codable, Hashable, Sendable {
        package var endpoint: Endpoint?
        package var endpointOwner: String?
        /// Seconds ago.
        package var lastHandshake: Double?
        package var sentBytes: UInt64
        package var receivedBytes: UInt64
        package var allowedIPs: [String]
        /// Seconds, 0 for off.
        package var keepalive: UInt16
        package var hasPresharedKey: Bool

        private enum CodingKeys: String, CodingKey {
            case endpoint
            case endpointOwner = "endpoint_owner"
            case lastHandshake = "last_handshake_s"
            case sentBytes = "sent_bytes"
            case receivedBytes = "received_bytes"
            case allowedIPs = "allowed_ips"
            case keepalive = "keepalive_s"
            case hasPresharedKey = "preshared_key"
        }

        package func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(endpoint, forKey: .endpoint)
            try container.encode(endpointOwner, forKey: .endpointOwner)
            try container.encode(lastHandshake, forKey: .lastHandshake)
            try container.encode(sentBytes, forKey: .sentBytes)
            try container.encode(receivedBytes, forKey: .receivedBytes)
            try container.encode(allowedIPs, forKey: .allowedIPs)
            try container.encode(keepalive, forKey: .keepalive)
            try container.encode(hasPresharedKey, forKey: .hasPresharedKey)
        }
    }

    package struct Client: Codable, Hashable, Sendable {
        package var standing: ServerStanding
        package var says: String
        package var server: Endpoint?
        /// How the rendezvous sees it, as it was told.
        package var observed: Endpoint?
        /// Of the other host.
        package var phase: PeerPhase?
        package var saysOfPeer: String?
        package var resolved: Endpoint?
        package var local: Endpoint?
        package var punchedFrom: Endpoint?
        package var punchesSent: Int?
        package var punchesReceived: Int?
        package var lookups: Int?

        private enum CodingKeys: String, CodingKey {
            case standing, says, server, observed, phase, resolved, local, lookups
            case saysOfPeer = "says_of_peer"
            case punchedFrom = "punched_from"
            case punchesSent = "punches_sent"
            case punchesReceived = "punches_received"
        }

        package func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(standing, forKey: .standing)
            try container.encode(says, forKey: .says)
            try container.encode(server, forKey: .server)
            try container.encode(observed, forKey: .observed)
            try container.encode(phase, forKey: .phase)
            try container.encode(saysOfPeer, forKey: .saysOfPeer)
            try container.encode(resolved, forKey: .resolved)
            try container.encode(local, forKey: .local)
            try container.encode(punchedFrom, forKey: .punchedFrom)
            try container.encode(punchesSent, forKey: .punchesSent)
            try container.encode(punchesReceived, forKey: .punchesReceived)
            try container.encode(lookups, forKey: .lookups)
        }
    }

    /// What the rendezvous saw.
    package struct Rendezvous: Codable, Hashable, Sendable {
        package var host: String
        package var endpoint: Endpoint
        package var saw: [Seen]
        /// Datagrams from the two hosts' external addresses that it did not take.
        package var refused: [Refused]

        package struct Seen: Codable, Hashable, Sendable {
            package var host: String
            package var endpoint: Endpoint
            /// RFC 3339.
            package var first: String
            /// Seconds ago.
            package var lastSeen: Double

            private enum CodingKeys: String, CodingKey {
                case host, endpoint, first
                case lastSeen = "last_seen_s"
            }
        }
        package struct Refused: Codable, Hashable, Sendable {
            package var source: Endpoint
            package var reason: String
            package var count: UInt64
        }
    }

    package struct NAT: Codable, Hashable, Sendable {
        package var router: String
        package var mappings: [Mapping]
        package var drops: [Drop]

        package struct Mapping: Codable, Hashable, Sendable {
            package var inner: Endpoint
            package var outer: Endpoint
            package var remote: Endpoint
            /// Packets have gone both ways.
            package var isReplied: Bool
            /// Seconds left.
            package var timeout: UInt32?
            /// Whether it was there before the probe.
            package var wasThere: Bool

            private enum CodingKeys: String, CodingKey {
                case inner, outer, remote
                case isReplied = "replied"
                case timeout = "timeout_s"
                case wasThere = "before_probe"
            }

            package func encode(to encoder: any Encoder) throws {
                var container = encoder.container(keyedBy: CodingKeys.self)
                try container.encode(inner, forKey: .inner)
                try container.encode(outer, forKey: .outer)
                try container.encode(remote, forKey: .remote)
                try container.encode(isReplied, forKey: .isReplied)
                try container.encode(timeout, forKey: .timeout)
                try container.encode(wasThere, forKey: .wasThere)
            }
        }
        /// Packets that one rule dropped during the probe.
        package struct Drop: Codable, Hashable, Sendable {
            package var rule: String
            package var packets: Int
            package var source: Endpoint
            package var destination: Endpoint
        }
    }
}

extension WhyReport {
    package init(lab: String, evidence: PairEvidence, diagnosis: Diagnosis, plan: LabPlan) {
        self.lab = lab
        from = evidence.from.host
        to = evidence.to.host
        interface = evidence.interface
        isConnected = diagnosis.isConnected
        cause = diagnosis.cause
        verdict = diagnosis.verdict
        mend = diagnosis.findings.first?.mend
        findings = diagnosis.findings
        theory = evidence.theory
        directions = diagnosis.journeys
        gaps = evidence.gaps
        let addresses = AddressBook(plan)
        let now = evidence.ended
        sides = evidence.sides.map {
            Self.side($0, towards: $1, addresses, now)
        }
        let map = NodeMap(plan)
        let ends = Set((evidence.from.way + evidence.to.way).flatMap { map.addresses(of: $0) })
        rendezvous = evidence.rendezvous.map { Self.rendezvous($0, evidence, ends, now) }
        nats = evidence.routers.map { router in
            NAT(
                router: router.name,
                mappings: Self.mappings(router, ends, evidence.rendezvous?.endpoint.address),
                drops: Self.drops(evidence.drops[router.name] ?? []))
        }
    }

    private static func age(_ time: WallTime, _ now: WallTime) -> Double {
        (Double(max(0, now.nanoseconds - time.nanoseconds)) / 1e8).rounded() / 10
    }

    private static func side(
        _ side: PairEvidence.Side, towards other: PairEvidence.Side, _ addresses: AddressBook, _ now: WallTime
    ) -> Side {
        let peer = (side.device?.peer(other.key) ?? side.device?.peer(other.labKey)).map { peer in
            let owner = peer.endpoint.flatMap {
                addresses.owner(of: $0.address, seenFrom: side.host, towards: other.host).node
            }
            return Peer(
                endpoint: peer.endpoint, endpointOwner: owner,
                lastHandshake: peer.lastHandshake.map { age($0, now) },
                sentBytes: peer.sentBytes, receivedBytes: peer.receivedBytes,
                allowedIPs: peer.allowedIPs.map(\.description), keepalive: peer.persistentKeepalive,
                hasPresharedKey: peer.hasPresharedKey)
        }
        let client = side.client.map { client in
            let word = side.word(of: other)
            return Client(
                standing: client.standing, says: client.says, server: client.server,
                observed: client.observed,
                phase: word?.phase, saysOfPeer: word?.says, resolved: word?.resolved, local: word?.local,
                punchedFrom: word?.punchedFrom, punchesSent: word?.punchesSent,
                punchesReceived: word?.punchesReceived, lookups: word?.lookups)
        }
        return Side(
            host: side.host, address: side.address, publicKey: side.key.base64,
            listenPort: side.device?.listenPort,
            unreadable: side.unreadable, peer: peer, client: client)
    }

    private static func rendezvous(
        _ rendezvous: PairEvidence.Rendezvous, _ evidence: PairEvidence, _ ends: Set<IPAddress>,
        _ now: WallTime
    ) -> Rendezvous {
        let sides = [evidence.from, evidence.to]
        let saw = sides.flatMap { side in
            (rendezvous.server?.entries ?? []).filter { side.has($0.publicKey) }.map { entry in
                Rendezvous.Seen(
                    host: side.host, endpoint: entry.endpoint,
                    first: RFC3339.text(Int64(clamping: entry.firstSeen)),
                    lastSeen: age(WallTime(nanoseconds: Int64(clamping: entry.lastSeen)), now))
            }
        }
        let refused = (rendezvous.server?.refusals ?? []).filter { ends.contains($0.source.address) }.map {
            Rendezvous.Refused(source: $0.source, reason: $0.reason.rawValue, count: $0.count)
        }
        return Rendezvous(host: rendezvous.host, endpoint: rendezvous.endpoint, saw: saw, refused: refused)
    }

    /// Those between the two hosts, and theirs to the rendezvous.
    private static func mappings(_ router: PairEvidence.Router, _ ends: Set<IPAddress>, _ server: IPAddress?)
        -> [NAT.Mapping]
    {
        func isMeant(_ flow: PairEvidence.Flow) -> Bool {
            guard let mapping = flow.mapping else { return false }
            return ends.contains(mapping.inner.address)
                && (ends.contains(mapping.remote.address) || mapping.remote.address == server)
        }
        func mapping(_ flow: PairEvidence.Flow) -> NAT.Mapping? {
            flow.mapping.map {
                NAT.Mapping(
                    inner: $0.inner, outer: $0.outer, remote: $0.remote, isReplied: flow.isReplied,
                    timeout: flow.timeout,
                    wasThere: router.before.contains {
                        $0.source == flow.source && $0.destination == flow.destination
                    })
            }
        }
        // Connection tracking lists them as its hash does.
        return router.after.filter(isMeant).compactMap(mapping).sorted {
            ($0.inner.address, $0.inner.port, $0.remote.address, $0.remote.port, $0.outer.port)
                < ($1.inner.address, $1.inner.port, $1.remote.address, $1.remote.port, $1.outer.port)
        }
    }

    private static func drops(_ drops: [PacketDrop]) -> [NAT.Drop] {
        var result: [NAT.Drop] = []
        for drop in drops {
            let rule = "\(drop.table) \(drop.chain)" + (drop.rule.map { ": \($0)" } ?? ": policy")
            if let index = result.firstIndex(where: {
                $0.rule == rule && $0.source == drop.source && $0.destination == drop.destination
            }) {
                result[index].packets += 1
            } else {
                result.append(
                    NAT.Drop(rule: rule, packets: 1, source: drop.source, destination: drop.destination))
            }
        }
        return result
    }
}
