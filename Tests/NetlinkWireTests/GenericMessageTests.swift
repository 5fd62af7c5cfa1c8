import NetlinkWire
import SystemCalls
import Testing

/// Bytes from annotated hex: what follows a `#` on a line is for the reader.
func genericHex(_ hex: String) -> [UInt8] {
    var digits: [UInt8] = []
    for line in hex.split(whereSeparator: \.isNewline) {
        let code = line.prefix { $0 != "#" }
        digits += code.compactMap(\.hexDigitValue).map(UInt8.init)
    }
    return stride(from: 0, to: digits.count - 1, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}

@Suite struct GenericMessageTests {
    @Test func layoutOfHeaderAttributesAndNests() {
        let message = GenericMessage(command: 7, version: 2)
        message.put(1, UInt8(0x11))
        message.put(2, UInt16(0x2233))
        message.put(3, UInt32(0x4455_6677))
        message.put(4, string: "wg0")
        let outer = message.beginNest(5)
        let inner = message.beginNest(0)
        message.put(6, [0xAA, 0xBB, 0xCC, 0xDD, 0xEE])
        message.endNest(inner)
        message.endNest(outer)
        message.stamp(type: 0x1A, flags: 0x0005, sequence: 9, port: 0x0102_0304)
        let expected = genericHex(
            """
            48 00 00 00   # nlmsg_len: 72
            1a 00         # nlmsg_type
            05 00         # nlmsg_flags
            09 00 00 00   # nlmsg_seq
            04 03 02 01   # nlmsg_pid
            07 02 00 00   # genlmsghdr: command, version, reserved
            05 00 01 00  11 00 00 00       # u8 and 3 bytes of padding
            06 00 02 00  33 22 00 00       # u16 and 2 bytes of padding
            08 00 03 00  77 66 55 44       # u32
            08 00 04 00  77 67 30 00       # "wg0" and its NUL
            14 00 05 80                    # nest of 20, NLA_F_NESTED
              10 00 00 80                  # nest of 16: its last attribute's padding counts
                09 00 06 00  aa bb cc dd ee 00 00 00
            """)
        #expect(message.withBytes { Array($0) } == expected)
        #expect(message.count == 72)
    }

    @Test func attributeLengthsAreAligned() {
        #expect([0, 1, 2, 4, 5, 32].map { GenericMessage.attributeLength($0) } == [4, 8, 8, 8, 12, 36])
    }

    @Test func printingAMessageShowsNoContent() {
        let message = GenericMessage(command: 1, version: 1)
        message.put(3, Array("SECRETSECRETSECRETSECRETSECRET12".utf8))
        var dumped = ""
        dump(message, to: &dumped)
        for text in [dumped, "\(message)", String(reflecting: message)] {
            #expect(!text.contains("SECRET") && !text.contains("83"), "\(text)")
        }
    }

    @Test func bytesSurviveGrowth() {
        let buffer = WipedBytes(capacity: 1)
        let wanted = (0..<5000).map { UInt8(truncatingIfNeeded: $0) }
        for byte in wanted { buffer.append(byte) }
        buffer.append(wanted)
        #expect(buffer.withBytes { Array($0) } == wanted + wanted)
    }
}

@Suite struct GenericAttributeTests {
    private func attributes(_ bytes: [UInt8]) throws(OperationFailure) -> [(type: UInt16, value: [UInt8])] {
        let copy = bytes
        var result: [(type: UInt16, value: [UInt8])] = []
        try copy.withGenericBytes { (raw) throws(OperationFailure) in
            var reader = GenericAttributeReader(raw)
            while let attribute = try reader.next() {
                result.append((attribute.type, Array(attribute.value)))
            }
        }
        return result
    }

    @Test func flagsAreMaskedAndPaddingSkipped() throws {
        let found = try attributes(genericHex("05 00 01 80  11 00 00 00  06 00 02 40  33 22"))
        #expect(found.map(\.type) == [1, 2])
        #expect(found.map(\.value) == [[0x11], [0x33, 0x22]])
    }

    @Test(arguments: [
        "03 00 01 00", "00 00 00 00", "09 00 01 00 aa bb cc dd", "ff ff 01 00", "08 00", "04 00 01 00 00",
    ])
    func badLengthsThrow(_ hex: String) {
        #expect(throws: OperationFailure.self) { try attributes(genericHex(hex)) }
    }

    @Test func integersNeedTheirExactWidth() throws {
        try genericHex("06 00 02 00  33 22 00 00").withGenericBytes { (raw) throws(OperationFailure) in
            var reader = GenericAttributeReader(raw)
            guard let attribute = try reader.next() else { throw .malformedNetlink("nothing there") }
            #expect(try attribute.integer(UInt16.self) == 0x2233)
            #expect(throws: OperationFailure.self) { try attribute.integer(UInt32.self) }
            #expect(throws: OperationFailure.self) { try attribute.integer(UInt8.self) }
        }
    }
}

extension Array where Element == UInt8 {
    func withGenericBytes<R>(
        _ body: (UnsafeRawBufferPointer) throws(OperationFailure) -> R
    ) throws(OperationFailure) -> R {
        let buffer = WipedBytes(capacity: count)
        buffer.append(self)
        return try buffer.withBytes(body)
    }
}
