import Glibc
import NetAddress
import SystemCalls
import Testing

@testable import NetlinkWire

/// Datagrams and errors from a script; then nothing waits.
private final class TraceChannel: NetlinkChannel {
    private var answers: [Result<[UInt8], OperationFailure>]

    init(_ answers: [Result<[UInt8], OperationFailure>]) { self.answers = answers }

    func send(_ bytes: UnsafeRawBufferPointer) throws(OperationFailure) {}

    func receive(into buffer: UnsafeMutableRawBufferPointer) throws(OperationFailure) -> Int {
        guard !answers.isEmpty else { throw OperationFailure("receive", "script", errno: EAGAIN) }
        let answer = try answers.removeFirst().get()
        buffer.copyBytes(from: answer)
        return answer.count
    }
}

@Suite struct PacketTraceTests {
    /// 203.0.113.9:6000 to 203.0.113.2:4000 came in by interface 101 and was dropped by a rule.
    private static let drop = """
        b0000000 110a 0000 00000000 00000000  // NFT_MSG_TRACE of NFNL_SUBSYS_NFTABLES
        02 00 0000                            // NFPROTO_IPV4
        0800 0600 a1b2c3d4                    // NFTA_TRACE_ID
        0800 0400 00000003                    // NFTA_TRACE_TYPE: NFT_TRACETYPE_RULE
        0c00 0300 0000000000000007            // NFTA_TRACE_RULE_HANDLE 7
        0b00 0100 66696c74657200 00           // NFTA_TRACE_TABLE "filter"
        0a00 0200 494e50555400 0000           // NFTA_TRACE_CHAIN "INPUT"
        0c00 0580 0800 0100 00000000          // NFTA_TRACE_VERDICT, nested: NFTA_VERDICT_CODE NF_DROP
        0800 0a00 00000065                    // NFTA_TRACE_IIF 101
        0600 0b00 0001 0000                   // NFTA_TRACE_IIFTYPE: ARPHRD_ETHER
        1800 0800                             // NFTA_TRACE_NETWORK_HEADER
          45000021 00004000 40110000 cb007109 cb007102
        0c00 0900                             // NFTA_TRACE_TRANSPORT_HEADER
          1770 0fa0 000d 0000
        0800 0f00 00000002                    // NFTA_TRACE_NFPROTO
        """

    private static func events(_ bytes: [[UInt8]]) throws -> [TraceEvent] {
        let channel = TraceChannel(bytes.map { .success($0) })
        return try TraceSocket(channel: channel, descriptor: -1, namespace: "lab.r").events()
    }

    @Test func dropByARuleIsRead() throws {
        var bytes = routeBytes(Self.drop)
        bytes[0] = UInt8(bytes.count)
        let event = try #require(try Self.events([bytes]).first)
        #expect((event.family, event.table, event.chain, event.handle) == (2, "filter", "INPUT", 7))
        #expect(event.isDrop && !event.isPolicy)
        let headers = try #require(event.headers)
        #expect(headers.source == Endpoint("203.0.113.9:6000"))
        #expect(headers.destination == Endpoint("203.0.113.2:4000"))
        #expect((headers.inInterface, headers.outInterface, headers.payloadSize) == (101, nil, 5))
    }

    /// A policy, or a rule's verdict, and nothing of the packet: the events after the first of a base chain.
    @Test(arguments: [
        ("0800 0400 00000001 0800 1000 00000000", true, true),  // NFT_TRACETYPE_POLICY, NF_DROP
        ("0800 0400 00000001 0800 1000 00000001", true, false),  // NF_ACCEPT
        ("0800 0400 00000003 0c00 0580 0800 0100 fffffffd", false, false),  // NFT_JUMP
        ("0800 0400 00000003 0c00 0580 0800 0100 00000001", false, false),  // NF_ACCEPT
        ("0800 0400 00000002 0c00 0580 0800 0100 ffffffff", false, false),  // NFT_TRACETYPE_RETURN
    ])
    func verdictsAreToldApart(_ attributes: String, _ isPolicy: Bool, _ isDrop: Bool) throws {
        var bytes = routeBytes(
            "00000000 110a 0000 00000000 00000000 01 00 0000 0800 0600 00000001 " + attributes)
        bytes[0] = UInt8(bytes.count)
        let event = try #require(try Self.events([bytes]).first)
        #expect(event.isPolicy == isPolicy)
        #expect(event.isDrop == isDrop)
        #expect(event.headers == nil)
        #expect(event.packet == 0x0100_0000)
    }

    @Test func headersOfIPv6AndOfFragmentsAreRead() throws {
        var parts = TracedHeaders.Parts()
        parts.network = routeBytes(
            """
            60000000 000d 11 40
            20010db8 00000000 00000000 00000001
            20010db8 00000000 00000000 00000002
            """)
        parts.transport = routeBytes("1770 0fa0 000d 0000")
        parts.outInterface = 3
        let headers = try #require(TracedHeaders(parts))
        #expect(headers.source == Endpoint("[2001:db8::1]:6000"))
        #expect(headers.destination == Endpoint("[2001:db8::2]:4000"))
        #expect((headers.payloadSize, headers.outInterface) == (5, 3))
        // Of a later fragment the kernel tells no transport header.
        parts.transport = []
        let fragment = try #require(TracedHeaders(parts))
        #expect((fragment.source.port, fragment.payloadSize) == (0, nil))
        // TCP is not for us; nor what is cut.
        parts.network[6] = 6
        #expect(TracedHeaders(parts) == nil)
        parts.network = Array(routeBytes("45000021 00004000 40110000 cb007109"))
        #expect(TracedHeaders(parts) == nil)
    }

    @Test func lossIsToldAndSurvived() throws {
        var bytes = routeBytes(Self.drop)
        bytes[0] = UInt8(bytes.count)
        let lost = OperationFailure("receive", "script", errno: ENOBUFS)
        let channel = TraceChannel([.success(bytes), .failure(lost), .success(bytes)])
        let socket = TraceSocket(channel: channel, descriptor: -1, namespace: nil)
        #expect(!socket.hasLostEvents)
        #expect(try socket.events().count == 2)
        #expect(socket.hasLostEvents)
        #expect(try socket.events() == [])
        let broken = TraceChannel([.failure(OperationFailure("receive", "script", errno: EBADF))])
        let failure = #expect(throws: OperationFailure.self) {
            try TraceSocket(channel: broken, descriptor: -1, namespace: "lab.r").events()
        }
        #expect(failure?.errno == EBADF && failure?.namespace == "lab.r")
    }

    @Test func damagedEventsNeverHarm() throws {
        var whole = routeBytes(Self.drop)
        whole[0] = UInt8(whole.count)
        for place in whole.indices {
            for change in [0, 1, 4, 0x7F, 0xFF] as [UInt8] {
                var bytes = whole
                bytes[place] = change
                _ = try? Self.events([bytes])
                _ = try? Self.events([Array(bytes[...place])])
            }
        }
        #expect(try Self.events([whole]).count == 1)
    }
}
