import NetAddress
import Testing

@testable import PathTrace

/// Frames as a packet socket hands them over, byte by byte.
@Suite struct SeenPacketTests {
    /// struct virtio_net_hdr; `segment` in the machine's byte order.
    private func offload(segment: UInt16 = 0) -> [UInt8] {
        [0, segment > 0 ? 5 : 0, 0, 0] + withUnsafeBytes(of: segment) { Array($0) } + [0, 0, 0, 0]
    }
    private let ethernet = [UInt8](repeating: 0x02, count: 12) + [0x08, 0x00]

    private func ipv4(
        _ proto: UInt8, _ payload: [UInt8], fragment: UInt16 = 0, ttl: UInt8 = 63, options: Int = 0,
        length: Int? = nil
    ) -> [UInt8] {
        let total = length ?? 20 + options + payload.count
        return [
            UInt8(0x45 + options / 4), 0, UInt8(total >> 8), UInt8(total & 0xFF), 0x12, 0x34,
            UInt8(fragment >> 8), UInt8(fragment & 0xFF), ttl, proto, 0, 0, 192, 168, 1, 2, 203, 0, 113, 11,
        ] + [UInt8](repeating: 1, count: options) + payload
    }

    /// From port 4000 to 51820.
    private func udp(_ payload: [UInt8], size: Int? = nil) -> [UInt8] {
        let length = 8 + (size ?? payload.count)
        return [0x0F, 0xA0, 0xCA, 0x6C, UInt8(length >> 8), UInt8(length & 0xFF), 0, 0] + payload
    }

    private func read(_ bytes: [UInt8], linkHeader: Int = 14) -> SeenPacket? {
        bytes.withUnsafeBytes { SeenPacket($0, linkHeader: linkHeader) }
    }

    private func datagram(_ payload: [UInt8], size: Int? = nil, ttl: UInt8 = 63) throws -> SeenDatagram {
        SeenDatagram(
            source: try #require(Endpoint("192.168.1.2:4000")),
            destination: try #require(Endpoint("203.0.113.11:51820")), ttl: ttl, size: size ?? payload.count,
            payload: payload)
    }

    @Test func `a datagram is read without Ethernet's padding, behind IP options, and without a link header`()
        throws
    {
        let payload: [UInt8] = [1, 2, 3]
        let wanted = SeenPacket.datagrams([try datagram(payload)])
        let padding = [UInt8](repeating: 0xEE, count: 15)
        #expect(read(offload() + ethernet + ipv4(17, udp(payload)) + padding) == wanted)
        #expect(read(offload() + ethernet + ipv4(17, udp(payload), options: 8)) == wanted)
        #expect(read(offload() + ipv4(17, udp(payload)), linkHeader: 0) == wanted)
        #expect(read(offload() + ethernet + ipv4(17, udp([]))) == .datagrams([try datagram([])]))
    }

