package import NetAddress
package import TopologyModel

/// Something that was measured, or why it was not.
package struct Finding<Value: Codable & Hashable & Sendable>: Codable, Hashable, Sendable {
    /// Nil: not measured.
    package var value: Value?
    /// What was seen; without a value, why there is none.
    package var evidence: String

    package init(_ value: Value?, _ evidence: String) {
        self.value = value
        self.evidence = evidence
    }

    package static func none(_ reason: String) -> Finding { Finding(nil, reason) }

    package func encode(to encoder: any Encoder) throws {
        // Both keys are always there, null where there is nothing.
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(value, forKey: .value)
        try container.encode(evidence, forKey: .evidence)
    }
}

/// How many of how many.
package struct Share: Codable, Hashable, Sendable {
    package var count: Int
    package var of: Int

    package init(_ count: Int, of: Int) {
        self.count = count
        self.of = of
    }
}

/// Whether hosts behind a NAT reach each other's external endpoints (RFC 4787 REQ-9).
package enum Hairpin: String, Codable, Hashable, Sendable {
    case none
    /// They see each other's external endpoint (REQ-9a).
    case external
    /// They see each other's internal endpoint.
    case `internal`
    /// They see neither: one of the router's.
    case other
}

/// Whether two hosts that use the same port may get the same external endpoint towards different
/// destinations.
package enum PortSharing: String, Codable, Hashable, Sendable {
    case exclusive
    /// Port overloading (RFC 4787 section 4.2.1, REQ-3b forbids it).
    case overloaded
}

/// Whether a mapping is still used towards a remote endpoint that has sent to it before it was sent to.
package enum EarlyPacket: String, Codable, Hashable, Sendable {
    case kept
    /// The remote endpoint sees another external port than all others: hole punching fails.
    case lost
}

/// What the sender of a packet that is not let in learns.
package enum Unsolicited: String, Codable, Hashable, Sendable {
    case delivered
    case silent
    /// Told by ICMP.
    case refused
}

/// Which source endpoint of a remote host an internal one sees.
package enum RemoteSource: String, Codable, Hashable, Sendable {
    case kept
    /// One that nobody has.
    case rewritten
}

/// How long a mapping lives without a packet, in seconds.
package struct Lifetime: Codable, Hashable, Sendable {
    /// The oldest mapping that was alive; 0 when none was.
    package var alive: Double
    /// The youngest older than that that was not; nil: it lives longer than was looked for.
    package var dead: Double?

    package init(alive: Double, dead: Double?) {
        self.alive = alive
        self.dead = dead
    }

    /// Whether a lifetime of so many seconds would show so, with `slack` seconds to either side.
    package func fits(_ seconds: Double, slack: Double = 0.25) -> Bool {
        alive <= seconds + slack && dead.map { seconds - slack <= $0 } ?? true
    }

    private enum CodingKeys: String, CodingKey {
        case alive = "alive_s"
        case dead = "dead_s"
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(alive, forKey: .alive)
        try container.encode(dead, forKey: .dead)
    }
}

/// A static forward or one-to-one address, and whether it lets a host in that was never sent to.
package struct ForwardFinding: Codable, Hashable, Sendable {
    package var external: String
    package var `internal`: String
    package var works: Finding<Bool>
}

