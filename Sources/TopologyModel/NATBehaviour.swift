/// What a NAT's mapping or filtering looks at beside the internal or external endpoint.
///
/// Ordered from the least to the most dependent. Source: RFC 4787 sections 4.1 and 5.
package enum NATDependence: String, Codable, Hashable, Sendable, CaseIterable, Comparable {
    case endpointIndependent = "endpoint-independent"
    case addressDependent = "address-dependent"
    case addressAndPortDependent = "address-and-port-dependent"

    package static func < (left: Self, right: Self) -> Bool { left.rank < right.rank }

    private var rank: Int {
        switch self {
        case .endpointIndependent: 0
        case .addressDependent: 1
        case .addressAndPortDependent: 2
        }
    }
}

/// How a NAT chooses the external port of a new mapping.
///
/// Source: RFC 4787 section 4.2.
package enum NATPorts: String, Codable, Hashable, Sendable, CaseIterable {
    /// The internal port, while no other mapping has it.
    case preserve
    case random
    /// One after the other, whichever host asks.
    case sequential
    /// A random one of the block that each host has for itself (RFC 6888 section 4).
    case block
}

/// What becomes of UDP at a router.
package enum NATUDP: String, Codable, Hashable, Sendable, CaseIterable {
    case forward
    /// Dropped without a word.
    case drop
    /// Dropped with ICMP "communication administratively prohibited" (RFC 1812 section 5.2.7.1).
    case reject
}

/// Which of several external addresses a mapping gets.
///
/// Source: RFC 4787 section 4.1, REQ-2.
package enum NATPooling: String, Codable, Hashable, Sendable, CaseIterable {
    /// All mappings of an internal host have the same one.
    case paired
    case arbitrary
}

/// What a NAT does to UDP, in the words of RFC 4787.
///
/// Filter state belongs to the mapping, that is to the external port: what one mapping has sent opens no other mapping of
/// the same internal endpoint (RFC 4787 section 5 read literally would). Replies to an inbound session leave by the
/// mapping that it came in on.
package struct NATBehaviour: Codable, Hashable, Sendable {
    package var mapping: NATDependence
    package var filtering: NATDependence
    package var ports: NATPorts
    /// Hosts behind the NAT reach each other's external endpoints, and are seen with their own external endpoint (REQ-9).
    package var hairpin: Bool
    package var udp: NATUDP
    /// Seconds that a mapping lives without a packet (REQ-5); nil where nobody said.
    package var udpTimeout: Int?
    package var pooling: NATPooling
    /// Ports a host has where `ports` is `block`.
    package var blockSize: Int

    package static let defaultBlockSize = 512
    /// Blocks for hosts that the topology does not know.
    package static let spareBlocks = 16

    private enum CodingKeys: String, CodingKey {
        case mapping, filtering, ports, hairpin, udp, pooling
        case udpTimeout = "udp_timeout_s"
        case blockSize = "block_size"
    }

    package init(
        mapping: NATDependence = .endpointIndependent, filtering: NATDependence = .addressAndPortDependent,
        ports: NATPorts? = nil, hairpin: Bool = false, udp: NATUDP = .forward,
        udpTimeout: Int? = nil, pooling: NATPooling = .paired,
        blockSize: Int = NATBehaviour.defaultBlockSize
    ) {
        self.mapping = mapping
        self.filtering = filtering
        self.ports = ports ?? Self.usualPorts(mapping)
        self.hairpin = hairpin
        self.udp = udp
        self.udpTimeout = udpTimeout
        self.pooling = pooling
        self.blockSize = blockSize
    }

    /// What NATs with such a mapping mostly do.
    package static func usualPorts(_ mapping: NATDependence) -> NATPorts {
        mapping == .endpointIndependent ? .preserve : .random
    }

    /// "eim-adf": the mapping's and the filtering's short names.
    package var shortName: String { "\(mapping.letters)m-\(filtering.letters)f" }
}

extension NATDependence {
    /// "ei", "ad" or "apd".
    package var letters: String {
        switch self {
        case .endpointIndependent: "ei"
        case .addressDependent: "ad"
        case .addressAndPortDependent: "apd"
        }
    }
}
