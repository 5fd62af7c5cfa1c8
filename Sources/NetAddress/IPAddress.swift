/// An IPv4 or IPv6 address.
///
/// Source: RFC 791 section 3.2, RFC 4291 section 2; text per RFC 5952.
package struct IPAddress: Hashable, Sendable {
    // Inline, not an array: a mesh of 1,000 hosts has a million allowed IPs.
    private let high: UInt64
    private let low: UInt64
    package let isV4: Bool

    /// The address made of these bytes, most significant first; nil unless there are exactly 4 or 16.
    package init?(bytes: [UInt8]) {
        guard bytes.count == 4 || bytes.count == 16 else { return nil }
        self.init(bits: bytes.reduce(0) { $0 << 8 | UInt128($1) }, isV4: bytes.count == 4)
    }

    /// An IPv4 address from its 32 bits, host byte order: 0xCB00_7101 is 203.0.113.1.
    package init(v4: UInt32) { self.init(bits: UInt128(v4), isV4: true) }

    /// The address with this value; for IPv4 only the low 32 bits count.
    init(bits: UInt128, isV4: Bool) {
        high = isV4 ? 0 : UInt64(truncatingIfNeeded: bits >> 64)
        low = isV4 ? UInt64(UInt32(truncatingIfNeeded: bits)) : UInt64(truncatingIfNeeded: bits)
        self.isV4 = isV4
    }

    /// Reads "203.0.113.1" or "2001:db8::1"; nil for anything else.
    ///
    /// Leading zeros in an IPv4 part are refused (ambiguous: octal to inet_aton), so is a zone.
    package init?(_ text: some StringProtocol) {
        if text.utf8.contains(UInt8(ascii: ":")) {
            guard let bytes = Self.parseV6(String(text)) else { return nil }
            self.init(bytes: bytes)
        } else {
            guard let bits = Self.parseV4(text.utf8) else { return nil }
            self.init(v4: bits)
        }
    }

    /// 4 bytes (IPv4) or 16 bytes (IPv6), most significant first.
    package var bytes: [UInt8] {
        let count = isV4 ? 4 : 16
        return (0..<count).map { UInt8(truncatingIfNeeded: bits >> UInt128(8 * (count - 1 - $0))) }
    }

    var bits: UInt128 { UInt128(high) << 64 | UInt128(low) }

    /// 32 or 128.
    package var bitWidth: Int { isV4 ? 32 : 128 }
    /// The 32 bits of an IPv4 address in host byte order; nil for IPv6.
    package var v4Bits: UInt32? { isV4 ? UInt32(truncatingIfNeeded: low) : nil }

    /// 0.0.0.0 or ::.
    package var isUnspecified: Bool { high == 0 && low == 0 }
    /// 224.0.0.0/4 or ff00::/8.
    package var isMulticast: Bool { isV4 ? low >> 28 == 0xE : high >> 56 == 0xFF }
    /// 127.0.0.0/8 or ::1.
    package var isLoopback: Bool { isV4 ? low >> 24 == 127 : high == 0 && low == 1 }

    /// The address `offset` further on; nil past the end of the address space.
    package func advanced(by offset: UInt64) -> IPAddress? {
        let (sum, overflow) = bits.addingReportingOverflow(UInt128(offset))
        guard !overflow, !isV4 || sum <= UInt128(UInt32.max) else { return nil }
        return IPAddress(bits: sum, isV4: isV4)
    }

    private static func parseV4(_ text: some Collection<UInt8>) -> UInt32? {
        var bits: UInt32 = 0
        var parts = 0
        var value: UInt32 = 0
        var digits = 0
        func closed() -> Bool { (1...3).contains(digits) && value <= 255 }
        for byte in text {
            if byte == UInt8(ascii: ".") {
                guard closed(), parts < 3 else { return nil }
                bits = bits << 8 | value
                parts += 1
                value = 0
                digits = 0
            } else {
                guard (0x30...0x39).contains(byte), digits < 3, !(digits > 0 && value == 0) else {
                    return nil
                }
                value = value * 10 + UInt32(byte - 0x30)
                digits += 1
            }
        }
        return parts == 3 && closed() ? bits << 8 | value : nil
    }

    private static func parseV6(_ text: String) -> [UInt8]? {
        let halves = text.split(separator: "::", omittingEmptySubsequences: false).map(String.init)
        guard halves.count <= 2 else { return nil }
        guard let head = groups(halves[0], last: halves.count == 1) else { return nil }
        guard halves.count == 2 else { return head.count == 16 ? head : nil }
        guard let tail = groups(halves[1], last: true), head.count + tail.count <= 14 else { return nil }
        return head + [UInt8](repeating: 0, count: 16 - head.count - tail.count) + tail
    }

    /// The bytes of "1:2:3"; only the `last` part of an address may end in a dotted IPv4 address.
    private static func groups(_ text: String, last: Bool) -> [UInt8]? {
        guard !text.isEmpty else { return [] }
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count <= 8 else { return nil }
        var bytes: [UInt8] = []
        for (index, part) in parts.enumerated() {
            if last, index == parts.count - 1, part.contains(".") {
                guard let v4 = parseV4(part.utf8) else { return nil }
                bytes += IPAddress(v4: v4).bytes
                continue
            }
            guard (1...4).contains(part.utf8.count),
                part.utf8.allSatisfy({ $0 != UInt8(ascii: "+") && $0 != UInt8(ascii: "-") }),
                let value = UInt16(part, radix: 16)
            else { return nil }
            bytes += [UInt8(value >> 8), UInt8(truncatingIfNeeded: value)]
        }
        return bytes
    }
}

extension IPAddress: CustomStringConvertible {
    /// Dotted decimal, or RFC 5952's canonical text.
    package var description: String {
        if isV4 { return "\(low >> 24).\(low >> 16 & 255).\(low >> 8 & 255).\(low & 255)" }
        let bytes = bytes
        let groups = stride(from: 0, to: 16, by: 2).map { UInt16(bytes[$0]) << 8 | UInt16(bytes[$0 + 1]) }
        // RFC 5952 section 4.2.3: the longest run of two or more zero groups, the first of equals.
        var best = 0..<0
        var start = 0
        while start < 8 {
            guard groups[start] == 0 else {
                start += 1
                continue
            }
            var end = start
            while end < 8, groups[end] == 0 { end += 1 }
            if end - start > best.count, end - start > 1 { best = start..<end }
            start = end
        }
        func hex(_ slice: ArraySlice<UInt16>) -> String {
            slice.map { String($0, radix: 16) }.joined(separator: ":")
        }
        // RFC 5952 section 5: the well-known prefix of mapped addresses keeps the dotted form.
        if high == 0, low >> 32 == 0xFFFF {
            return "::ffff:\(IPAddress(v4: UInt32(truncatingIfNeeded: low)))"
        }
        guard !best.isEmpty else { return hex(groups[...]) }
        return hex(groups[..<best.lowerBound]) + "::" + hex(groups[best.upperBound...])
    }
}

extension IPAddress: Comparable {
    /// IPv4 before IPv6, then by value.
    package static func < (left: IPAddress, right: IPAddress) -> Bool {
        left.isV4 == right.isV4 ? left.bits < right.bits : left.isV4
    }
}
