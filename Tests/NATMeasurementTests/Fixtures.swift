import NetAddress
import Testing

/// Bytes written as hex; what follows `//` on a line is for the reader.
func bytes(_ text: String) -> [UInt8] {
    var digits: [UInt8] = []
    for line in text.split(separator: "\n") {
        var rest = line[...]
        if let comment = rest.firstRange(of: "//") { rest = rest[..<comment.lowerBound] }
        digits += rest.compactMap { $0.hexDigitValue.map { UInt8($0) } }
    }
    return stride(from: 0, to: digits.count - 1, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}

let host = IPAddress(v4: 0xC0A8_01F0)
let secondHost = IPAddress(v4: 0xC0A8_01F1)
let remote = IPAddress(v4: 0xCB00_71F0)

/// An endpoint of the router's external address.
func external(_ port: UInt16) -> Endpoint { Endpoint(IPAddress(v4: 0xCB00_710A), port: port) }
