import NetAddress
import SystemCalls
import Testing

@testable import NetlinkWire

@Suite struct ConntrackTests {
    /// 192.168.1.240:20000 to 203.0.113.240:3478 by UDP, masqueraded as 203.0.113.10:61000.
    private static let flow = """
        94000000 0001 0200 01000000 00000000  // IPCTNL_MSG_CT_NEW of NFNL_SUBSYS_CTNETLINK, NLM_F_MULTI
        02 00 0000                            // AF_INET, NFNETLINK_V0
        3400 0180                             // CTA_TUPLE_ORIG, nested
          1400 0180                           // CTA_TUPLE_IP, nested
            0800 0100 c0a801f0                // CTA_IP_V4_SRC 192.168.1.240
            0800 0200 cb0071f0                // CTA_IP_V4_DST 203.0.113.240
          1c00 0280                           // CTA_TUPLE_PROTO, nested
            0500 0100 11 000000               // CTA_PROTO_NUM 17
            0600 0200 4e20 0000               // CTA_PROTO_SRC_PORT 20000
            0600 0300 0d96 0000               // CTA_PROTO_DST_PORT 3478
        3400 0280                             // CTA_TUPLE_REPLY, nested
          1400 0180
            0800 0100 cb0071f0                // 203.0.113.240
            0800 0200 cb00710a                // 203.0.113.10
          1c00 0280
            0500 0100 11 000000
            0600 0200 0d96 0000               // 3478
            0600 0300 ee48 0000               // 61000
        0800 0300 0000019a                    // CTA_STATUS: SEEN_REPLY, CONFIRMED, SRC_NAT and others
        0800 0700 0000001d                    // CTA_TIMEOUT 29
        0800 0c00 a1b2c3d4                    // CTA_ID
        """
    private static let done = "14000000 0300 0200 01000000 00000000 00000000  // NLMSG_DONE"

    private static func entry() throws -> ConntrackEntry {
        let channel = ScriptedChannel([routeBytes(flow) + routeBytes(done)])
        return try #require(try ConntrackSocket(channel: channel, namespace: nil).entries().first)
    }

    @Test func dumpAsksForAllFamilies() throws {
        let channel = ScriptedChannel([routeBytes(Self.done)])
        #expect(try ConntrackSocket(channel: channel, namespace: nil).entries() == [])
        #expect(
            channel.sent == [
                routeBytes(
                    """
                    14000000 0101 0103 01000000 00000000  // IPCTNL_MSG_CT_GET, NLM_F_REQUEST | NLM_F_DUMP
                    00 00 0000                            // AF_UNSPEC
                    """)
            ])
    }

    @Test func flowIsReadWithBothDirections() throws {
        let entry = try Self.entry()
        let (host, remote, external) = (0xC0A8_01F0, 0xCB00_71F0, 0xCB00_710A) as (UInt32, UInt32, UInt32)
        #expect(
            entry.original
                == ConntrackTuple(
                    source: IPAddress(v4: host), destination: IPAddress(v4: remote), proto: 17,
                    sourcePort: 20_000,
                    destinationPort: 3478))
        #expect(
            entry.reply
                == ConntrackTuple(
                    source: IPAddress(v4: remote), destination: IPAddress(v4: external), proto: 17,
                    sourcePort: 3478, destinationPort: 61_000))
        #expect(entry.timeout == 29)
        #expect(entry.isReplied)
        #expect(entry.has(IPAddress(v4: external)))
        #expect(!entry.has(IPAddress(v4: 1)))
    }

    @Test func deletionNamesTheTupleAndTheEntry() throws {
        let acknowledged = """
            24000000 0200 0001 01000000 00000000  // NLMSG_ERROR, NLM_F_CAPPED
            00000000                              // no error
            50000000 0201 0500 01000000 00000000
            """
        let channel = ScriptedChannel([routeBytes(acknowledged)])
        #expect(try ConntrackSocket(channel: channel, namespace: nil).delete(try Self.entry()))
        #expect(
            channel.sent == [
                routeBytes(
                    """
                    50000000 0201 0500 01000000 00000000  // IPCTNL_MSG_CT_DELETE, NLM_F_REQUEST | NLM_F_ACK
                    02 00 0000                            // AF_INET
                    3400 0180                             // CTA_TUPLE_ORIG, nested
                      1400 0180 0800 0100 c0a801f0 0800 0200 cb0071f0
                      1c00 0280 0500 0100 11 000000 0600 0200 4e20 0000 0600 0300 0d96 0000
                    0800 0c00 a1b2c3d4                    // CTA_ID
                    """)
            ])
    }

    @Test func flowThatIsGoneIsNoFailureAndAnyOtherIs() throws {
        for (code, isGone) in [("feffffff", true), ("ffffffff", false)] {  // -ENOENT, -EPERM
            let answer = "24000000 0200 0001 01000000 00000000 \(code) 50000000 0201 0500 01000000 00000000"
            let socket = ConntrackSocket(channel: ScriptedChannel([routeBytes(answer)]), namespace: "lab.r")
            if isGone {
                #expect(try !socket.delete(try Self.entry()))
            } else {
                let failure = #expect(throws: OperationFailure.self) { try socket.delete(try Self.entry()) }
                #expect(failure?.errno == 1)
                #expect(failure?.namespace == "lab.r")
            }
        }
    }

    @Test func answerToAnotherRequestIsAnError() {
        var bytes = routeBytes(Self.flow)
        bytes[8] = 9
        let channel = ScriptedChannel([bytes])
        let failure = #expect(throws: OperationFailure.self) {
            try ConntrackSocket(channel: channel, namespace: nil).entries()
        }
        #expect(failure?.object == "NETLINK_NETFILTER")
    }
}
