import FoundationEssentials
import NetAddress
import RendezvousProtocol
import Testing
import WireGuardKeys

/// The transcripts of natpunch.json, made with an independent Noise implementation.
struct Vectors: Decodable {
    struct Lookup: Decodable {
        var counter: UInt64
        var endpoint: String
        var reply: Hex
        var request: Hex
    }
    struct Vector: Decodable {
        var assignedIndex: UInt32
        var clientEphemeralPrivate: Hex
        var clientPrivate: Hex
        var clientPublic: Hex
        var handshakeHash: Hex
        var `init`: Hex
        var lookups: [Lookup]
        var proposedIndex: UInt32
        var response: Hex
        var serverEphemeralPrivate: Hex
        var serverPrivate: Hex
        var serverPublic: Hex
        var targetPublic: Hex
        var timestampNs: String
    }
    var prologue: String
    var `protocol`: String
    var vectors: [Vector]

    static let all: Vectors = {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        do {
            return try decoder.decode(Vectors.self, from: Data(PackageResources.natpunch_json))
        } catch {
            preconditionFailure("natpunch.json: \(error)")
        }
    }()
}

/// Bytes written as hexadecimal digits.
struct Hex: Decodable, Hashable {
    var bytes: [UInt8]

    init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        let digits = Array(text.utf8)
        bytes = try stride(from: 0, to: digits.count, by: 2).map { index in
            guard let byte = UInt8(String(decoding: digits[index..<(index + 2)], as: UTF8.self), radix: 16)
            else {
                throw DecodingError.dataCorrupted(
                    .init(codingPath: decoder.codingPath, debugDescription: "not hexadecimal"))
            }
            return byte
        }
    }

    var privateKey: PrivateKey {
        get throws { try #require(bytes.withUnsafeBytes { PrivateKey(copying: $0) }) }
    }
    var publicKey: PublicKey {
        get throws { try #require(PublicKey(bytes: bytes)) }
    }
}

/// Hands out prepared "random" bytes in order; runs out loudly.
final class Script {
    private var bytes: ArraySlice<UInt8>
    init(_ parts: [UInt8]...) { bytes = parts.joined().reduce(into: []) { $0.append($1) }[...] }

    func fill(_ buffer: UnsafeMutableRawBufferPointer) {
        precondition(bytes.count >= buffer.count, "the script has no more bytes")
        for index in buffer.indices { buffer[index] = bytes.removeFirst() }
    }
}

func bigEndian<Word: FixedWidthInteger>(_ word: Word) -> [UInt8] {
    withUnsafeBytes(of: word.bigEndian) { Array($0) }
}
