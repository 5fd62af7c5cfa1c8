import NetAddress

/// What a packet socket of `natlab_watch_datagrams` has received, read.
///
/// Sources: RFC 791, RFC 768, RFC 792; struct virtio_net_hdr of linux/virtio_net.h.
enum SeenPacket: Hashable {
    /// More than one where the sender gave the kernel several at once (UDP_SEGMENT of udp(7)): they pass a veth as one.
    case datagrams([SeenDatagram])
    case error(SeenError)

    /// struct virtio_net_hdr, in the machine's byte order.
    static let offloadHeader = 10
    /// VIRTIO_NET_HDR_GSO_UDP_L4; the top bit is a flag.
    private static let segmentedUDP: UInt8 = 5

    /// Nil for what is neither a datagram nor an error about one, or is cut short within a header.
    /// - Parameter linkHeader: bytes between the struct virtio_net_hdr and the IP header.
    init?(_ bytes: UnsafeRawBufferPointer, linkHeader: Int) {
        let start = Self.offloadHeader + linkHeader
        guard bytes.count > start, let packet = IPv4Header(bytes[rebasing: start...]) else { return nil }
        switch packet.proto {
        case IPv4Header.udp:
            let isSegmented = bytes[1] & 0x7F == Self.segmentedUDP
            let segment = isSegmented ? Int(bytes.loadUnaligned(fromByteOffset: 4, as: UInt16.self)) : 0
            guard let datagrams = SeenDatagram.read(packet, segment: segment) else { return nil }
            self = .datagrams(datagrams)
        case IPv4Header.icmp:
            guard let error = SeenError(packet) else { return nil }
            self = .error(error)
        default: return nil
        }
    }
}

struct SeenDatagram: Hashable {
    var source: Endpoint
    var destination: Endpoint
    var ttl: UInt8
    /// Of the whole payload.
    var size: Int
    /// As `Datagram.payload`; less of a first fragment that is shorter.
    var payload: [UInt8]

    /// - Parameter segment: payload bytes of each but the last of those that are in one packet; 0: there is one.
    static func read(_ packet: IPv4Header, segment: Int) -> [SeenDatagram]? {
        guard let header = UDPHeader(packet) else { return nil }
        let payload = packet.payload[rebasing: UDPHeader.size...]
        let step = segment > 0 ? segment : max(1, header.size)
        // An empty payload is a datagram, too.
        return stride(from: 0, to: max(1, header.size), by: step).map { start in
            let size = min(step, header.size - start)
            let end = min(start + min(size, Datagram.keptPayload), payload.count)
            return SeenDatagram(
                source: header.source, destination: header.destination, ttl: packet.ttl, size: size,
                payload: start < end ? Array(payload[start..<end]) : [])
        }
    }
}

struct SeenError: Hashable {
    var type: UInt8
    var code: UInt8
    var from: IPAddress
    var to: IPAddress
    var source: Endpoint
    var destination: Endpoint
    var size: Int
    var mtu: UInt16?

    init?(_ packet: IPv4Header) {
        let message = packet.payload
        guard message.count > 8, [3, 11, 12].contains(message[0]),
            let quoted = IPv4Header(message[rebasing: 8...]), quoted.proto == IPv4Header.udp,
            let header = UDPHeader(quoted)
        else { return nil }
        type = message[0]
        code = message[1]
        from = packet.source
        to = packet.destination
        source = header.source
        destination = header.destination
        size = header.size
        let told = message.number16(at: 6)
        mtu = type == 3 && code == 4 && told > 0 ? told : nil
    }
}

/// An IPv4 packet that may be cut short, as ICMP quotes it; never a fragment but the first.
struct IPv4Header {
    var source: IPAddress
    var destination: IPAddress
    var ttl: UInt8
    var proto: UInt8
    /// What is there of it, without Ethernet's padding.
    var payload: UnsafeRawBufferPointer

    static let icmp: UInt8 = 1
    static let udp: UInt8 = 17

    init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= 20, bytes[0] >> 4 == 4 else { return nil }
        let header = Int(bytes[0] & 0x0F) * 4
        let total = Int(bytes.number16(at: 2))
        guard header >= 20, total >= header, bytes.count >= header, bytes.number16(at: 6) & 0x1FFF == 0
        else { return nil }
        ttl = bytes[8]
        proto = bytes[9]
        source = bytes.address(at: 12)
        destination = bytes.address(at: 16)
        payload = bytes[rebasing: header..<min(total, bytes.count)]
    }
}

struct UDPHeader {
    var source: Endpoint
    var destination: Endpoint
    /// Bytes of the payload.
    var size: Int

    static let size = 8

    init?(_ packet: IPv4Header) {
        guard packet.payload.count >= Self.size else { return nil }
        let length = Int(packet.payload.number16(at: 4))
        guard length >= Self.size else { return nil }
        source = Endpoint(packet.source, port: packet.payload.number16(at: 0))
        destination = Endpoint(packet.destination, port: packet.payload.number16(at: 2))
        size = length - Self.size
    }
}

extension UnsafeRawBufferPointer {
    fileprivate subscript(rebasing range: some RangeExpression<Int>) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: self[range])
    }

    /// In network byte order; the caller has checked that the bytes are there.
    fileprivate func number16(at offset: Int) -> UInt16 {
        UInt16(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }

    fileprivate func address(at offset: Int) -> IPAddress {
        IPAddress(v4: UInt32(bigEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
    }
}
