/// Bytes written as hex; what follows `//` on a line is for the reader.
func routeBytes(_ text: String) -> [UInt8] {
    var digits: [UInt8] = []
    for line in text.split(separator: "\n") {
        var rest = line[...]
        if let comment = rest.firstRange(of: "//") { rest = rest[..<comment.lowerBound] }
        digits += rest.compactMap { $0.hexDigitValue.map { UInt8($0) } }
    }
    return stride(from: 0, to: digits.count - 1, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}
