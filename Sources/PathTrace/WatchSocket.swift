import CNatlab
import Glibc
import NetlinkWire
import SystemCalls

/// A packet socket that sees the datagrams and ICMP errors of one interface.
final class WatchSocket {
    let point: WatchPoint
    /// Packets that came and found no room, or that the kernel could not describe.
    private(set) var lost: UInt64 = 0

    private let socket: Descriptor
    private let linkHeader: Int
    /// Whether what is for another host's hardware address passes here all the same: through a bridge.
    private let takesOthers: Bool

    /// Sees what passes from now on; `room` bytes of it may wait in the kernel.
    ///
    /// An interface that is down is watched once it is up.
    init(
        _ point: WatchPoint, _ link: LinkRecord, in namespace: NetworkNamespace, room: Int
    ) throws(OperationFailure) {
        switch link.hardware {
        // ARPHRD_ETHER and ARPHRD_LOOPBACK of linux/if_arp.h, whose frames begin as Ethernet's.
        case 1, 772: linkHeader = 14
        // ARPHRD_NONE, which TUN and WireGuard have, and ARPHRD_RAWIP.
        case 0xFFFE, 519: linkHeader = 0
        case let kind:
            throw OperationFailure(
                "watch", point.interface, namespace: namespace.name, errno: ENOTSUP,
                detail: "natlab reads Ethernet and IP, not packets of kind \(kind) (if_arp.h)")
        }
        self.point = point
        let isBridge = link.kind == "bridge"
        takesOthers = isBridge || link.master != nil
        // Protocol 0: nothing arrives before the socket is bound (packet(7)).
        socket = try namespace.socket(
            domain: AF_PACKET, type: Int32(SOCK_RAW.rawValue) | Int32(SOCK_NONBLOCK.rawValue))
        var result = natlab_watch_datagrams(socket.rawValue)
        if result >= 0 {
            result = natlab_bind_capture(socket.rawValue, link.index, Int32(clamping: room), isBridge)
        }
        guard result >= 0 else {
            throw OperationFailure("watch", point.interface, namespace: namespace.name, errno: -result)
        }
    }

    var pollDescriptor: Int32 { socket.rawValue }

    /// Reads up to `limit` packets; whether more may wait.
    func read(
        into buffer: UnsafeMutableRawBufferPointer, limit: Int,
        _ body: (SeenPacket, _ isOutgoing: Bool, _ time: Int64) -> Void
    ) -> Bool {
        guard let start = buffer.baseAddress else { return false }
        var packet = natlab_packet()
        var isEmpty = false
        var left = limit
        while left > 0, !isEmpty {
            switch -natlab_receive_packet(socket.rawValue, start, buffer.count, &packet) {
            case 0:
                left -= 1
                guard takesOthers || packet.kind != forOthers else { continue }
                let bytes = UnsafeRawBufferPointer(rebasing: buffer[..<min(buffer.count, packet.length)])
                guard let seen = SeenPacket(bytes, linkHeader: linkHeader) else { continue }
                body(seen, packet.kind == outgoing, packet.time)
            // The interface went down or away: told once.
            case ENETDOWN: continue
            // Several datagrams in one packet, before Linux 6.2: struct virtio_net_hdr had no word for that.
            case EINVAL:
                left -= 1
                lost += 1
            default: isEmpty = true
            }
        }
        countDropped()
        return !isEmpty
    }

    private func countDropped() {
        var seen: UInt32 = 0
        var dropped: UInt32 = 0
        // Cannot fail for a packet socket (packet(7)); counts from zero each time.
        _ = natlab_packet_statistics(socket.rawValue, &seen, &dropped)
        lost += UInt64(dropped)
    }
}

/// PACKET_OTHERHOST and PACKET_OUTGOING of linux/if_packet.h.
private let forOthers: UInt8 = 3
private let outgoing: UInt8 = 4
