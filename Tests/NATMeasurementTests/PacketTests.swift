import NetAddress
import Testing

@testable import NATMeasurement

@Suite struct PacketTests {
    /// The checksums here and below were computed by a program of its own, from the RFCs.
    private static let datagram = """
        45 00 0020 1234 0000 40 11 6910  // IPv4, 32 bytes, id 0x1234, TTL 64, UDP, checksum
        c0a801f0 cb0071f0                // 192.168.1.240 to 203.0.113.240
        4e20 0d96 000c c1c8              // 20000 to 3478, 12 bytes, checksum
        6e61746c                         // "natl"
        """

    private static let packet: IPv4Packet = {
        let udp = UDPDatagram(from: 20_000, to: 3478, payload: Array("natl".utf8))
        return IPv4Packet(
            from: host, to: remote, proto: IPv4Packet.udp, identification: 0x1234,
            payload: udp.bytes(from: host, to: remote))
    }()

    @Test func datagramIsWrittenWithBothChecksums() {
        #expect(Self.packet.bytes == bytes(Self.datagram))
        // A receiver's sum over what includes the checksum is all ones, here as its complement.
        #expect(Array(Self.packet.bytes[..<20]).internetChecksum() == 0)
    }

    @Test func datagramIsReadWithoutItsPadding() throws {
        let packet = try #require(IPv4Packet(bytes(Self.datagram) + [0, 0, 0, 0]))
        #expect(packet == Self.packet)
        let udp = try #require(UDPDatagram(packet.payload))
        #expect(udp == UDPDatagram(from: 20_000, to: 3478, payload: Array("natl".utf8)))
    }

    @Test func optionsAreSkipped() throws {
        var long = bytes(Self.datagram)
        long[0] = 0x46
        long[3] += 4
        long.insert(contentsOf: [1, 1, 1, 0], at: 20)
        #expect(IPv4Packet(long)?.payload == Self.packet.payload)
    }

    @Test(arguments: 0..<32) func cutPacketIsReadOnlyAsAQuotedOne(length: Int) {
        let cut = Array(bytes(Self.datagram)[..<length])
        #expect(IPv4Packet(cut) == nil)
        #expect((IPv4Packet(cut, quoted: true) != nil) == (length >= 20))
        if length >= 28, let quoted = IPv4Packet(cut, quoted: true) {
            #expect(UDPDatagram(quoted.payload) == nil)
            #expect(UDPDatagram(quoted.payload, quoted: true)?.sourcePort == 20_000)
        }
    }

    @Test func checksumOfNothingButOnesIsNotLeftOut() {
        // Ports and payload chosen so that the sum is 0xFFFF: sent as it is, it would mean "no checksum".
        for port in UInt16.min ... .max {
            let sent = UDPDatagram(from: port, to: 3478, payload: []).bytes(from: host, to: remote)
            guard sent.number16(at: 6) != 0 else {
                Issue.record("port \(port) has no checksum")
                return
            }
        }
    }

    @Test func synCarriesItsNumber() throws {
        let syn = TCPSyn(from: 20_000, to: 3478, sequence: 0xDEAD_BEEF)
        let written = syn.bytes(from: host, to: remote)
        #expect(
            written
                == bytes(
                    """
                    4e20 0d96 deadbeef 00000000  // 20000 to 3478, sequence, no acknowledgement
                    50 02 ffff b705 0000         // 5 words, SYN, window, checksum, no urgent data
                    """))
        #expect(TCPSyn(written) == syn)
        var answer = written
        answer[13] = 0x12
        #expect(TCPSyn(answer) == nil, "SYN and ACK")
        #expect(TCPSyn(Array(written[..<19])) == nil)
    }

    @Test func icmpErrorReturnsThePacket() throws {
        let written = ICMPError(code: ICMPError.portUnreachable, about: bytes(Self.datagram)).bytes
        #expect(written[..<8].elementsEqual(bytes("0303 fca3 00000000")))
        #expect(written.internetChecksum() == 0)
        let error = try #require(ICMPError(written))
        #expect(error.quoted == bytes(Self.datagram))
        // An echo request returns no packet.
        #expect(ICMPError([8, 0] + written[2...]) == nil)
    }

    @Test func fragmentsAreCutAtTheSizeAndPutTogetherInAnyOrder() throws {
        var whole = Self.packet
        whole.payload = (0..<1008).map { UInt8(truncatingIfNeeded: $0) }
        let pieces = whole.fragments(size: 512)
        #expect(pieces.map(\.offset) == [0, 512])
        #expect(pieces.map(\.moreFragments) == [true, false])
        #expect(pieces[1].bytes.number16(at: 6) == 64, "in units of 8 bytes")
        #expect(pieces[0].bytes.number16(at: 6) == 0x2000, "MF")
        for order in [pieces, pieces.reversed(), [pieces[0], pieces[0], pieces[1]]] {
            var reassembly = Reassembly()
            var found: IPv4Packet?
            for piece in order {
                #expect(found == nil)
                found = reassembly.take(try #require(IPv4Packet(piece.bytes)))
            }
            #expect(found?.payload == whole.payload)
        }
    }

    @Test func fragmentsOfDifferentPacketsAreNotMixed() {
        var first = Self.packet, second = Self.packet
        first.payload = [UInt8](repeating: 1, count: 24)
        second.payload = [UInt8](repeating: 2, count: 24)
        second.identification += 1
        var reassembly = Reassembly()
        #expect(reassembly.take(first.fragments(size: 16)[0]) == nil)
        #expect(reassembly.take(second.fragments(size: 16)[1]) == nil)
        #expect(reassembly.take(first.fragments(size: 16)[1])?.payload == first.payload)
    }

    @Test func gapBetweenFragmentsIsWaitedFor() {
        var whole = Self.packet
        whole.payload = [UInt8](repeating: 1, count: 24)
        let pieces = whole.fragments(size: 8)
        var reassembly = Reassembly()
        #expect(reassembly.take(pieces[2]) == nil)
        #expect(reassembly.take(pieces[0]) == nil)
        #expect(reassembly.take(pieces[1])?.payload == whole.payload)
    }
}
