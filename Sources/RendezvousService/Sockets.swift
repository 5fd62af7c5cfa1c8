import CNatlab
import Glibc
package import RendezvousProtocol
package import SystemCalls

/// The clocks, as the state machines are told them.
package enum Clock {
    package static func moment() -> Moment {
        Moment(
            monotonic: UInt64(bitPattern: MonotonicTime.now().nanoseconds),
            wall: UInt64(bitPattern: wallClockNanoseconds()))
    }

    /// A deadline of a state machine for the event loop.
    static func time(_ nanoseconds: UInt64) -> MonotonicTime {
        MonotonicTime(nanoseconds: Int64(clamping: nanoseconds))
    }
}

/// Memory for many received datagrams at once.
///
/// Not Sendable.
final class DatagramSlots {
    let count: Int
    private let size: Int
    private let memory: UnsafeMutableRawPointer
    private var sources: [natlab_datagram]

    /// - Parameter size: of the longest datagram of interest; a longer one arrives as one that is too long.
    init(count: Int, size: Int) {
        self.count = count
        // One byte more, so that one too long is seen to be.
        self.size = size + 1
        memory = UnsafeMutableRawPointer.allocate(byteCount: count * self.size, alignment: 16)
        sources = [natlab_datagram](repeating: natlab_datagram(), count: count)
    }

    deinit { memory.deallocate() }

    /// The number of datagrams received, or -errno; does not wait.
    func receive(from socket: Int32) -> Int {
        Int(natlab_receive_datagrams(socket, memory, size, &sources, UInt32(count)))
    }

    func bytes(_ index: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: memory + index * size, count: min(Int(sources[index].length), size))
    }

    func source(_ index: Int) -> WireAddress {
        WireAddress(ip: sources[index].address, port: sources[index].port)
    }

    /// Which of the own addresses it was sent to; 0 unless the socket reports that.
    func local(_ index: Int) -> UInt32 { sources[index].local }
}

/// IPv4 socket addresses.
enum SocketName {
    static func address(_ address: WireAddress) -> sockaddr_in {
        var result = sockaddr_in()
        result.sin_family = sa_family_t(AF_INET)
        result.sin_port = address.port.bigEndian
        result.sin_addr.s_addr = address.ip.bigEndian
        return result
    }

    /// The address a socket is bound to.
    ///
    /// The corresponding C function is `getsockname`.
    static func own(_ socket: Int32) throws(OperationFailure) -> WireAddress {
        var address = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let status = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(socket, $0, &length) }
        }
        guard status == 0 else { throw OperationFailure("read address of socket", "\(socket)", errno: errno) }
        return WireAddress(
            ip: UInt32(bigEndian: address.sin_addr.s_addr), port: UInt16(bigEndian: address.sin_port))
    }
}

/// The two sockets of a client, both of the namespace where its WireGuard interface sends from.
package struct ClientSockets: ~Copyable {
    /// SOCK_RAW, IPPROTO_UDP: sends from WireGuard's port, and sees what arrives there.
    let raw: Descriptor
    /// SOCK_DGRAM: never sends; asks the routing table for source addresses, which go into the UDP checksum.
    let probe: Descriptor

    package init(raw: consuming Descriptor, probe: consuming Descriptor) {
        self.raw = raw
        self.probe = probe
    }

    /// Opens them in a namespace, or in the process' own.
    ///
    /// Throws EPERM without CAP_NET_RAW.
    package static func open(in namespace: NetworkNamespace?) throws(OperationFailure) -> ClientSockets {
        let flags = Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let rawType = Int32(SOCK_RAW.rawValue) | flags
        let datagramType = Int32(SOCK_DGRAM.rawValue) | flags
        if let namespace {
            let raw = try namespace.socket(domain: AF_INET, type: rawType, protocol: Int32(IPPROTO_UDP))
            return ClientSockets(raw: raw, probe: try namespace.socket(domain: AF_INET, type: datagramType))
        }
        let raw = Glibc.socket(AF_INET, rawType, Int32(IPPROTO_UDP))
        guard raw >= 0 else {
            let code = errno
            throw OperationFailure(
                "open raw socket", "UDP", errno: code,
                mend: code == EPERM ? "run it as root: it sends from WireGuard's port" : nil)
        }
        let rawSocket = Descriptor(adopting: raw)
        let probe = Glibc.socket(AF_INET, datagramType, 0)
        guard probe >= 0 else { throw OperationFailure("open socket", "UDP", errno: errno) }
        return ClientSockets(raw: rawSocket, probe: Descriptor(adopting: probe))
    }
}
