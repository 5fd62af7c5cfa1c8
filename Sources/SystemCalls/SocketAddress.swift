package import Glibc
package import NetAddress

/// A transport address in the form the socket calls take (sockaddr_in, sockaddr_in6).
///
/// Source: ip(7), ipv6(7).
package struct SocketAddress: Sendable {
    private var storage = sockaddr_storage()
    /// The bytes of `storage` that count.
    package let length: socklen_t

    package init(_ endpoint: Endpoint) {
        if endpoint.address.isV4 {
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = endpoint.port.bigEndian
            withUnsafeMutableBytes(of: &address.sin_addr) { $0.copyBytes(from: endpoint.address.bytes) }
            length = socklen_t(MemoryLayout<sockaddr_in>.size)
            withUnsafeMutableBytes(of: &storage) { whole in
                withUnsafeBytes(of: address) { whole.copyMemory(from: $0) }
            }
        } else {
            var address = sockaddr_in6()
            address.sin6_family = sa_family_t(AF_INET6)
            address.sin6_port = endpoint.port.bigEndian
            withUnsafeMutableBytes(of: &address.sin6_addr) { $0.copyBytes(from: endpoint.address.bytes) }
            length = socklen_t(MemoryLayout<sockaddr_in6>.size)
            withUnsafeMutableBytes(of: &storage) { whole in
                withUnsafeBytes(of: address) { whole.copyMemory(from: $0) }
            }
        }
    }

    /// Lends the address for a socket call.
    package func withPointer<R>(_ body: (UnsafePointer<sockaddr>, socklen_t) throws -> R) rethrows -> R {
        try withUnsafePointer(to: storage) { whole in
            try whole.withMemoryRebound(to: sockaddr.self, capacity: 1) { try body($0, length) }
        }
    }

    /// Reads what a socket call has filled in; nil for families other than AF_INET and AF_INET6.
    package static func endpoint(of storage: sockaddr_storage) -> Endpoint? {
        withUnsafeBytes(of: storage) { bytes in
            switch Int32(storage.ss_family) {
            case AF_INET:
                let address = bytes.loadUnaligned(as: sockaddr_in.self)
                return IPAddress(bytes: withUnsafeBytes(of: address.sin_addr) { Array($0) })
                    .map { Endpoint($0, port: UInt16(bigEndian: address.sin_port)) }
            case AF_INET6:
                let address = bytes.loadUnaligned(as: sockaddr_in6.self)
                return IPAddress(bytes: withUnsafeBytes(of: address.sin6_addr) { Array($0) })
                    .map { Endpoint($0, port: UInt16(bigEndian: address.sin6_port)) }
            default: return nil
            }
        }
    }
}
