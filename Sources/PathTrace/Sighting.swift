package import NetAddress

/// An interface of a namespace where datagrams are watched.
package struct WatchPoint: Hashable, Sendable, Codable {
    package var node: String
    /// By its name under /run/netns.
    package var namespace: String
    package var interface: String

    package init(node: String, namespace: String, interface: String) {
        self.node = node
        self.namespace = namespace
        self.interface = interface
    }
}

extension WatchPoint: CustomStringConvertible {
    /// "alpine1:eth0".
    package var description: String { "\(node):\(interface)" }
}

/// A datagram passed an interface.
///
/// What goes out is seen after all rules (POSTROUTING, and the NAT there), what comes in before all (PREROUTING): the
/// addresses are those on the link.
package struct Sighting: Hashable, Sendable, Codable {
    package var point: WatchPoint
    package var isOutgoing: Bool
    /// Nanoseconds since the Unix epoch, by the kernel's stamp; goes back where the machine's clock is set back.
    package var time: Int64
    package var source: Endpoint
    package var destination: Endpoint
    /// Time to live.
    package var ttl: UInt8

    package init(
        point: WatchPoint, isOutgoing: Bool, time: Int64, source: Endpoint, destination: Endpoint, ttl: UInt8
    ) {
        self.point = point
        self.isOutgoing = isOutgoing
        self.time = time
        self.source = source
        self.destination = destination
        self.ttl = ttl
    }
}

/// One UDP datagram and where it was seen.
package struct Datagram: Hashable, Sendable {
    package var kind: DatagramKind
    /// Bytes of the UDP payload, by the UDP header: also where only a first fragment was seen.
    package var size: Int
    /// The first `keptPayload` bytes of it.
    package var payload: [UInt8]
    /// In the order of time; never empty.
    package var sightings: [Sighting]

    /// Bytes of a payload that are kept, and by which a datagram is recognised.
    package static let keptPayload = 160

    package init(kind: DatagramKind, size: Int, payload: [UInt8], sightings: [Sighting]) {
        self.kind = kind
        self.size = size
        self.payload = payload
        self.sightings = sightings
    }

    mutating func insert(_ sighting: Sighting) {
        let place = sightings.lastIndex { $0.time <= sighting.time }.map { $0 + 1 } ?? 0
        sightings.insert(sighting, at: place)
    }
}

/// An ICMP error about a UDP datagram, as it passed an interface.
///
/// Source: RFC 792. A NAT translates the quoted datagram, too: the endpoints are those that it has on this link.
package struct ICMPError: Hashable, Sendable, Codable {
    package var point: WatchPoint
    package var isOutgoing: Bool
    /// As a sighting's.
    package var time: Int64
    /// 3, 11 or 12.
    package var type: UInt8
    package var code: UInt8
    /// Who complains, and to whom.
    package var from: IPAddress
    package var to: IPAddress
    /// Of the quoted datagram.
    package var source: Endpoint
    package var destination: Endpoint
    /// Bytes of the quoted datagram's payload, by its UDP header.
    package var size: Int
    /// Of the next hop, where fragmentation is needed (type 3, code 4; RFC 1191); nil where it is not told.
    package var mtu: UInt16?

    package init(
        point: WatchPoint, isOutgoing: Bool, time: Int64, type: UInt8, code: UInt8, from: IPAddress,
        to: IPAddress, source: Endpoint, destination: Endpoint, size: Int, mtu: UInt16? = nil
    ) {
        self.point = point
        self.isOutgoing = isOutgoing
        self.time = time
        self.type = type
        self.code = code
        self.from = from
        self.to = to
        self.source = source
        self.destination = destination
        self.size = size
        self.mtu = mtu
    }
}
