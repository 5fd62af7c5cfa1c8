import CSodium

/// The Diffie-Hellman function of Noise's "25519" (RFC 7748 section 5; Noise rev 34, section 12.1).
package enum X25519 {
    /// Writes the 32-byte shared secret; false, with zeros written, for a public key of low order.
    package static func agree(
        privateKey: UnsafeRawPointer, publicKey: UnsafeRawPointer, into secret: UnsafeMutableRawPointer
    ) -> Bool {
        let status = crypto_scalarmult(
            secret.assumingMemoryBound(to: UInt8.self), privateKey.assumingMemoryBound(to: UInt8.self),
            publicKey.assumingMemoryBound(to: UInt8.self))
        if status != 0 { sodium_memzero(secret, 32) }
        return status == 0
    }

    /// Writes the 32-byte public key of a private one.
    package static func publicKey(of privateKey: UnsafeRawPointer, into publicKey: UnsafeMutableRawPointer) {
        crypto_scalarmult_base(
            publicKey.assumingMemoryBound(to: UInt8.self), privateKey.assumingMemoryBound(to: UInt8.self))
    }
}

/// Noise's "ChaChaPoly": ChaCha20-Poly1305 with the counter as a 96-bit nonce (RFC 8439; Noise rev 34, section 12.3).
package enum ChaChaPoly {
    /// What sealing adds, bytes.
    package static let tagSize = 16

    /// Writes `plaintext.count + 16` bytes.
    ///
    /// The output may be where the plaintext is.
    package static func seal(
        _ plaintext: UnsafeRawBufferPointer, key: UnsafeRawPointer, counter: UInt64,
        authenticating additional: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0),
        into output: UnsafeMutableRawPointer
    ) {
        _ = withNonce(counter) { nonce in
            crypto_aead_chacha20poly1305_ietf_encrypt(
                output.assumingMemoryBound(to: UInt8.self), nil, start(of: plaintext),
                UInt64(plaintext.count),
                start(of: additional), UInt64(additional.count), nil, nonce,
                key.assumingMemoryBound(to: UInt8.self))
        }
    }

    /// Writes `sealed.count - 16` bytes; false, with nothing to be used, when the tag is wrong or missing.
    package static func open(
        _ sealed: UnsafeRawBufferPointer, key: UnsafeRawPointer, counter: UInt64,
        authenticating additional: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0),
        into output: UnsafeMutableRawPointer
    ) -> Bool {
        guard sealed.count >= tagSize else { return false }
        return withNonce(counter) { nonce in
            crypto_aead_chacha20poly1305_ietf_decrypt(
                output.assumingMemoryBound(to: UInt8.self), nil, nil, start(of: sealed), UInt64(sealed.count),
                start(of: additional), UInt64(additional.count), nonce,
                key.assumingMemoryBound(to: UInt8.self))
                == 0
        }
    }

    /// Never nil: libsodium declares its inputs non-null, also where they have no bytes.
    private static func start(of buffer: UnsafeRawBufferPointer) -> UnsafePointer<UInt8> {
        (buffer.baseAddress ?? Self.nothing).assumingMemoryBound(to: UInt8.self)
    }
    nonisolated(unsafe) private static let nothing = UnsafeRawPointer(
        UnsafeMutableRawPointer.allocate(byteCount: 1, alignment: 1))

    /// Four zero bytes, then the counter, least significant byte first.
    private static func withNonce<R>(_ counter: UInt64, _ body: (UnsafePointer<UInt8>) -> R) -> R {
        var nonce: (UInt32, UInt32, UInt32) = (
            0, UInt32(truncatingIfNeeded: counter).littleEndian,
            UInt32(truncatingIfNeeded: counter >> 32).littleEndian
        )
        return withUnsafeBytes(of: &nonce) { bytes in
            guard let start = bytes.baseAddress else { preconditionFailure("a tuple of 12 bytes") }
            return body(start.assumingMemoryBound(to: UInt8.self))
        }
    }
}

/// Random bytes and wiping, for callers that import no library.
package enum Randomness {
    /// Fills the buffer from the kernel's generator.
    package static func fill(_ buffer: UnsafeMutableRawBufferPointer) {
        if let start = buffer.baseAddress { randombytes_buf(start, buffer.count) }
    }

    /// Zeroes memory that held a secret, in a way that the optimiser keeps.
    package static func wipe(_ buffer: UnsafeMutableRawBufferPointer) {
        if let start = buffer.baseAddress { sodium_memzero(start, buffer.count) }
    }

    /// Compares in constant time.
    package static func equal(_ left: UnsafeRawPointer, _ right: UnsafeRawPointer, count: Int) -> Bool {
        sodium_memcmp(left, right, count) == 0
    }
}
