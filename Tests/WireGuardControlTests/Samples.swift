import NetAddress
import NetlinkWire
import SystemCalls
import WireGuardKeys

/// What a sample's text was not; makes a test fail without a force unwrap.
struct BadSample: Error { let text: String }

/// Bytes from annotated hex: what follows a `#` on a line is for the reader.
func hex(_ text: String) -> [UInt8] {
    var digits: [UInt8] = []
    for line in text.split(whereSeparator: \.isNewline) {
        digits += line.prefix { $0 != "#" }.compactMap(\.hexDigitValue).map(UInt8.init)
    }
    return stride(from: 0, to: digits.count - 1, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}

func publicKey(_ byte: UInt8) throws -> PublicKey {
    guard let key = PublicKey(bytes: [UInt8](repeating: byte, count: 32)) else {
        throw BadSample(text: "key")
    }
    return key
}

/// A public key for each number.
func publicKey(number: Int) throws -> PublicKey {
    let bytes = [UInt8(truncatingIfNeeded: number >> 8), UInt8(truncatingIfNeeded: number)]
    guard let key = PublicKey(bytes: bytes + [UInt8](repeating: 0x5A, count: 30)) else {
        throw BadSample(text: "key \(number)")
    }
    return key
}

func privateKey(_ byte: UInt8) -> PrivateKey {
    PrivateKey { for index in $0.indices { $0[index] = byte } }
}

func presharedKey(_ byte: UInt8) -> PresharedKey {
    PresharedKey { for index in $0.indices { $0[index] = byte } }
}

func prefix(_ text: String) throws -> IPPrefix {
    guard let prefix = IPPrefix(text) else { throw BadSample(text: text) }
    return prefix
}

func endpoint(_ text: String) throws -> Endpoint {
    guard let endpoint = Endpoint(text) else { throw BadSample(text: text) }
    return endpoint
}

/// Repeatable pseudo-random numbers, so that a failure can be run again.
struct Generator: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