/// What a router was seen to do, in the words of RFC 4787.
package struct RouterMeasurement: Codable, Hashable, Sendable {
    package var router: String
    /// Whether the source of what it forwards is another outside; false: plain routing.
    package var translated: Finding<Bool>
    package var udp: Finding<NATUDP>
    package var mapping: Finding<NATDependence>
    package var filtering: Finding<NATDependence>
    package var ports: Finding<NATPorts>
    /// Mappings with the internal port outside too.
    package var preserved: Finding<Share>
    /// Mappings whose external port is even where the internal one is, and odd where that is (REQ-3).
    package var parity: Finding<Share>
    package var pooling: Finding<NATPooling>
    package var sharing: Finding<PortSharing>
    /// Of two hosts with the same port: whether what is sent to either's external endpoint reaches the right
    /// one.
    package var sharedDelivery: Finding<Bool>
    package var earlyPacket: Finding<EarlyPacket>
    package var remoteSource: Finding<RemoteSource>
    package var hairpin: Finding<Hairpin>
    package var unsolicited: Finding<Unsolicited>
    /// The same at an external port that no mapping has.
    package var closedPort: Finding<Unsolicited>
    /// Whether a packet from outside to an internal address is let in.
    package var exposed: Finding<Bool>
    /// ICMP errors from outside reach the internal host, with the packet that they return translated back.
    package var icmp: Finding<Bool>
    /// A mapping is still there after an ICMP error about one of its packets (REQ-10).
    package var icmpSurvived: Finding<Bool>
    package var fragments: Finding<Bool>
    /// The last fragment first (REQ-14).
    package var fragmentsReversed: Finding<Bool>
    package var fragmentsInward: Finding<Bool>
    package var tcpMapping: Finding<NATDependence>
    package var lifetime: Finding<Lifetime>
    /// Whether packets from inside make a mapping live longer (REQ-6).
    package var outboundRefresh: Finding<Bool>
    /// Whether packets from outside do (REQ-6 leaves it open).
    package var inboundRefresh: Finding<Bool>
    package var forwards: [ForwardFinding]
    /// There and back through the router, milliseconds; null when nothing came through.
    package var roundTrip: Double?
    /// What the measurement used: its hosts' endpoints, and those that the NAT gave them.
    package var internalEndpoints: [Endpoint]
    package var externalEndpoints: [Endpoint]
    /// Connections that the measurement left in the routers and took out again.
    package var removedConnections: Int
    /// By namespace: the external endpoints of those connections, where a NAT may have noted them down besides.
    package var traces: [String: [Endpoint]]
    /// The addresses of the measurement's hosts.
    package var addresses: [IPAddress]

    private enum CodingKeys: String, CodingKey {
        case router, addresses, traces, translated, udp, mapping, filtering, ports, preserved, parity,
            pooling, sharing, hairpin
        case unsolicited, exposed, icmp, fragments, lifetime, forwards
        case sharedDelivery = "shared_delivery"
        case earlyPacket = "early_packet"
        case closedPort = "closed_port"
        case remoteSource = "remote_source"
        case icmpSurvived = "icmp_survived"
        case fragmentsReversed = "fragments_reversed"
        case fragmentsInward = "fragments_inward"
        case tcpMapping = "tcp_mapping"
        case outboundRefresh = "outbound_refresh"
        case inboundRefresh = "inbound_refresh"
        case roundTrip = "rtt_ms"
        case internalEndpoints = "internal_endpoints"
        case externalEndpoints = "external_endpoints"
        case removedConnections = "removed_connections"
    }

    /// With nothing measured yet, for this reason.
    init(router: String, unmeasured reason: String) {
        self.router = router
        translated = .none(reason)
        udp = .none(reason)
        mapping = .none(reason)
        filtering = .none(reason)
        ports = .none(reason)
        preserved = .none(reason)
        parity = .none(reason)
        pooling = .none(reason)
        sharing = .none(reason)
        sharedDelivery = .none(reason)
        earlyPacket = .none(reason)
        remoteSource = .none(reason)
        hairpin = .none(reason)
        unsolicited = .none(reason)
        closedPort = .none(reason)
        exposed = .none(reason)
        icmp = .none(reason)
        icmpSurvived = .none(reason)
        fragments = .none(reason)
        fragmentsReversed = .none(reason)
        fragmentsInward = .none(reason)
        tcpMapping = .none(reason)
        lifetime = .none(reason)
        outboundRefresh = .none(reason)
        inboundRefresh = .none(reason)
        forwards = []
        internalEndpoints = []
        externalEndpoints = []
        removedConnections = 0
        traces = [:]
        addresses = []
    }
}
