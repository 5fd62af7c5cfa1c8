package import NetAddress
package import WireGuardKeys

/// The time as a state machine is told it; it never looks at a clock itself.
package struct Moment: Hashable, Sendable {
    /// CLOCK_MONOTONIC or anything else that never goes back, nanoseconds.
    package var monotonic: UInt64
    /// Since the Unix epoch, nanoseconds; may jump.
    package var wall: UInt64

    package init(monotonic: UInt64, wall: UInt64) {
        self.monotonic = monotonic
        self.wall = wall
    }
}

/// Fills a buffer with random bytes: the kernel's in a program, reproducible ones in a test.
package typealias RandomSource = (UnsafeMutableRawBufferPointer) -> Void

/// An IPv4 address and UDP port without a heap allocation: all that natpunch-go's wire format can carry.
package struct WireAddress: Hashable, Sendable {
    /// Host byte order: 0xCB00_7101 is 203.0.113.1.
    package var ip: UInt32
    package var port: UInt16

    package init(ip: UInt32, port: UInt16) {
        self.ip = ip
        self.port = port
    }

    /// Nil for IPv6.
    package init?(_ endpoint: Endpoint) {
        guard let bits = endpoint.address.v4Bits else { return nil }
        self.init(ip: bits, port: endpoint.port)
    }

    package var endpoint: Endpoint { Endpoint(IPAddress(v4: ip), port: port) }

    /// Whether a peer can be there at all: not 0.0.0.0, multicast or broadcast, and not port 0.
    package var isUsable: Bool { ip != 0 && ip < 0xE000_0000 && port != 0 }
}

extension WireAddress: CustomStringConvertible {
    package var description: String { endpoint.description }
}

/// A public key as four words: hashed and compared without a heap allocation.
package struct RawKey: Hashable, Sendable {
    private var words: (UInt64, UInt64, UInt64, UInt64)

    package static let zero = RawKey()
    private init() { words = (0, 0, 0, 0) }

    /// Reads 32 bytes.
    package init(_ bytes: UnsafeRawPointer) {
        words = (
            bytes.loadUnaligned(as: UInt64.self), bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self),
            bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self),
            bytes.loadUnaligned(fromByteOffset: 24, as: UInt64.self)
        )
    }

    package init(_ key: PublicKey) {
        self.init()
        withUnsafeMutableBytes(of: &words) { $0.copyBytes(from: key.bytes) }
    }

    package var publicKey: PublicKey {
        withUnsafeBytes(of: words) { PublicKey(bytes: $0) } ?? PublicKey.zero
    }

    /// Writes 32 bytes.
    package func store(to target: UnsafeMutableRawPointer) {
        withUnsafeBytes(of: words) { bytes in
            if let start = bytes.baseAddress { target.copyMemory(from: start, byteCount: 32) }
        }
    }

    /// Lends the 32 bytes.
    func withBytes(_ body: (UnsafeRawPointer) -> Void) {
        withUnsafeBytes(of: words) { bytes in
            if let start = bytes.baseAddress { body(start) }
        }
    }

    package static func == (left: RawKey, right: RawKey) -> Bool { left.words == right.words }

    package func hash(into hasher: inout Hasher) {
        hasher.combine(words.0)
        hasher.combine(words.1)
        hasher.combine(words.2)
        hasher.combine(words.3)
    }
}

extension UnsafeRawPointer {
    /// A big-endian integer, as in the headers of natpunch-go's messages.
    func bigEndian<Word: FixedWidthInteger>(at offset: Int, as type: Word.Type = Word.self) -> Word {
        Word(bigEndian: loadUnaligned(fromByteOffset: offset, as: Word.self))
    }

    func bytes(_ offset: Int, _ count: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: self + offset, count: count)
    }
}

extension UnsafeMutableRawPointer {
    func storeBigEndian<Word: FixedWidthInteger>(_ word: Word, at offset: Int) {
        storeBytes(of: word.bigEndian, toByteOffset: offset, as: Word.self)
    }
}