    @Test func `of a long payload the beginning is kept, of a first fragment the whole's size`() throws {
        let payload = (0..<1000).map { UInt8(truncatingIfNeeded: $0 * 7) }
        let kept = Array(payload[..<160])
        #expect(
            read(offload() + ethernet + ipv4(17, udp(payload)))
                == .datagrams([
                    try datagram(kept, size: 1000)
                ]))
        let first = udp(Array(payload[..<480]), size: 1000)
        #expect(
            read(offload() + ethernet + ipv4(17, first, fragment: 0x2000))
                == .datagrams([
                    try datagram(kept, size: 1000)
                ]))
        #expect(read(offload() + ethernet + ipv4(17, Array(payload[480...]), fragment: 61)) == nil)
    }

    @Test func `datagrams that were sent as one are taken apart`() throws {
        let payload = (0..<700).map { UInt8(truncatingIfNeeded: $0 * 3) }
        guard
            case .datagrams(let parts) = read(
                offload(segment: 300) + ethernet + ipv4(17, udp(payload)))
        else {
            Issue.record("no datagrams")
            return
        }
        #expect(
            parts == [
                try datagram(Array(payload[..<160]), size: 300),
                try datagram(Array(payload[300..<460]), size: 300),
                try datagram(Array(payload[600...]), size: 100),
            ])
    }

    @Test func `an ICMP error is read with the ports of what it quotes`() throws {
        let quoted = ipv4(17, udp([], size: 148), length: 176)
        let unreachable = read(offload() + ethernet + ipv4(1, [3, 3, 0, 0, 0, 0, 0, 0] + quoted))
        guard case .error(let error) = unreachable else {
            Issue.record("no error: \(String(describing: unreachable))")
            return
        }
        #expect(error.type == 3 && error.code == 3 && error.mtu == nil && error.size == 148)
        #expect(error.from == IPAddress("192.168.1.2") && error.to == IPAddress("203.0.113.11"))
        #expect(error.source == Endpoint("192.168.1.2:4000"))
        #expect(error.destination == Endpoint("203.0.113.11:51820"))
        guard
            case .error(let tooBig) = read(
                offload() + ethernet + ipv4(1, [3, 4, 0, 0, 0, 0, 0x05, 0x00] + quoted))
        else {
            Issue.record("no error")
            return
        }
        #expect(tooBig.code == 4 && tooBig.mtu == 1280)
        // About TCP; an echo request; redirects are no errors.
        #expect(
            read(offload() + ethernet + ipv4(1, [3, 3, 0, 0, 0, 0, 0, 0] + ipv4(6, udp([])))) == nil)
        #expect(read(offload() + ethernet + ipv4(1, [8, 0, 0, 0, 0, 0, 0, 0] + quoted)) == nil)
        #expect(read(offload() + ethernet + ipv4(1, [5, 0, 0, 0, 0, 0, 0, 0] + quoted)) == nil)
    }

    @Test func `what is cut short anywhere is read without a trap, or not at all`() {
        let quoted = ipv4(17, udp([], size: 148), length: 176)
        for whole in [
            offload() + ethernet + ipv4(17, udp([1, 2, 3, 4, 5])),
            offload(segment: 2) + ethernet + ipv4(17, udp([1, 2, 3, 4, 5])),
            offload() + ethernet + ipv4(1, [3, 3, 0, 0, 0, 0, 0, 0] + quoted),
        ] {
            for count in 0..<(10 + 14 + 28) { #expect(read(Array(whole[..<count])) == nil) }
            for count in (10 + 14 + 28)..<whole.count { _ = read(Array(whole[..<count])) }
            for position in 24..<whole.count {
                for value: UInt8 in [0, 1, 0x0F, 0x4F, 0x60, 0xFF] {
                    var spoilt = whole
                    spoilt[position] = value
                    _ = read(spoilt)
                }
            }
        }
    }
}

@Suite struct DatagramKindTests {
    private func kind(_ start: [UInt8], _ size: Int) -> DatagramKind {
        DatagramKind(
            payload: Array((start + [UInt8](repeating: 0xA5, count: 160)).prefix(size)), size: size)
    }

    @Test func `WireGuard's`() {
        #expect(kind([1, 0, 0, 0], 148) == .handshakeInitiation)
        #expect(kind([2, 0, 0, 0], 92) == .handshakeResponse)
        #expect(kind([3, 0, 0, 0], 64) == .cookie)
        #expect(kind([4, 0, 0, 0], 32) == .keepalive)
        #expect(kind([4, 0, 0, 0], 128) == .data && kind([4, 0, 0, 0], 1452) == .data)
        #expect(kind([2, 0, 0, 0], 93) == .other && kind([4, 0, 0, 0], 16) == .other)
        #expect(kind([4, 1, 0, 0], 32) == .other)
    }

    @Test func `the rendezvous' and natlab's`() {
        for size in [109, 113, 119, 148] { #expect(kind([1, 9, 9, 9], size) == .rendezvousInit) }
        for size in [53, 63] { #expect(kind([2, 9, 9, 9], size) == .rendezvousResponse) }
        #expect(kind([3, 9, 9, 9], 93) == .rendezvousLookup)
        // A counter begins with zeros.
        for size in [25, 31] { #expect(kind([3, 0, 0, 0], size) == .rendezvousReply) }
        #expect(kind([5, 0, 0, 0], 65) == .rendezvousPush)
        #expect(kind([6, 1, 0, 0], 42) == .punch)
    }

    @Test func `others`() {
        #expect(DatagramKind(payload: [], size: 0) == .other)
        #expect(DatagramKind(payload: [1, 0, 0], size: 3) == .other)
        #expect(kind([6, 0, 0, 0], 43) == .other && kind([7, 0, 0, 0], 148) == .other)
    }
}
