import CCrypto
import Glibc
package import SystemCalls

/// BLAKE2s-256, HMAC and HKDF over it, as Noise uses them (RFC 7693; Noise rev 34, sections 4.3 and 12.8).
///
/// libsodium has no BLAKE2s. The digest is fetched once and one context reused: a fetch costs more than a hash. Not Sendable.
package final class Blake2s {
    /// Bytes of a hash.
    package static let hashSize = 32
    private static let blockSize = 64

    private let digest: OpaquePointer
    private let context: OpaquePointer
    /// Key pads and inner hashes of an HMAC: 64 + 64 + 32 bytes, then HKDF's temporary key and its input, 32 + 64.
    private let scratch = SecretBuffer(count: 256)

    /// Throws where OpenSSL has no BLAKE2S-256 (a FIPS configuration).
    package init() throws(OperationFailure) {
        guard let digest = EVP_MD_fetch(nil, "BLAKE2S-256", nil) else {
            throw OperationFailure(
                "fetch digest", "BLAKE2S-256", detail: "OpenSSL's libcrypto does not offer it",
                mend: "enable OpenSSL's default provider in /etc/ssl/openssl.cnf")
        }
        guard let context = EVP_MD_CTX_new() else {
            EVP_MD_free(digest)
            throw OperationFailure("make digest context", "BLAKE2S-256", detail: "OpenSSL is out of memory")
        }
        self.digest = digest
        self.context = context
    }

    deinit {
        EVP_MD_CTX_free(context)
        EVP_MD_free(digest)
    }

    /// The 32-byte hash of `first` followed by `second`.
    ///
    /// The output may be where an input is.
    package func hash(
        _ first: UnsafeRawBufferPointer,
        _ second: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0),
        into output: UnsafeMutableRawPointer
    ) {
        var status = EVP_DigestInit_ex2(context, digest, nil)
        if first.count > 0 { status &= EVP_DigestUpdate(context, first.baseAddress, first.count) }
        if second.count > 0 { status &= EVP_DigestUpdate(context, second.baseAddress, second.count) }
        status &= EVP_DigestFinal_ex(context, output.assumingMemoryBound(to: UInt8.self), nil)
        // OpenSSL's BLAKE2s works on memory it already has: it has no way to fail on these inputs.
        precondition(status == 1, "OpenSSL refused to hash")
    }

    /// HMAC-BLAKE2s (RFC 2104): 32 bytes.
    ///
    /// The key has at most 64 bytes; the output may be where an input is.
    package func hmac(
        key: UnsafeRawBufferPointer, _ message: UnsafeRawBufferPointer, into output: UnsafeMutableRawPointer
    ) {
        precondition(key.count <= Self.blockSize, "an HMAC key of at most one block")
        let inner = scratch.pointer(0), outer = scratch.pointer(Self.blockSize)
        memset(inner, 0, Self.blockSize)
        if let start = key.baseAddress { inner.copyMemory(from: start, byteCount: key.count) }
        for offset in stride(from: 0, to: Self.blockSize, by: 8) {
            let word = inner.load(fromByteOffset: offset, as: UInt64.self)
            inner.storeBytes(of: word ^ 0x3636_3636_3636_3636, toByteOffset: offset, as: UInt64.self)
            outer.storeBytes(of: word ^ 0x5C5C_5C5C_5C5C_5C5C, toByteOffset: offset, as: UInt64.self)
        }
        let hashed = scratch.pointer(2 * Self.blockSize)
        hash(UnsafeRawBufferPointer(start: inner, count: Self.blockSize), message, into: hashed)
        hash(
            UnsafeRawBufferPointer(start: outer, count: Self.blockSize),
            UnsafeRawBufferPointer(start: hashed, count: Self.hashSize), into: output)
    }

    /// Noise's HKDF with two outputs of 32 bytes each (Noise rev 34, section 4.3).
    ///
    /// Outputs may be where inputs are.
    package func hkdf(
        chainingKey: UnsafeRawBufferPointer, _ material: UnsafeRawBufferPointer,
        into first: UnsafeMutableRawPointer, _ second: UnsafeMutableRawPointer
    ) {
        let temporary = scratch.pointer(160), input = scratch.pointer(192)
        hmac(key: chainingKey, material, into: temporary)
        let key = UnsafeRawBufferPointer(start: temporary, count: Self.hashSize)
        input.storeBytes(of: 1, as: UInt8.self)
        hmac(key: key, UnsafeRawBufferPointer(start: input, count: 1), into: input)
        first.copyMemory(from: input, byteCount: Self.hashSize)
        input.storeBytes(of: 2, toByteOffset: Self.hashSize, as: UInt8.self)
        hmac(key: key, UnsafeRawBufferPointer(start: input, count: Self.hashSize + 1), into: second)
    }

    /// Wipes what the last calls left in the scratch memory.
    package func wipe() { scratch.wipe() }
}
