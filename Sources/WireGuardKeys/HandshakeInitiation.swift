package import SystemCalls

/// A WireGuard handshake initiation, read as its responder reads it.
///
/// Its counters and cookies (mac2) are not looked at: whether a running WireGuard takes it is another question.
/// Source: WireGuard paper, sections 5.4.2 and 5.4.4.
package struct HandshakeInitiation: Hashable, Sendable {
    /// The sender's index of the session that is to be.
    package let sender: UInt32
    /// The key that the sender has proved to have.
    package let initiator: PublicKey
    /// The sender's wall time in nanoseconds since the Unix epoch; a responder takes only what is later than the last.
    ///
    /// Both WireGuards write TAI64N without leap seconds, 2^62 + 10 + Unix seconds, and zeros for the low 24 bits of the
    /// nanoseconds: so it is up to 16.8 ms early. Clamped to about 292 years from 1970.
    package let timestamp: Int64

    package enum Reading: Hashable, Sendable {
        case read(HandshakeInitiation)
        /// Made with another public key of the responder than that of this private one.
        case notForThisKey
        /// By someone who does not have the private key of the initiator that it names; or it was damaged on the way.
        case forged
        /// Not 148 bytes of that type.
        case notAnInitiation
    }

    /// Nil for what `reading` does not read.
    package init?(_ bytes: [UInt8], responder: PrivateKey) throws(OperationFailure) {
        guard case .read(let initiation) = try Self.reading(bytes, responder: responder) else { return nil }
        self = initiation
    }

    /// Reads a UDP payload.
    ///
    /// Throws where OpenSSL has no BLAKE2s.
    package static func reading(
        _ bytes: [UInt8], responder: PrivateKey
    ) throws(OperationFailure) -> Reading {
        guard bytes.count == HandshakeFormat.size, bytes.starts(with: HandshakeFormat.type) else {
            return .notAnInitiation
        }
        let publicKey = responder.publicKey
        guard
            try HandshakeFormat.mac1(of: bytes, responder: publicKey)
                == Array(bytes[HandshakeFormat.mac1..<HandshakeFormat.mac2])
        else { return .notForThisKey }
        let state = try HandshakeFormat.newState()
        defer { state.wipe() }
        var initiator = [UInt8](repeating: 0, count: 32)
        var time = [UInt8](repeating: 0, count: HandshakeFormat.timeSize)
        let isForThisKey = bytes.withUnsafeBytes { message in
            HandshakeFormat.begin(state, message, responder: publicKey)
            return initiator.withUnsafeMutableBytes { target in
                agree(state, responder, message.baseAddress, HandshakeFormat.ephemeral)
                    && open(state, message, HandshakeFormat.initiator..<HandshakeFormat.time, target)
            }
        }
        guard isForThisKey, let key = PublicKey(bytes: initiator) else { return .notForThisKey }
        let isGenuine = bytes.withUnsafeBytes { message in
            initiator.withUnsafeBytes { agree(state, responder, $0.baseAddress, 0) }
                && time.withUnsafeMutableBytes {
                    open(state, message, HandshakeFormat.time..<HandshakeFormat.mac1, $0)
                }
        }
        guard isGenuine else { return .forged }
        return .read(
            HandshakeInitiation(
                sender: bytes[4..<8].reversed().reduce(0) { $0 << 8 | UInt32($1) }, initiator: key,
                timestamp: HandshakeFormat.unixTime(time)))
    }

    private init(sender: UInt32, initiator: PublicKey, timestamp: Int64) {
        self.sender = sender
        self.initiator = initiator
        self.timestamp = timestamp
    }

    private static func agree(
        _ state: NoiseState, _ own: PrivateKey, _ bytes: UnsafeRawPointer?, _ offset: Int
    ) -> Bool {
        own.withBytes { key in
            guard let own = key.baseAddress, let bytes else { return false }
            return state.mixAgreement(privateKey: own, publicKey: bytes + offset)
        }
    }

    private static func open(
        _ state: NoiseState, _ message: UnsafeRawBufferPointer, _ range: Range<Int>,
        _ target: UnsafeMutableRawBufferPointer
    ) -> Bool {
        guard let target = target.baseAddress else { return false }
        return state.decryptAndHash(UnsafeRawBufferPointer(rebasing: message[range]), into: target)
    }
}

/// Where what is in an initiation, and what it is made of (WireGuard paper, sections 5.4 and 5.4.2).
package enum HandshakeFormat {
    package static let size = 148
    /// A little-endian word.
    package static let type: [UInt8] = [1, 0, 0, 0]

    // Offsets.
    package static let ephemeral = 8
    package static let initiator = 40
    package static let time = 88
    package static let mac1 = 116
    package static let mac2 = 132

    /// Bytes of TAI64N: big-endian seconds, 8, and nanoseconds, 4.
    package static let timeSize = 12
    /// What Unix time 0 is in it, for WireGuard: 1970 was 10 s behind TAI, and later leap seconds are left out.
    private static let epoch: UInt64 = (1 << 62) + 10

    package static func newState() throws(OperationFailure) -> NoiseState {
        try NoiseState(
            name: "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s", prologue: "WireGuard v1 zx2c4 Jason@zx2c4.com")
    }

    /// Begins with the ephemeral key that is in the message; it goes into the key, too, as in all handshakes with a
    /// preshared key (Noise rev 34, section 9.2).
    package static func begin(
        _ state: NoiseState, _ message: UnsafeRawBufferPointer, responder: PublicKey
    ) {
        responder.bytes.withUnsafeBytes { key in
            guard let key = key.baseAddress, let start = message.baseAddress else { return }
            state.begin(responder: key)
            state.mixHash(UnsafeRawBufferPointer(start: start + ephemeral, count: 32))
            state.mixKey(start + ephemeral)
        }
    }

    /// Of the bytes before it.
    package static func mac1(of bytes: [UInt8], responder: PublicKey) throws(OperationFailure) -> [UInt8] {
        let blake = try Blake2s()
        var key = [UInt8](repeating: 0, count: Blake2s.hashSize)
        Array("mac1----".utf8).withUnsafeBytes { label in
            responder.bytes.withUnsafeBytes { responder in
                key.withUnsafeMutableBytes { target in
                    if let target = target.baseAddress { blake.hash(label, responder, into: target) }
                }
            }
        }
        let code = try Blake2sMAC()
        return bytes.withUnsafeBytes { code.mac(key: key, UnsafeRawBufferPointer(rebasing: $0[..<mac1])) }
    }

    /// Nanoseconds since the Unix epoch.
    static func unixTime(_ bytes: [UInt8]) -> Int64 {
        let seconds = bytes[..<8].reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
        let nanoseconds = bytes[8...].reduce(0 as Int128) { $0 << 8 | Int128($1) }
        return Int64(clamping: (Int128(seconds) - Int128(epoch)) * 1_000_000_000 + nanoseconds)
    }

    /// TAI64N of a Unix time.
    package static func timestamp(_ unixTime: Int64) -> [UInt8] {
        let (seconds, nanoseconds) = unixTime.quotientAndRemainder(dividingBy: 1_000_000_000)
        let whole = nanoseconds < 0 ? seconds - 1 : seconds
        let rest = UInt32(nanoseconds < 0 ? nanoseconds + 1_000_000_000 : nanoseconds)
        let label = epoch &+ UInt64(bitPattern: whole)
        return (0..<8).map { UInt8(truncatingIfNeeded: label >> (56 - 8 * UInt64($0))) }
            + (0..<4).map { UInt8(truncatingIfNeeded: rest >> (24 - 8 * UInt32($0))) }
    }
}
