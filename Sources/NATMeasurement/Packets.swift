import NetAddress

/// An IPv4 packet or fragment; options of a received one are skipped.
///
/// Source: RFC 791.
struct IPv4Packet: Hashable {
    var source: IPAddress
    var destination: IPAddress
    /// IPPROTO_*.
    var proto: UInt8
    var identification: UInt16
    var timeToLive: UInt8 = 64
    var moreFragments = false
    /// Where the payload belongs in the whole, in bytes; a multiple of 8.
    var offset = 0
    var payload: [UInt8]

    static let icmp: UInt8 = 1
    static let tcp: UInt8 = 6
    static let udp: UInt8 = 17

    init(
        from source: IPAddress, to destination: IPAddress, proto: UInt8, identification: UInt16,
        payload: [UInt8]
    ) {
        self.source = source
        self.destination = destination
        self.proto = proto
        self.identification = identification
        self.payload = payload
    }

    var isWhole: Bool { offset == 0 && !moreFragments }

    /// Reads a received packet; nil unless it is whole IPv4.
    ///
    /// With `quoted` it may be cut short: an ICMP error returns as little as 8 bytes of the payload.
    init?(_ bytes: [UInt8], quoted: Bool = false) {
        guard bytes.count >= 20, bytes[0] >> 4 == 4 else { return nil }
        let header = Int(bytes[0] & 0x0F) * 4
        let total = Int(bytes.number16(at: 2))
        guard header >= 20, total >= header, bytes.count >= header, quoted || bytes.count >= total else {
            return nil
        }
        identification = bytes.number16(at: 4)
        moreFragments = bytes[6] & 0x20 != 0
        offset = Int(bytes.number16(at: 6) & 0x1FFF) * 8
        timeToLive = bytes[8]
        proto = bytes[9]
        source = bytes.address(at: 12)
        destination = bytes.address(at: 16)
        // Ethernet pads short frames.
        payload = Array(bytes[header..<min(total, bytes.count)])
    }

    var bytes: [UInt8] {
        var header: [UInt8] = [0x45, 0]
        header.append16(UInt16(truncatingIfNeeded: 20 + payload.count))
        header.append16(identification)
        header.append16(UInt16(truncatingIfNeeded: offset / 8) | (moreFragments ? 0x2000 : 0))
        header += [timeToLive, proto, 0, 0]
        header += source.bytes + destination.bytes
        header.put16(header.internetChecksum(), at: 10)
        return header + payload
    }

    /// The packet in pieces with at most `size` bytes (a multiple of 8) of payload each.
    func fragments(size: Int) -> [IPv4Packet] {
        stride(from: 0, to: payload.count, by: size).map { start in
            let end = min(start + size, payload.count)
            var piece = self
            piece.offset = start
            piece.moreFragments = end < payload.count
            piece.payload = Array(payload[start..<end])
            return piece
        }
    }
}

/// The checksum of a UDP or TCP segment: over a pseudo header too (RFC 768, RFC 9293 section 3.1).
private func transportChecksum(
    _ segment: [UInt8], from source: IPAddress, to destination: IPAddress, proto: UInt8
) -> UInt16 {
    let addresses = source.bytes + destination.bytes
    let sum = stride(from: 0, to: 8, by: 2).reduce(UInt32(proto) + UInt32(segment.count)) {
        $0 + UInt32(addresses.number16(at: $1))
    }
    return segment.internetChecksum(initial: sum)
}

/// A UDP datagram.
///
/// Source: RFC 768. A received one's checksum is not looked at: what the router forwards may carry the
/// unfinished one of checksum offload, and what arrived wrong would not be told from what was sent wrong.
struct UDPDatagram: Hashable {
    var sourcePort: UInt16
    var destinationPort: UInt16
    var payload: [UInt8]

    init(from sourcePort: UInt16, to destinationPort: UInt16, payload: [UInt8]) {
        self.sourcePort = sourcePort
        self.destinationPort = destinationPort
        self.payload = payload
    }

    /// Reads the payload of an IP packet; `quoted` as for `IPv4Packet`.
    init?(_ bytes: [UInt8], quoted: Bool = false) {
        guard bytes.count >= 8 else { return nil }
        let length = Int(bytes.number16(at: 4))
        guard length >= 8, quoted || bytes.count >= length else { return nil }
        sourcePort = bytes.number16(at: 0)
        destinationPort = bytes.number16(at: 2)
        payload = Array(bytes[8..<min(length, bytes.count)])
    }

    func bytes(from source: IPAddress, to destination: IPAddress) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.append16(sourcePort)
        bytes.append16(destinationPort)
        bytes.append16(UInt16(truncatingIfNeeded: 8 + payload.count))
        bytes += [0, 0] + payload
        let sum = transportChecksum(bytes, from: source, to: destination, proto: IPv4Packet.udp)
        // 0 would mean that there is none.
        bytes.put16(sum == 0 ? 0xFFFF : sum, at: 6)
        return bytes
    }
}

/// The first segment of a TCP connection.
///
/// Source: RFC 9293 section 3.1.
struct TCPSyn: Hashable {
    var sourcePort: UInt16
    var destinationPort: UInt16
    var sequence: UInt32

    init(from sourcePort: UInt16, to destinationPort: UInt16, sequence: UInt32) {
        self.sourcePort = sourcePort
        self.destinationPort = destinationPort
        self.sequence = sequence
    }

    /// Reads the payload of an IP packet; nil unless it has SYN and neither ACK nor RST.
    init?(_ bytes: [UInt8]) {
        guard bytes.count >= 20, bytes[13] & 0x16 == 0x02 else { return nil }
        sourcePort = bytes.number16(at: 0)
        destinationPort = bytes.number16(at: 2)
        sequence = bytes.number32(at: 4)
    }

    func bytes(from source: IPAddress, to destination: IPAddress) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.append16(sourcePort)
        bytes.append16(destinationPort)
        bytes.append32(sequence)
        bytes += [0, 0, 0, 0, 0x50, 0x02, 0xFF, 0xFF, 0, 0, 0, 0]
        bytes.put16(transportChecksum(bytes, from: source, to: destination, proto: IPv4Packet.tcp), at: 16)
        return bytes
    }
}

/// An ICMP error with the packet that it is about.
///
/// Source: RFC 792; RFC 1812 section 4.3.2.3 wants as much of the packet as fits.
struct ICMPError: Hashable {
    /// 3: destination unreachable.
    var type: UInt8
    var code: UInt8
    /// The beginning of the packet that caused it, from its IP header on.
    var quoted: [UInt8]

    static let unreachable: UInt8 = 3
    static let portUnreachable: UInt8 = 3
    var isHostUnreachable: Bool { type == Self.unreachable && code == 1 }

    init(type: UInt8 = Self.unreachable, code: UInt8, about quoted: [UInt8]) {
        self.type = type
        self.code = code
        self.quoted = quoted
    }

    /// Reads the payload of an IP packet; nil for messages that return no packet.
    init?(_ bytes: [UInt8]) {
        guard bytes.count >= 28, [3, 4, 5, 11, 12].contains(bytes[0]) else { return nil }
        self.init(type: bytes[0], code: bytes[1], about: Array(bytes[8...]))
    }

    var bytes: [UInt8] {
        var bytes: [UInt8] = [type, code, 0, 0, 0, 0, 0, 0] + quoted
        bytes.put16(bytes.internetChecksum(), at: 2)
        return bytes
    }
}
