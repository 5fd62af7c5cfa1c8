import NetAddress

extension [UInt8] {
    mutating func append16(_ value: UInt16) {
        append(UInt8(value >> 8))
        append(UInt8(truncatingIfNeeded: value))
    }

    mutating func append32(_ value: UInt32) {
        append16(UInt16(value >> 16))
        append16(UInt16(truncatingIfNeeded: value))
    }

    mutating func put16(_ value: UInt16, at offset: Int) {
        self[offset] = UInt8(value >> 8)
        self[offset + 1] = UInt8(truncatingIfNeeded: value)
    }

    /// In network byte order; the caller has checked that the bytes are there.
    func number16(at offset: Int) -> UInt16 { UInt16(self[offset]) << 8 | UInt16(self[offset + 1]) }

    func number32(at offset: Int) -> UInt32 {
        UInt32(number16(at: offset)) << 16 | UInt32(number16(at: offset + 2))
    }

    func address(at offset: Int) -> IPAddress { IPAddress(v4: number32(at: offset)) }

    /// The Internet checksum of these bytes with `initial` (16-bit words already added up) before them.
    ///
    /// Source: RFC 1071.
    func internetChecksum(initial: UInt32 = 0) -> UInt16 {
        var sum = initial
        for index in stride(from: 0, to: count, by: 2) {
            sum += UInt32(self[index]) << 8 | (index + 1 < count ? UInt32(self[index + 1]) : 0)
        }
        while sum >> 16 != 0 { sum = (sum & 0xFFFF) + (sum >> 16) }
        return ~UInt16(truncatingIfNeeded: sum)
    }
}
