import Glibc
package import LabPlanner
package import NetAddress
package import SystemCalls

/// Opens the sockets that echoes go through, and reads them.
package enum EchoSocket {
    /// A raw ICMP or ICMPv6 socket in the tunnel's namespace, bound to its interface (SO_BINDTODEVICE, socket(7)).
    ///
    /// What it sends leaves by this interface or not at all, and lives for one hop only (IP_TTL, ip(7);
    /// IPV6_UNICAST_HOPS, ipv6(7)): a peer that forwards it, as a hub does, has to turn it back. The kernel stamps what
    /// arrives. The caller closes it. Nil when there is no such interface: then its WireGuard cannot be read either,
    /// and that says more.
    package static func open(in tunnel: PlannedTunnel) throws(OperationFailure) -> Int32? {
        let isV4 = tunnel.address.address.isV4
        let socket = try NetworkNamespace(tunnel.namespace).socket(
            domain: isV4 ? AF_INET : AF_INET6,
            type: Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue),
            protocol: isV4 ? Int32(IPPROTO_ICMP) : Int32(IPPROTO_ICMPV6))
        let name = tunnel.interface
        guard setsockopt(socket.rawValue, SOL_SOCKET, SO_BINDTODEVICE, name, socklen_t(name.utf8.count)) == 0
        else {
            let code = errno
            if code == ENODEV { return nil }
            throw OperationFailure("bind to interface", name, namespace: tunnel.namespace, errno: code)
        }
        let (level, option) =
            isV4 ? (Int32(IPPROTO_IP), IP_TTL) : (Int32(IPPROTO_IPV6), IPV6_UNICAST_HOPS)
        for (level, option) in [(level, option), (SOL_SOCKET, timestamps)] {
            var one: Int32 = 1
            guard
                setsockopt(
                    socket.rawValue, level, option, &one, socklen_t(MemoryLayout.size(ofValue: one))) == 0
            else {
                throw OperationFailure(
                    "set socket option", "\(option)", namespace: tunnel.namespace, errno: errno)
            }
        }
        return socket.take()
    }

    /// SO_TIMESTAMPNS and SCM_TIMESTAMPNS of asm-generic/socket.h for 64-bit machines: <time.h>'s timespec.
    private static let timestamps: Int32 = 35

    /// A datagram that has arrived.
    package struct Arrival: Sendable {
        package var bytes: [UInt8]
        package var from: IPAddress?
        /// When the kernel got it, nanoseconds since the Unix epoch: however long it has waited to be read.
        package var time: Int64
    }

    /// The next datagram of a socket of `open(in:)`, without waiting; nil when there is none.
    package static func receive(_ socket: Int32) -> Arrival? {
        var bytes = [UInt8](repeating: 0, count: 2048)
        // Of 8-byte words, as struct cmsghdr has to be aligned.
        var control = [UInt64](repeating: 0, count: 32)
        var sender = sockaddr_storage()
        let (length, controlLength) = bytes.withUnsafeMutableBytes { buffer in
            control.withUnsafeMutableBytes { space in
                withUnsafeMutablePointer(to: &sender) { name in
                    var part = iovec(iov_base: buffer.baseAddress, iov_len: buffer.count)
                    return withUnsafeMutablePointer(to: &part) { parts in
                        var message = msghdr()
                        message.msg_name = UnsafeMutableRawPointer(name)
                        message.msg_namelen = socklen_t(MemoryLayout<sockaddr_storage>.size)
                        message.msg_iov = parts
                        message.msg_iovlen = 1
                        message.msg_control = space.baseAddress
                        message.msg_controllen = space.count
                        let length = recvmsg(socket, &message, Int32(MSG_DONTWAIT))
                        return (length, Int(message.msg_controllen))
                    }
                }
            }
        }
        guard length > 0 else { return nil }
        let stamp = control.withUnsafeBytes {
            time(in: UnsafeRawBufferPointer(rebasing: $0[..<controlLength]))
        }
        return Arrival(
            bytes: Array(bytes[..<length]), from: SocketAddress.endpoint(of: sender)?.address,
            time: stamp ?? wallClockNanoseconds())
    }

    /// The time stamp among the control messages (cmsg(3)).
    private static func time(in control: UnsafeRawBufferPointer) -> Int64? {
        let header = MemoryLayout<cmsghdr>.size
        var offset = 0
        while offset + header <= control.count {
            let message = control.loadUnaligned(fromByteOffset: offset, as: cmsghdr.self)
            let length = Int(message.cmsg_len)
            guard length >= header, offset + length <= control.count else { return nil }
            if message.cmsg_level == SOL_SOCKET, message.cmsg_type == timestamps,
                length >= header + MemoryLayout<timespec>.size
            {
                let time = control.loadUnaligned(fromByteOffset: offset + header, as: timespec.self)
                return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
            }
            offset += (length + 7) & ~7
        }
        return nil
    }
}
