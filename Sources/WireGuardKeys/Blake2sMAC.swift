import CCrypto
package import SystemCalls

/// Keyed BLAKE2s with 16 bytes of output: WireGuard's MAC (RFC 7693 section 2.5; WireGuard paper, section 5.4).
///
/// Not Sendable.
package final class Blake2sMAC {
    /// Bytes of a MAC.
    package static let size = 16

    private let algorithm: OpaquePointer
    private let context: OpaquePointer

    /// Throws where OpenSSL has no BLAKE2SMAC (a FIPS configuration).
    package init() throws(OperationFailure) {
        guard let algorithm = EVP_MAC_fetch(nil, "BLAKE2SMAC", nil) else {
            throw OperationFailure(
                "fetch MAC", "BLAKE2SMAC", detail: "OpenSSL's libcrypto does not offer it",
                mend: "enable OpenSSL's default provider in /etc/ssl/openssl.cnf")
        }
        guard let context = EVP_MAC_CTX_new(algorithm) else {
            EVP_MAC_free(algorithm)
            throw OperationFailure("make MAC context", "BLAKE2SMAC", detail: "OpenSSL is out of memory")
        }
        self.algorithm = algorithm
        self.context = context
    }

    deinit {
        EVP_MAC_CTX_free(context)
        EVP_MAC_free(algorithm)
    }

    /// The MAC of a message under a key of at most 32 bytes.
    package func mac(key: [UInt8], _ message: UnsafeRawBufferPointer) -> [UInt8] {
        var output = [UInt8](repeating: 0, count: Self.size)
        var size = Self.size
        var written = 0
        let status = withUnsafeMutablePointer(to: &size) { size -> Int32 in
            let parameters = [OSSL_PARAM_construct_size_t("size", size), OSSL_PARAM_construct_end()]
            guard EVP_MAC_init(context, key, key.count, parameters) == 1,
                EVP_MAC_update(
                    context, message.baseAddress?.assumingMemoryBound(to: UInt8.self), message.count) == 1
            else { return 0 }
            return EVP_MAC_final(context, &output, &written, output.count)
        }
        // OpenSSL's BLAKE2s works on memory it already has: it has no way to fail on these inputs.
        precondition(status == 1 && written == Self.size, "OpenSSL refused to make a MAC")
        return output
    }
}
