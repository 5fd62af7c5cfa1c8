import CNatlab
import Glibc
import NetAddress
import NetlinkWire
import SystemCalls

/// Waits until the kernel stamps packets as they pass.
///
/// It does so only while some socket wants it (SO_TIMESTAMPNS), and begins a while after the first has said so, up to
/// several milliseconds: by a kernel thread (net/core/dev.c, net_enable_timestamp). A packet of before that
/// has the time at which it is read (net/socket.c, __sock_recv_timestamp), which says nothing about order.
final class StampProbe {
    private let namespace: Descriptor
    private let watcher: Descriptor
    private let sender: Descriptor
    private var buffer = [UInt8](repeating: 0, count: 64)

    /// From here on the kernel is asked for stamps; in a namespace of its own that goes with it.
    init() throws(OperationFailure) {
        namespace = try NetworkNamespace.unnamed()
        let place = NetworkNamespace("the namespace of a probe", path: "/proc/self/fd/\(namespace.rawValue)")
        watcher = try place.socket(domain: AF_PACKET, type: Int32(SOCK_DGRAM.rawValue))
        sender = try place.socket(domain: AF_INET, type: Int32(SOCK_DGRAM.rawValue))
        let routes = try RouteSocket(place)
        let loopback = try routes.linkIndex("lo")
        try routes.perform([.setUp(index: loopback, name: "lo")])
        let result = natlab_bind_capture(watcher.rawValue, loopback, 65_536, false)
        guard result >= 0 else { throw OperationFailure("watch", "lo of a probe", errno: -result) }
    }

    /// Whether a packet that passes now is stamped before it is read.
    func isStamped() -> Bool {
        let anywhere = SocketAddress(Endpoint(IPAddress(v4: 0x7F00_0001), port: 9))
        // The second fails where nobody listens: the error of the first.
        _ = anywhere.withPointer { sendto(sender.rawValue, buffer, 1, 0, $0, $1) }
        let sent = wallClockNanoseconds()
        var packet = natlab_packet()
        var isStamped = false
        while natlab_receive_packet(watcher.rawValue, &buffer, buffer.count, &packet) == 0 {
            if packet.time <= sent { isStamped = true }
        }
        return isStamped
    }
}
