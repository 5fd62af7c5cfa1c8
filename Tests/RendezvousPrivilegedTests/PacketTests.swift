import RendezvousProtocol
import RendezvousService
import Testing

/// The bytes of a raw socket; needs no root.
struct PacketTests {
    private let source = WireAddress(ip: 0xC0A8_0102, port: 51820),
        target = WireAddress(ip: 0xCB00_710A, port: 1234)

    /// RFC 768's sum over pseudo header, header and data, of a right datagram: all ones.
    private func sum(_ packet: [UInt8]) -> UInt32 {
        var pseudo: [UInt8] = []
        for address in [source.ip, target.ip] {
            pseudo += (0..<4).map { UInt8(truncatingIfNeeded: address >> (24 - 8 * UInt32($0))) }
        }
        pseudo += [0, 17, UInt8(packet.count >> 8), UInt8(packet.count & 255)]
        let bytes = pseudo + packet + (packet.count % 2 == 1 ? [0] : [])
        var sum: UInt32 = 0
        for index in stride(from: 0, to: bytes.count, by: 2) {
            sum += UInt32(bytes[index]) << 8 | UInt32(bytes[index + 1])
            sum = (sum & 0xFFFF) + sum >> 16
        }
        return sum
    }

    @Test(arguments: [0, 1, 2, 25, 31, 42, 93, 109, 1400]) func `the checksum is right for every length`(
        length: Int
    ) {
        for round in 0..<50 {
            let payload = (0..<length).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ round) }
            let packet = UDPPacket.make(payload, from: source, to: target)
            #expect(packet.count == length + 8)
            #expect(sum(packet) == 0xFFFF)
            #expect(packet[6] != 0 || packet[7] != 0, "0 would mean none")
        }
    }

    private func ipPacket(_ udp: [UInt8], options: Int = 0, fragment: UInt16 = 0) -> [UInt8] {
        let header = 20 + options
        var packet = [UInt8](repeating: 0, count: header)
        packet[0] = 0x40 | UInt8(header / 4)
        packet[6] = UInt8(fragment >> 8)
        packet[7] = UInt8(fragment & 255)
        packet[9] = 17
        packet.replaceSubrange(12..<16, with: [192, 168, 1, 2])
        packet.replaceSubrange(16..<20, with: [203, 0, 113, 10])
        return packet + udp
    }

    @Test(arguments: [0, 4, 40]) func `a packet is read back, with IP options too`(options: Int) throws {
        let packet = ipPacket(UDPPacket.make([1, 2, 3], from: source, to: target), options: options)
        try packet.withUnsafeBytes { bytes in
            let parsed = try #require(UDPPacket.parse(bytes))
            #expect(parsed.source == source)
            #expect(parsed.targetPort == 1234)
            #expect(Array(parsed.payload) == [1, 2, 3])
        }
    }

    @Test func `fragments, cut packets and lengths that lie are refused`() {
        let udp = UDPPacket.make([1, 2, 3, 4], from: source, to: target)
        for fragment in [0x2000, 1, 0x2005] as [UInt16] {
            #expect(ipPacket(udp, fragment: fragment).withUnsafeBytes { UDPPacket.parse($0) == nil })
        }
        let whole = ipPacket(udp)
        for length in 0..<whole.count {
            #expect(whole.prefix(length).withUnsafeBytes { UDPPacket.parse($0) == nil })
        }
        var lying = whole
        lying[25] = 200
        #expect(lying.withUnsafeBytes { UDPPacket.parse($0) == nil })
        lying[25] = 7
        #expect(lying.withUnsafeBytes { UDPPacket.parse($0) == nil })
        var six = whole
        six[0] = 0x65
        #expect(six.withUnsafeBytes { UDPPacket.parse($0) == nil })
    }

    @Test(arguments: [
        ("hub.example:1234", true), ("203.0.113.10:1", true), ("hub", false), (":1234", false),
        ("hub:0", false),
        ("hub:65536", false), ("hub:+5", false), ("[2001:db8::1]:5", false), ("2001:db8::1:5", false),
    ]) func `a server's name is HOST and PORT`(text: String, good: Bool) {
        #expect((ServerName(text) != nil) == good)
    }
}
