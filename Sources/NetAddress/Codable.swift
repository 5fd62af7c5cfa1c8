// In JSON each of these is its text: "203.0.113.1", "10.0.0.0/8", "203.0.113.1:51820".

/// A value whose JSON form is its text.
package protocol TextCodable: Codable, CustomStringConvertible {
    init?(text: String)
}

extension TextCodable {
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let value = Self(text: text) else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "not a \(Self.self): \(text)")
        }
        self = value
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

extension IPAddress: TextCodable { package init?(text: String) { self.init(text) } }
extension IPPrefix: TextCodable { package init?(text: String) { self.init(text) } }
extension Endpoint: TextCodable { package init?(text: String) { self.init(text) } }
