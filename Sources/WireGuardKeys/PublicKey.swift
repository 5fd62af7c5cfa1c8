import CSodium

/// A Curve25519 public key, as WireGuard and the rendezvous use it.
///
/// Not a secret.
package struct PublicKey: Hashable, Sendable {
    /// 32 bytes.
    package let bytes: [UInt8]

    /// Nil unless there are exactly 32 bytes.
    package init?(bytes: some Collection<UInt8>) {
        guard bytes.count == 32 else { return nil }
        self.bytes = Array(bytes)
    }

    /// Reads WireGuard's base64 text of exactly 44 characters; nil for anything else.
    package init?(base64 text: String) {
        guard text.utf8.count == 44 else { return nil }
        var bytes = [UInt8](repeating: 0, count: 32)
        var count = 0
        let status = sodium_base642bin(
            &bytes, bytes.count, text, text.utf8.count, nil, &count, nil, sodium_base64_VARIANT_ORIGINAL)
        guard status == 0, count == 32 else { return nil }
        self.bytes = bytes
    }

    /// WireGuard's base64 text, 44 characters.
    package var base64: String {
        var text = [CChar](repeating: 0, count: 45)
        sodium_bin2base64(&text, text.count, bytes, bytes.count, sodium_base64_VARIANT_ORIGINAL)
        return String(decoding: text.prefix(44).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

extension PublicKey: CustomStringConvertible {
    package var description: String { base64 }
}

extension PublicKey: Codable {
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        guard let key = PublicKey(base64: try container.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "not a WireGuard public key")
        }
        self = key
    }
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(base64)
    }
}
