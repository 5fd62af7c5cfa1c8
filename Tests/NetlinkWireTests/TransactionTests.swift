import Glibc
import NetAddress
import SystemCalls
import Testing

@testable import NetlinkWire

@Suite struct TransactionTests {
    /// What the kernel says of a message of the batch: the errno's bytes, and the message's place.
    private static func answer(_ code: String, _ sequence: Int) -> [UInt8] {
        let place = (sequence < 16 ? "0" : "") + String(sequence, radix: 16)
        return routeBytes(
            "24000000 0200 0001 \(place)000000 00000000 \(code) 14000000 000a 0506 \(place)000000 00000000"
        )
    }

    private let table = TraceTable(name: "t", addresses: [], families: [1])

    private func transact(_ answers: [[UInt8]]) throws -> ScriptedChannel {
        let channel = ScriptedChannel(answers)
        let socket = RouteSocket(channel: channel, namespace: "lab.r")
        try socket.transact(Array(table.requests.prefix(2)), subsystem: 10)
        return channel
    }

    @Test func requestsGoBetweenBeginAndEndInOneDatagram() throws {
        let channel = try transact([Self.answer("00000000", 3)])
        #expect(
            channel.sent == [
                routeBytes(
                    """
                    14000000 1000 0100 01000000 00000000  // NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST
                    00 00 000a                            // NFNL_SUBSYS_NFTABLES
                    24000000 000a 0106 02000000 00000000  // NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL
                    01 00 0000                            // NFPROTO_INET
                    0600 0100 7400 0000                   // NFTA_TABLE_NAME "t"
                    0800 0200 00000002                    // NFTA_TABLE_FLAGS: NFT_TABLE_F_OWNER
                    28000000 030a 0506 03000000 00000000  // NFT_MSG_NEWCHAIN, and NLM_F_ACK
                    01 00 0000
                    0600 0100 7400 0000                   // NFTA_CHAIN_TABLE "t"
                    0a00 0300 747261636500 0000           // NFTA_CHAIN_NAME "trace"
                    14000000 1100 0100 04000000 00000000  // NFNL_MSG_BATCH_END
                    00 00 000a
                    """)
            ])
    }

    private func bytes(_ request: RouteRequest) -> [UInt8] {
        var buffer = RouteMessageBuffer()
        let fits = buffer.append(request, flags: 0, sequence: 1)
        #expect(fits)
        return Array(buffer.bytes)
    }

    @Test func choiceOfAddressesIsWrittenAsNftWritesIt() throws {
        let requests = TraceTable(name: "t", addresses: [IPAddress(v4: 0xCB00_7109)], families: [7]).requests
        let request = try #require(requests.first { $0.object.contains("ip saddr") })
        let expected = routeBytes(
            """
            10010000 060a 010c 01000000 00000000  // NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND
            07 00 0000                            // NFPROTO_BRIDGE
            0600 0100 7400 0000                   // NFTA_RULE_TABLE "t"
            0b00 0200 63686f6f736500 00           // NFTA_RULE_CHAIN "choose"
            e800 0480                             // NFTA_RULE_EXPRESSIONS, nested
              2400 0180                           // NFTA_LIST_ELEM, nested
                0900 0100 6d65746100 000000       // NFTA_EXPR_NAME "meta"
                1400 0280                         // NFTA_EXPR_DATA, nested
                  0800 0200 00000001              // NFTA_META_KEY: NFT_META_PROTOCOL
                  0800 0100 00000001              // NFTA_META_DREG: NFT_REG_1
              2c00 0180
                0800 0100 636d7000                // "cmp"
                2000 0280
                  0800 0100 00000001              // NFTA_CMP_SREG
                  0800 0200 00000000              // NFTA_CMP_OP: NFT_CMP_EQ
                  0c00 0380 0600 0100 0800 0000   // NFTA_CMP_DATA, NFTA_DATA_VALUE: ETH_P_IP
              3400 0180
                0c00 0100 7061796c6f616400        // "payload"
                2400 0280
                  0800 0100 00000001              // NFTA_PAYLOAD_DREG
                  0800 0200 00000001              // NFTA_PAYLOAD_BASE: NFT_PAYLOAD_NETWORK_HEADER
                  0800 0300 0000000c              // NFTA_PAYLOAD_OFFSET 12
                  0800 0400 00000004              // NFTA_PAYLOAD_LEN 4
              2400 0180
                0b00 0100 6c6f6f6b757000 00       // "lookup"
                1400 0280
                  0700 0100 763400 00             // NFTA_LOOKUP_SET "v4"
                  0800 0200 00000001              // NFTA_LOOKUP_SREG: NFT_REG_1
              3c00 0180
                0e00 0100 696d6d65646961746500 0000   // "immediate"
                2800 0280
                  0800 0100 00000000              // NFTA_IMMEDIATE_DREG: NFT_REG_VERDICT
                  1c00 0280 1800 0280             // NFTA_IMMEDIATE_DATA, NFTA_DATA_VERDICT
                    0800 0100 fffffffc            // NFTA_VERDICT_CODE: NFT_GOTO
                    0a00 0200 747261636500 0000   // NFTA_VERDICT_CHAIN "trace"
            """)
        #expect(bytes(request) == expected)
    }

    @Test func setAndItsElementsAreWrittenAsNftWritesThem() throws {
        let table = TraceTable(
            name: "t", addresses: [IPAddress(v4: 0xCB00_7109), IPAddress(v4: 0xCB00_7108)], families: [1])
        let set = try #require(table.requests.first { $0.object.contains("set v4") })
        let expected = routeBytes(
            """
            3c000000 090a 0106 01000000 00000000  // NFT_MSG_NEWSET, NLM_F_CREATE | NLM_F_EXCL
            01 00 0000                            // NFPROTO_INET
            0600 0100 7400 0000                   // NFTA_SET_TABLE "t"
            0700 0200 763400 00                   // NFTA_SET_NAME "v4"
            0800 0400 00000007                    // NFTA_SET_KEY_TYPE: ipv4_addr
            0800 0500 00000004                    // NFTA_SET_KEY_LEN
            0800 0a00 00000007                    // NFTA_SET_ID
            """)
        #expect(bytes(set) == expected)
        let fillings = table.fillings
        #expect(fillings.map(\.count) == [1])
        let filled = routeBytes(
            """
            48000000 0c0a 0104 01000000 00000000  // NFT_MSG_NEWSETELEM, NLM_F_CREATE
            01 00 0000
            0600 0100 7400 0000                   // NFTA_SET_ELEM_LIST_TABLE "t"
            0700 0200 763400 00                   // NFTA_SET_ELEM_LIST_SET "v4"
            2400 0380                             // NFTA_SET_ELEM_LIST_ELEMENTS, nested
              1000 0180                           // NFTA_LIST_ELEM, nested
                0c00 0180 0800 0100 cb007108      // NFTA_SET_ELEM_KEY, NFTA_DATA_VALUE: 203.0.113.8
              1000 0180
                0c00 0180 0800 0100 cb007109
            """)
        #expect(fillings.first?.first.map(bytes) == filled)
    }

    /// Whatever their number, each transaction fits into a datagram, and each address is in one once.
    @Test func manyAddressesGoInSeveralTransactions() throws {
        let v6 = (0..<600).compactMap { IPAddress("2001:db8::\(String($0, radix: 16))") }
        let v4 = (0..<600).map { IPAddress(v4: 0x0A00_0000 + $0) }
        let table = TraceTable(name: "t", addresses: v4 + v6 + v4, families: [1, 7])
        #expect(table.requests.count == 2 * 15)
        #expect(table.fillings.count == 6)
        let sent = try ([table.requests] + table.fillings).map { requests in
            let channel = ScriptedChannel([Self.answer("00000000", requests.count + 1)])
            try RouteSocket(channel: channel, namespace: nil).transact(requests, subsystem: 10)
            return try #require(channel.sent.first)
        }
        // Of both families.
        for address in v4 + v6 {
            let value = [UInt8(address.bytes.count + 4), 0, 1, 0] + address.bytes
            let times = sent.dropFirst().reduce(0) { $0 + $1.ranges(of: value).count }
            #expect(times == 2, "\(address)")
        }
    }

    @Test func firstRefusalIsTold() throws {
        // -EPERM for the table; then -ENOENT for the chain, that has no table.
        let failure = #expect(throws: OperationFailure.self) {
            _ = try transact([Self.answer("ffffffff", 2) + Self.answer("feffffff", 3)])
        }
        #expect(
            failure
                == OperationFailure("create", "table for tracing", namespace: "lab.r", errno: EPERM))
    }

    @Test func refusalOfTheWholeIsTold() throws {
        let failure = #expect(throws: OperationFailure.self) {
            _ = try transact([Self.answer("a1ffffff", 1)])
        }
        #expect(failure?.errno == EOPNOTSUPP)
        #expect(failure?.object == "table for tracing")
    }

    @Test func answerToNoRequestIsAnError() throws {
        let failure = #expect(throws: OperationFailure.self) {
            _ = try transact([Self.answer("00000000", 4)])
        }
        #expect(failure?.errno == EPROTO)
    }

    @Test func whatDoesNotFitIsRefused() throws {
        let channel = ScriptedChannel([])
        let many = Array(repeating: table.requests, count: 50).flatMap(\.self)
        let failure = #expect(throws: OperationFailure.self) {
            try RouteSocket(channel: channel, namespace: nil).transact(many, subsystem: 10)
        }
        #expect(failure?.errno == EMSGSIZE)
        #expect(channel.sent == [])
    }
}
