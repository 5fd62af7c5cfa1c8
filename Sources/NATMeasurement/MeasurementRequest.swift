package import NetAddress
package import SystemCalls

/// A router to measure, and from where.
package struct MeasurementRequest: Sendable {
    package enum Scope: Hashable, Sendable {
        /// The router alone: `outside` is the far end of its own uplink.
        case router
        /// The router and all NATs above it: `outside` is the far end of the topmost one's uplink. Only
        /// mapping, filtering, ports and what becomes of UDP are measured then.
        case composite
    }

    /// What the result is called.
    package var router: String
    package var scope: Scope
    package var network: NetworkNamespace
    /// Further namespaces in which the measurement leaves connections behind: those of the NATs above.
    package var above: [NetworkNamespace]
    /// The far end of one of the router's LAN links; nil: the LAN is a bridge without a port.
    package var inside: FarEnd?
    /// The bridge that gets a port for as long as the measurement takes where `inside` is nil.
    package var lanInterface: String
    /// The router's address in the LAN.
    package var lanAddress: IPAddress
    /// Addresses in the LAN for the measurement's hosts, in order of preference; those that someone has are
    /// left out.
    ///
    /// With one free one, what takes two hosts is not measured.
    package var insideCandidates: [IPAddress]
    package var outside: FarEnd
    /// The same on the uplink of `outside`: three are needed, with fewer some things are not measured.
    package var outsideCandidates: [IPAddress]
    /// The addresses that the outermost NAT has on that uplink, the first being the one that answers ARP.
    package var externalAddresses: [IPAddress]
    /// The first of the ports that the measurement's hosts use: they use `portSpan` from here on, and as many
    /// from 32,768 further on.
    ///
    /// 1,024 ... 32,255. Measurements that share a NAT need ports of their own.
    package var firstPort: UInt16
    /// The longest lifetime of a mapping to look for, in seconds; nil: none is looked for.
    ///
    /// The measurement takes as long.
    package var lifetime: Int?
    /// How long a packet takes there and back at the most, where links delay it; else it is measured.
    package var roundTrip: Duration
    /// How often to send what does not arrive.
    package var tries: Int
    package var forwards: [StaticForward]

    package static let portSpan: UInt16 = 512
    package static let lastFirstPort: UInt16 = 32_255

    package init(
        router: String, scope: Scope = .router, network: NetworkNamespace, above: [NetworkNamespace] = [],
        inside: FarEnd?, lanInterface: String = "lan0", lanAddress: IPAddress, insideCandidates: [IPAddress],
        outside: FarEnd, outsideCandidates: [IPAddress], externalAddresses: [IPAddress], firstPort: UInt16,
        lifetime: Int? = nil, roundTrip: Duration = .zero, tries: Int = 3, forwards: [StaticForward] = []
    ) {
        self.router = router
        self.scope = scope
        self.network = network
        self.above = above
        self.inside = inside
        self.lanInterface = lanInterface
        self.lanAddress = lanAddress
        self.insideCandidates = insideCandidates
        self.outside = outside
        self.outsideCandidates = outsideCandidates
        self.externalAddresses = externalAddresses
        self.firstPort = firstPort
        self.lifetime = lifetime
        self.roundTrip = roundTrip
        self.tries = tries
        self.forwards = forwards
    }
}

/// A forward or one-to-one address that should let anyone in.
package struct StaticForward: Hashable, Sendable {
    package var external: IPAddress
    /// Nil: all ports.
    package var externalPort: UInt16?
    package var `internal`: IPAddress
    /// Nil: the same as outside.
    package var internalPort: UInt16?
    /// Where packets for the internal address can be seen: its host's interface.
    package var at: FarEnd

    package init(
        external: IPAddress, externalPort: UInt16? = nil, internal: IPAddress, internalPort: UInt16? = nil,
        at: FarEnd
    ) {
        self.external = external
        self.externalPort = externalPort
        self.internal = `internal`
        self.internalPort = internalPort
        self.at = at
    }
}
