import Glibc
import NetlinkWire
import SystemCalls
import Testing

@Suite struct GenericAnswerTests {
    private enum Seen: Equatable {
        case attributes([UInt8]), acknowledgement(Int32, String?), done(Int32, String?), other(UInt16)
    }

    private func answers(
        _ bytes: [UInt8]
    ) throws(OperationFailure) -> [(sequence: UInt32, interrupted: Bool, seen: Seen)] {
        var result: [(sequence: UInt32, interrupted: Bool, seen: Seen)] = []
        try bytes.withGenericBytes { (raw) throws(OperationFailure) in
            var reader = GenericAnswerReader(raw, family: 0x1A)
            while let answer = try reader.next() {
                let seen: Seen =
                    switch answer.content {
                    case .attributes(let payload): .attributes(Array(payload))
                    case .acknowledgement(let code, let text): .acknowledgement(code, text)
                    case .done(let code, let text): .done(code, text)
                    case .other(let type): .other(type)
                    }
                result.append((answer.sequence, answer.interrupted, seen))
            }
        }
        return result
    }

    private static let dump = genericHex(
        """
        1c 00 00 00  1a 00  02 00  07 00 00 00  01 00 00 00   # length 28, the family, NLM_F_MULTI, sequence 7
          00 01 00 00                                         # genlmsghdr
          08 00 01 00  05 00 00 00                            # one attribute
        14 00 00 00  1a 00  12 00  07 00 00 00  01 00 00 00   # NLM_F_MULTI | NLM_F_DUMP_INTR
          00 01 00 00
        14 00 00 00  03 00  02 00  07 00 00 00  01 00 00 00   # NLMSG_DONE
          00 00 00 00
        """)

    @Test func aDumpIsReadMessageByMessage() throws {
        let found = try answers(Self.dump)
        #expect(found.map(\.sequence) == [7, 7, 7])
        #expect(found.map(\.interrupted) == [false, true, false])
        #expect(
            found.map(\.seen) == [.attributes([8, 0, 1, 0, 5, 0, 0, 0]), .attributes([]), .done(0, nil)])
    }

    @Test func anErrorKeepsTheKernelsTextAndOffset() throws {
        let capped = genericHex(
            """
            38 00 00 00  02 00  00 03  09 00 00 00  01 00 00 00   # length 56, NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS
              ea ff ff ff                                         # -22
              2c 00 00 00  1a 00  05 00  09 00 00 00  00 00 00 00 # the request's header; its payload is left out
              0b 00 01 00  6e 6f 20 6b 65 79 00 00                # NLMSGERR_ATTR_MSG "no key"
              08 00 02 00  1c 00 00 00                            # NLMSGERR_ATTR_OFFS 28
            """)
        #expect(
            try answers(capped).map(\.seen)
                == [.acknowledgement(EINVAL, "no key (at byte 28 of the request)")])
    }

    @Test func anErrorThatRepeatsTheRequestIsReadToo() throws {
        let whole = Self.relength(
            genericHex(
                """
                00 00 00 00  02 00  00 02  09 00 00 00  01 00 00 00   # NLM_F_ACK_TLVS without NLM_F_CAPPED
                  ed ff ff ff                                         # -19
                  18 00 00 00  1a 00  05 00  09 00 00 00  00 00 00 00 # the request's header: 24 bytes
                  00 01 00 00  00 00 00 00                            # and its payload
                  08 00 01 00  67 6f 6e 00                            # "gon"
                """))
        #expect(try answers(whole).map(\.seen) == [.acknowledgement(ENODEV, "gon")])
    }

    @Test func aDumpMayEndWithAnError() throws {
        let done = Self.relength(
            genericHex(
                """
                00 00 00 00  03 00  02 02  09 00 00 00  01 00 00 00   # NLMSG_DONE, NLM_F_MULTI | NLM_F_ACK_TLVS
                  a1 ff ff ff                                         # -95
                  08 00 01 00  77 67 3f 00                            # "wg?"
                """))
        #expect(try answers(done).map(\.seen) == [.done(EOPNOTSUPP, "wg?")])
    }

    @Test func otherTypesAreToldApart() throws {
        let noop = Self.relength(genericHex("00000000 0100 0000 09000000 00000000"))
        #expect(try answers(noop).map(\.seen) == [.other(1)])
    }

    @Test func everyTruncationEitherReadsLessOrThrows() {
        for end in 1..<Self.dump.count {
            let part = Array(Self.dump[..<end])
            if let found = try? answers(part) { #expect(found.count < 3, "cut at \(end)") }
        }
    }

    @Test(arguments: [
        "0f000000 1a00 0000 07000000 00000000",  // shorter than its own header
        "ffffffff 1a00 0000 07000000 00000000",  // longer than any datagram
        "12000000 1a00 0000 07000000 00000000 0000",  // no room for genlmsghdr
        "14000000 0200 0000 07000000 00000000 eaffffff",  // an error without the request's header
        "24000000 0200 0000 07000000 00000000 16000000 2c000000 1a000500 09000000 00000000",  // positive
        "24000000 0200 0000 07000000 00000000 00000080 2c000000 1a000500 09000000 00000000",  // Int32.min
        "12000000 0300 0000 07000000 00000000 0000",  // half an error number
    ])
    func malformedMessagesThrow(_ hex: String) {
        #expect(throws: OperationFailure.self) { try answers(genericHex(hex)) }
    }

    @Test func aRequestLengthPastTheEndDoesNotTrap() throws {
        let liar = Self.relength(
            genericHex("00000000 0200 0002 07000000 00000000  eaffffff  f0ffffff 1a000500 09000000 00000000"))
        #expect(try answers(liar).map(\.seen) == [.acknowledgement(EINVAL, nil)])
    }

    /// Puts the true length into the first message's header.
    private static func relength(_ bytes: [UInt8]) -> [UInt8] {
        withUnsafeBytes(of: UInt32(bytes.count)) { Array($0) } + bytes.dropFirst(4)
    }
}
