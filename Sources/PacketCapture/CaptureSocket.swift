import CNatlab
import Glibc
package import PcapngFormat
import SystemCalls

extension CaptureInterface {
    /// How its packets begin; nil for kinds that natlab cannot capture.
    package var linkType: Pcapng.LinkType? {
        switch hardware {
        // ARPHRD_ETHER and ARPHRD_LOOPBACK, whose frames begin as Ethernet's.
        case 1, 772: .ethernet
        // ARPHRD_NONE, which TUN and WireGuard have, and ARPHRD_RAWIP.
        case 0xFFFE, 519: .ip
        default: nil
        }
    }
}

/// A packet socket that sees all of one interface, and the next packet from it.
final class CaptureSocket {
    let point: CapturePoint
    let linkType: Pcapng.LinkType
    /// The next packet that goes into the file; its bytes are in `buffer`.
    private(set) var next: natlab_packet?
    private(set) var isGone = false
    /// The interface went down; whether to come up again or to go away, the kernel does not tell, only when asked.
    private(set) var isDown = false
    /// Packets in the file.
    var delivered: UInt64 = 0
    private var discarded: UInt64 = 0

    private let socket: Descriptor
    /// The kernel writes only as much of it as packets are long.
    private let buffer: UnsafeMutableRawBufferPointer

    /// Sees what passes from now on; `room` bytes of it may wait in the kernel, which is not exceeded but by dropping.
    init(_ point: CapturePoint, snapLength: Int, room: Int) throws(OperationFailure) {
        let interface = point.interface
        guard let linkType = interface.linkType else {
            throw OperationFailure(
                "capture", point.name,
                detail:
                    "natlab captures Ethernet and IP, not packets of kind \(interface.hardware) (if_arp.h)"
            )
        }
        self.point = point
        self.linkType = linkType
        // Protocol 0: nothing arrives before the socket is bound (packet(7)).
        socket = try point.namespace.socket(
            domain: AF_PACKET, type: Int32(SOCK_RAW.rawValue) | Int32(SOCK_NONBLOCK.rawValue))
        buffer = .allocate(byteCount: snapLength, alignment: 16)
        let result = natlab_bind_capture(
            socket.rawValue, interface.index, Int32(clamping: room), interface.kind == .bridge)
        guard result >= 0 else {
            throw OperationFailure(
                "capture", interface.name, namespace: point.namespace.name, errno: -result)
        }
    }

    deinit { buffer.deallocate() }

    var pollDescriptor: Int32 { socket.rawValue }

    /// Takes the next packet from the kernel unless one is here already, or none has come.
    func fill() throws(OperationFailure) {
        guard let start = buffer.baseAddress else { return }
        var packet = natlab_packet()
        while next == nil, !isGone {
            let result = natlab_receive_packet(socket.rawValue, start, buffer.count, &packet)
            switch -result {
            case 0:
                // What `lo` sends it receives at once: one packet, not two.
                if point.interface.kind == .loopback, packet.kind == outgoing { continue }
                next = packet
                isDown = false
            case EAGAIN: return
            case ENETDOWN:
                isDown = true
                lookForInterface()
            case let code:
                throw OperationFailure(
                    "capture", point.interface.name, namespace: point.namespace.name, errno: code)
            }
        }
    }

    /// Makes a block of the next packet, which is taken by that.
    func take(_ packet: natlab_packet, as number: UInt32) -> [UInt8] {
        let kept = UnsafeRawBufferPointer(rebasing: buffer[..<min(buffer.count, packet.length)])
        var file = PcapngBuffer(capacity: kept.count + 64)
        file.append(
            Pcapng.PacketHeader(
                interface: number, time: UInt64(clamping: packet.time),
                originalLength: UInt32(clamping: packet.length), flags: Self.flags(packet.kind)), kept)
        next = nil
        return file.take()
    }

    /// Counts the packets that wait still, up to this time, as dropped.
    func discard(until time: Int64) throws(OperationFailure) {
        while true {
            try fill()
            guard let packet = next, packet.time <= time else { return }
            discarded += 1
            next = nil
        }
    }

    /// Sees whether the interface is gone.
    func lookForInterface() { if natlab_has_lost_interface(socket.rawValue) { isGone = true } }

    /// Gives the interface up: its namespace has been unpinned.
    func abandon() { isGone = true }

    /// Packets that came, and those of them that found no room; to be asked once.
    func statistics() -> (received: UInt64, dropped: UInt64) {
        var seen: UInt32 = 0
        var dropped: UInt32 = 0
        // Cannot fail for a packet socket (packet(7)).
        _ = natlab_packet_statistics(socket.rawValue, &seen, &dropped)
        return (UInt64(seen), UInt64(dropped) + discarded)
    }

    /// By sll_pkttype of packet(7).
    private static func flags(_ kind: UInt8) -> Pcapng.Flags {
        switch kind {
        case 0: .init(.inbound, .unicast)
        case 1: .init(.inbound, .broadcast)
        case 2: .init(.inbound, .multicast)
        case 3: .init(.inbound, .promiscuous)
        case outgoing: .init(.outbound)
        default: .init(.unknown)
        }
    }
}

/// PACKET_OUTGOING of linux/if_packet.h.
private let outgoing: UInt8 = 4
