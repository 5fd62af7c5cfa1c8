import NetAddress

/// ICMP echo requests and replies, for IPv4 (RFC 792) and IPv6 (RFC 4443 section 4).
package struct EchoMessage: Hashable, Sendable {
    package var isV4: Bool
    package var identifier: UInt16
    package var sequence: UInt16
    /// Eight bytes that only this run knows, so that nobody else's echo is taken for ours.
    package var token: [UInt8]

    package init(isV4: Bool, identifier: UInt16, sequence: UInt16, token: [UInt8]) {
        self.isV4 = isV4
        self.identifier = identifier
        self.sequence = sequence
        self.token = token
    }

    /// The request as an ICMP message with `padding` zeros at its end; the kernel fills an ICMPv6 checksum in by itself.
    package func request(padding: Int = 0) -> [UInt8] {
        var bytes: [UInt8] = [isV4 ? 8 : 128, 0, 0, 0]
        bytes += [UInt8(identifier >> 8), UInt8(truncatingIfNeeded: identifier)]
        bytes += [UInt8(sequence >> 8), UInt8(truncatingIfNeeded: sequence)]
        bytes += token
        bytes += [UInt8](repeating: 0, count: padding)
        if isV4 {
            let sum = Self.internetChecksum(bytes)
            bytes[2] = UInt8(sum >> 8)
            bytes[3] = UInt8(truncatingIfNeeded: sum)
        }
        return bytes
    }

    /// Reads a datagram of a raw ICMP socket (IPv4: with its IP header); nil unless it is an echo reply.
    package init?(reply datagram: some RandomAccessCollection<UInt8>, isV4: Bool) {
        let bytes = Array(datagram)
        guard let message = isV4 ? Self.payload(ofIPv4: bytes[...]) : bytes[...] else { return nil }
        self.init(message, isV4: isV4, type: isV4 ? 0 : 129)
    }

    /// Reads a datagram of the same socket as a Time Exceeded message and gives the echo request that it returns; nil
    /// unless it is one (RFC 792; RFC 4443 section 3.3).
    package init?(turnedBack datagram: some RandomAccessCollection<UInt8>, isV4: Bool) {
        let bytes = Array(datagram)
        guard let message = isV4 ? Self.payload(ofIPv4: bytes[...]) : bytes[...],
            message.count >= 8, message.prefix(2).elementsEqual([isV4 ? 11 : 3, 0])
        else { return nil }
        let returned = message.dropFirst(8)
        guard let request = isV4 ? Self.payload(ofIPv4: returned) : returned.dropFirst(40) else { return nil }
        self.init(request, isV4: isV4, type: isV4 ? 8 : 128)
    }

    /// What follows the header of an IPv4 packet; nil when there is no whole header.
    private static func payload(ofIPv4 packet: ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
        guard let first = packet.first, first >> 4 == 4 else { return nil }
        let header = Int(first & 0x0F) * 4
        guard header >= 20, packet.count >= header else { return nil }
        return packet.dropFirst(header)
    }

    private init?(_ message: ArraySlice<UInt8>, isV4: Bool, type: UInt8) {
        let bytes = Array(message)
        guard bytes.count >= 16, bytes[0] == type, bytes[1] == 0 else { return nil }
        self.init(
            isV4: isV4, identifier: UInt16(bytes[4]) << 8 | UInt16(bytes[5]),
            sequence: UInt16(bytes[6]) << 8 | UInt16(bytes[7]), token: Array(bytes[8..<16]))
    }

    /// RFC 1071.
    package static func internetChecksum(_ bytes: [UInt8]) -> UInt16 {
        var sum: UInt32 = 0
        for index in stride(from: 0, to: bytes.count, by: 2) {
            sum += UInt32(bytes[index]) << 8 | (index + 1 < bytes.count ? UInt32(bytes[index + 1]) : 0)
        }
        while sum >> 16 != 0 { sum = (sum & 0xFFFF) + (sum >> 16) }
        return ~UInt16(truncatingIfNeeded: sum)
    }
}
