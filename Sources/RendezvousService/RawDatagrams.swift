import CNatlab
import Glibc
import NetAddress
package import RendezvousProtocol
import SystemCalls

/// UDP datagrams from and to WireGuard's own port, beside WireGuard.
///
/// Not Sendable.
///
/// The kernel makes the IP header and picks the source address; the UDP header is made here (raw(7), RFC 768).
final class RawDatagrams {
    private let sockets: ClientSockets
    private let slots = DatagramSlots(count: 8, size: WireFormat.maximumSize + 60)
    private var sources: [UInt32: (source: UInt32, until: UInt64)] = [:]
    private var filter: (port: UInt16, server: WireAddress)?
    private var mark: UInt32 = 0

    /// Shuts the socket to everything until `listen`, and drops what came before.
    init(_ sockets: consuming ClientSockets) throws(OperationFailure) {
        self.sockets = sockets
        try attach(port: 0, server: WireAddress(ip: 0, port: 0))
        while slots.receive(from: descriptor) > 0 {}
    }

    var descriptor: Int32 { sockets.raw.rawValue }

    /// Lets in what comes for `port` from the server, and punches from anywhere.
    func listen(port: UInt16, server: WireAddress) throws(OperationFailure) {
        if let filter, filter == (port, server) { return }
        try attach(port: port, server: server)
        filter = (port, server)
    }

    private func attach(port: UInt16, server: WireAddress) throws(OperationFailure) {
        let status = natlab_filter_udp(descriptor, port, server.ip, server.port, WireFormat.punchType)
        guard status == 0 else { throw OperationFailure("attach filter", "raw socket", errno: -status) }
    }

    /// WireGuard's firewall mark, so that the datagrams take the way WireGuard's own take (wg-quick's policy routing).
    func setMark(_ mark: UInt32) throws(OperationFailure) {
        guard mark != self.mark else { return }
        for file in [sockets.raw.rawValue, sockets.probe.rawValue] {
            var value = mark
            guard setsockopt(file, SOL_SOCKET, SO_MARK, &value, 4) == 0 else {
                throw OperationFailure("set firewall mark", "\(mark)", errno: errno)
            }
        }
        self.mark = mark
        sources = [:]
    }

    /// The source address of packets to `target`, by the routing table.
    ///
    /// Asked again after 2 s.
    func source(to target: UInt32, now: UInt64) throws(OperationFailure) -> UInt32 {
        if let known = sources[target], known.until > now { return known.source }
        // Connecting a UDP socket sends nothing; it looks up the route (udp(7)). Port 9 is as good as any.
        var address = SocketName.address(WireAddress(ip: target, port: 9))
        let status = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(sockets.probe.rawValue, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard status == 0 else {
            let code = errno
            throw OperationFailure("find route to", "\(IPAddress(v4: target))", errno: code)
        }
        let source = try SocketName.own(sockets.probe.rawValue).ip
        if sources.count > 4096 { sources = [:] }
        sources[target] = (source, now + 2_000_000_000)
        return source
    }

    func send(_ payload: [UInt8], from port: UInt16, to target: WireAddress, now: UInt64)
        throws(OperationFailure)
    {
        let packet = UDPPacket.make(
            payload, from: WireAddress(ip: try source(to: target.ip, now: now), port: port), to: target)
        var address = SocketName.address(WireAddress(ip: target.ip, port: 0))
        let count = packet.withUnsafeBytes { bytes in
            withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    sendto(
                        descriptor, bytes.baseAddress, bytes.count, Int32(MSG_DONTWAIT), $0,
                        socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
        }
        guard count == packet.count else {
            let code = errno
            sources[target.ip] = nil
            throw OperationFailure("send datagram to", "\(target)", errno: code)
        }
    }

    /// Hands out what has arrived, up to a few batches.
    func receive(_ body: (UnsafeRawBufferPointer, WireAddress) -> Void) {
        for _ in 0..<16 {
            let count = slots.receive(from: descriptor)
            guard count > 0 else { return }
            for index in 0..<count {
                guard let packet = UDPPacket.parse(slots.bytes(index)),
                    filter.map({ $0.port == packet.targetPort }) ?? false
                else { continue }
                body(packet.payload, packet.source)
            }
            if count < slots.count { return }
        }
    }
}

/// UDP over IPv4, as bytes (RFC 768, RFC 791 section 3.1).
package enum UDPPacket {
    /// A UDP header and the payload, with the checksum over the pseudo header.
    package static func make(_ payload: [UInt8], from source: WireAddress, to target: WireAddress) -> [UInt8]
    {
        let length = UInt16(8 + payload.count)
        var packet: [UInt8] = []
        packet.reserveCapacity(Int(length))
        for word in [source.port, target.port, length, 0] {
            packet.append(UInt8(word >> 8))
            packet.append(UInt8(truncatingIfNeeded: word))
        }
        packet += payload
        var sum =
            UInt64(source.ip >> 16) + UInt64(source.ip & 0xFFFF) + UInt64(target.ip >> 16)
            + UInt64(target.ip & 0xFFFF)
            + 17 + UInt64(length)
        for index in stride(from: 0, to: packet.count, by: 2) {
            sum += UInt64(packet[index]) << 8 | (index + 1 < packet.count ? UInt64(packet[index + 1]) : 0)
        }
        while sum > 0xFFFF { sum = (sum & 0xFFFF) + (sum >> 16) }
        // 0 would say that there is no checksum; its complement means the same sum.
        let checksum = sum == 0xFFFF ? 0xFFFF : ~UInt16(sum)
        packet[6] = UInt8(checksum >> 8)
        packet[7] = UInt8(truncatingIfNeeded: checksum)
        return packet
    }

    package struct Parsed {
        package var source: WireAddress
        package var targetPort: UInt16
        /// Part of the packet's memory.
        package var payload: UnsafeRawBufferPointer
    }

    /// Reads a whole IPv4 packet with UDP in it; nil for anything else.
    package static func parse(_ packet: UnsafeRawBufferPointer) -> Parsed? {
        guard packet.count >= 28, packet[0] >> 4 == 4, packet[9] == 17 else { return nil }
        let header = Int(packet[0] & 15) * 4
        func word(_ offset: Int) -> UInt16 { UInt16(packet[offset]) << 8 | UInt16(packet[offset + 1]) }
        // The offset in it, or more to follow: a fragment, which is not whole.
        guard header >= 20, packet.count >= header + 8, word(6) & 0x3FFF == 0 else { return nil }
        let length = Int(word(header + 4))
        guard length >= 8, packet.count >= header + length else { return nil }
        let ip = UInt32(word(12)) << 16 | UInt32(word(14))
        return Parsed(
            source: WireAddress(ip: ip, port: word(header)), targetPort: word(header + 2),
            payload: UnsafeRawBufferPointer(rebasing: packet[(header + 8)..<(header + length)]))
    }
}
