import CSodium

/// 32 secret bytes in locked, guarded memory that is wiped when it is freed.
///
/// Every print path shows "(redacted)". Source: libsodium, "Secure memory" (sodium_malloc, sodium_memcmp).
package class SecretBytes: @unchecked Sendable {
    // @unchecked: written only in init, before the object is shared; read-only (also to the MMU) afterwards.
    package final let memory: UnsafeMutableRawPointer

    /// Lets `fill` write the 32 bytes, then makes them read-only.
    package init(fill: (UnsafeMutableRawBufferPointer) throws -> Void) rethrows {
        precondition(sodium_init() >= 0, "libsodium could not be initialised")
        guard let memory = sodium_malloc(32) else { preconditionFailure("no memory for a key") }
        self.memory = memory
        // All stored properties are set, so deinit also runs, and frees, when this throws.
        try fill(UnsafeMutableRawBufferPointer(start: memory, count: 32))
        sodium_mprotect_readonly(memory)
    }

    deinit { sodium_free(memory) }

    /// Lends the 32 bytes; they must not outlive the call.
    package final func withBytes<R, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> R
    ) throws(Failure) -> R {
        defer { withExtendedLifetime(self) {} }
        return try body(UnsafeRawBufferPointer(start: memory, count: 32))
    }

    /// Compares in constant time.
    package final func isEqual(to other: SecretBytes) -> Bool {
        withBytes { mine in other.withBytes { sodium_memcmp(mine.baseAddress, $0.baseAddress, 32) == 0 } }
    }

    /// Copies 32 bytes in; nil unless there are exactly 32.
    ///
    /// The caller wipes the source.
    package convenience init?(copying source: UnsafeRawBufferPointer) {
        guard source.count == 32 else { return nil }
        self.init { $0.copyMemory(from: source) }
    }

    /// Reads WireGuard's base64 text (44 bytes, a newline after it allowed) without making a String of it; nil if it is not that.
    package convenience init?(base64 source: UnsafeRawBufferPointer) {
        var end = source.count
        while end > 0, source[end - 1] == 0x0A || source[end - 1] == 0x0D || source[end - 1] == 0x20 {
            end -= 1
        }
        guard end == 44, let text = source.baseAddress?.assumingMemoryBound(to: CChar.self) else {
            return nil
        }
        struct Malformed: Error {}
        do {
            try self.init { target in
                guard let start = target.baseAddress else { throw Malformed() }
                var count = 0
                let status = sodium_base642bin(
                    start, 32, text, 44, nil, &count, nil, sodium_base64_VARIANT_ORIGINAL)
                guard status == 0, count == 32 else { throw Malformed() }
            }
        } catch { return nil }
    }

    /// Lends the 44 base64 bytes, for a 0600 file or wireguard-go's socket; the buffer is wiped afterwards.
    package final func withBase64<R, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> R
    ) throws(Failure) -> R {
        // Freed, and thereby wiped, when the call ends.
        let text = SecretBuffer(count: 45)
        withExtendedLifetime(self) {
            _ = sodium_bin2base64(
                text.pointer().assumingMemoryBound(to: CChar.self), 45,
                memory.assumingMemoryBound(to: UInt8.self),
                32, sodium_base64_VARIANT_ORIGINAL)
        }
        return try body(UnsafeRawBufferPointer(rebasing: text.bytes[..<44]))
    }
}

extension SecretBytes: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    package var description: String { "(redacted)" }
    package var debugDescription: String { "(redacted)" }
    package var customMirror: Mirror {
        // Suppressed, because a generated ancestor would show the memory's address.
        Mirror(self, children: [], displayStyle: .class, ancestorRepresentation: .suppressed)
    }
}

/// A Curve25519 private key.
package final class PrivateKey: SecretBytes, @unchecked Sendable {
    /// A new key, clamped as X25519 asks (RFC 7748 section 5).
    package static func generate() -> PrivateKey {
        PrivateKey { bytes in
            Randomness.fill(bytes)
            bytes[0] &= 248
            bytes[31] = (bytes[31] & 127) | 64
        }
    }

    package var publicKey: PublicKey {
        var bytes = [UInt8](repeating: 0, count: 32)
        _ = withExtendedLifetime(self) {
            crypto_scalarmult_base(&bytes, memory.assumingMemoryBound(to: UInt8.self))
        }
        return PublicKey(bytes: bytes) ?? PublicKey.zero
    }
}

extension PublicKey {
    /// All zeros: no key.
    ///
    /// natpunch-go asks for it when it has no peers.
    package static let zero: PublicKey = {
        guard let key = PublicKey(bytes: [UInt8](repeating: 0, count: 32)) else {
            preconditionFailure("32 bytes")
        }
        return key
    }()
}

/// The optional symmetric key of a WireGuard peer (WireGuard paper, section 5.2).
package final class PresharedKey: SecretBytes, @unchecked Sendable {}
