import Glibc
import NetAddress
import SystemCalls
import Testing

@testable import NetlinkWire

/// Answers as a kernel would give them, from a script: one datagram a `receive`.
final class ScriptedChannel: NetlinkChannel {
    var sent: [[UInt8]] = []
    var answers: [[UInt8]]

    init(_ answers: [[UInt8]]) { self.answers = answers }

    func send(_ bytes: UnsafeRawBufferPointer) throws(OperationFailure) { sent.append(Array(bytes)) }

    func receive(into buffer: UnsafeMutableRawBufferPointer) throws(OperationFailure) -> Int {
        guard !answers.isEmpty else { throw OperationFailure("receive", "script", errno: ENOBUFS) }
        let answer = answers.removeFirst()
        buffer.copyBytes(from: answer)
        return answer.count
    }
}

@Suite struct RouteSocketTests {
    private static let acknowledged = """
        24000000 0200 0001 0S000000 00000000  // NLMSG_ERROR, NLM_F_CAPPED
        00000000                              // no error
        20000000 1000 0500 0S000000 00000000  // of this request
        """

    private static let refused = """
        4c000000 0200 0003 0S000000 00000000  // NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS
        a1ffffff                              // -EOPNOTSUPP
        3c000000 1000 0506 0S000000 00000000
        1800 0100 556e6b6e6f776e20646576696365207479706500  // NLMSGERR_ATTR_MSG "Unknown device type"
        0800 0200 2c000000                    // NLMSGERR_ATTR_OFFS 44
        """

    private static func answer(_ text: String, sequence: Int) -> [UInt8] {
        var bytes = routeBytes(text.split(separator: "0S").joined(separator: "0\(sequence)"))
        // The fixtures' own lengths, so that the texts above stay readable.
        bytes[0] = UInt8(bytes.count)
        return bytes
    }

    private let up = RouteRequest.setUp(index: 2, name: "a")
    private let dummy = RouteRequest.makeLink(kind: "wireguard", name: "wg0")

    @Test func oneAcknowledgementStandsForABatch() throws {
        let channel = ScriptedChannel([Self.answer(Self.acknowledged, sequence: 3)])
        try RouteSocket(channel: channel, namespace: "lab.a").perform([up, up, up])
        #expect(channel.sent.count == 1)
        #expect(channel.sent.first?.count == 96)
    }

    @Test func refusalNamesTheRequestAndTheKernelsText() throws {
        let channel = ScriptedChannel([
            Self.answer(Self.refused, sequence: 2), Self.answer(Self.acknowledged, sequence: 3),
        ])
        let socket = RouteSocket(channel: channel, namespace: "lab.a")
        let refusal = try #require(try socket.refusal(of: [up, dummy, up]))
        #expect(refusal.position == 1)
        #expect(
            refusal.failure
                == OperationFailure(
                    "create wireguard", "wg0", namespace: "lab.a", errno: EOPNOTSUPP,
                    detail: "Unknown device type, attribute at byte 44"))
        // Nothing is left unread, so the next exchange is not disturbed.
        channel.answers = [Self.answer(Self.acknowledged, sequence: 4)]
        try socket.perform(up)
    }

    @Test func theFirstOfTwoRefusalsIsTold() throws {
        let channel = ScriptedChannel([
            Self.answer(Self.refused, sequence: 1) + Self.answer(Self.refused, sequence: 2)
        ])
        #expect(throws: OperationFailure.self) {
            try RouteSocket(channel: channel, namespace: nil).perform([dummy, up])
        }
        #expect(channel.answers.isEmpty)
    }

    @Test func answerToAnotherRequestIsAnError() {
        let channel = ScriptedChannel([Self.answer(Self.acknowledged, sequence: 9)])
        let failure = #expect(throws: OperationFailure.self) {
            try RouteSocket(channel: channel, namespace: nil).perform(up)
        }
        #expect(failure?.errno == EPROTO)
    }

    @Test func lostAnswersAreAnError() {
        let failure = #expect(throws: OperationFailure.self) {
            try RouteSocket(channel: ScriptedChannel([]), namespace: nil).perform(up)
        }
        #expect(failure?.errno == ENOBUFS)
        #expect(failure?.operation == "bring up")
    }

    @Test func manyRequestsGoInSeveralDatagrams() throws {
        let channel = ScriptedChannel([
            Self.answerWide(sequence: 64), Self.answerWide(sequence: 128), Self.answerWide(sequence: 150),
        ])
        try RouteSocket(channel: channel, namespace: nil).perform([RouteRequest](repeating: up, count: 150))
        #expect(channel.sent.map { $0.count / 32 } == [64, 64, 22])
    }

    private static func answerWide(sequence: UInt8) -> [UInt8] {
        var bytes = answer(acknowledged, sequence: 0)
        bytes[8] = sequence
        return bytes
    }

    private static let link = """
        34000000 1000 FF00 01000000 00000000  // RTM_NEWLINK
        00 00 0100 02000000 01000000 00000000 // index 2, up
        0900 0300 6574683000 000000           // IFLA_IFNAME "eth0"
        0800 0400 dc050000                    // IFLA_MTU 1500
        """

    private static func link(flags: String, sequence: UInt8) -> [UInt8] {
        var bytes = routeBytes(link.split(separator: "FF00").joined(separator: flags))
        bytes[8] = sequence
        return bytes
    }

    private static func done(sequence: UInt8) -> [UInt8] {
        [20, 0, 0, 0, 3, 0, 2, 0, sequence, 0, 0, 0] + [UInt8](repeating: 0, count: 8)
    }

    @Test func interruptedDumpStartsAgain() throws {
        let channel = ScriptedChannel([
            Self.link(flags: "1200", sequence: 1) + Self.done(sequence: 1),  // NLM_F_MULTI | NLM_F_DUMP_INTR
            Self.link(flags: "0200", sequence: 2), Self.done(sequence: 2),
        ])
        let links = try RouteSocket(channel: channel, namespace: nil).links()
        #expect(links.map(\.name) == ["eth0"])
        #expect(links.first?.mtu == 1500)
        #expect(links.first?.isUp == true)
        #expect(channel.sent.count == 2)
    }

    @Test func dumpThatIsAlwaysInterruptedEnds() {
        let channel = ScriptedChannel(
            (1...20).map { Self.link(flags: "1200", sequence: $0) + Self.done(sequence: $0) })
        let failure = #expect(throws: OperationFailure.self) {
            try RouteSocket(channel: channel, namespace: nil).links()
        }
        #expect(failure?.errno == EINTR)
        #expect(channel.sent.count == 8)
    }

    @Test func linkWithoutCarrierIsTold() throws {
        var up = Self.link(flags: "0000", sequence: 1)
        #expect(up[24] == 1)
        up[26] = 1  // IFF_LOWER_UP
        let channel = ScriptedChannel([
            Self.link(flags: "0000", sequence: 1) + up + Self.done(sequence: 1)
        ])
        let links = try RouteSocket(channel: channel, namespace: nil).links()
        #expect(links.map(\.hasCarrier) == [false, true])
        #expect(links.map(\.isUp) == [true, true])
    }

    @Test func routeIsLookedUpAndRead() throws {
        let route = """
            50000000 1800 0000 01000000 00000000  // RTM_NEWROUTE
            02 20 00 00 fe 00 00 01 00020000      // AF_INET, /32, main, universe, unicast, RTM_F_CLONED
            0800 0100 cb007109                    // RTA_DST 203.0.113.9
            0800 0400 67000000                    // RTA_OIF 103
            0800 0700 c0a80102                    // RTA_PREFSRC 192.168.1.2
            0800 0500 c0a80101                    // RTA_GATEWAY 192.168.1.1
            0c00 0800 0800 0200 14050000          // RTA_METRICS: RTAX_MTU 1300
            0800 1000 07000000                    // RTA_MARK 7
            """
        let end = Self.answer(Self.acknowledged, sequence: 1)
        let channel = ScriptedChannel([routeBytes(route), end])
        let socket = RouteSocket(channel: channel, namespace: nil)
        let answer = try socket.lookUp(IPAddress(v4: 0xCB00_7109), mark: 7)
        #expect(answer.interface == 103)
        #expect(answer.gateway == IPAddress(v4: 0xC0A8_0101))
        #expect(answer.source == IPAddress(v4: 0xC0A8_0102))
        #expect(answer.mtu == 1300)
        #expect(
            channel.sent == [
                routeBytes(
                    """
                    2c000000 1a00 0500 01000000 00000000  // RTM_GETROUTE, NLM_F_REQUEST | NLM_F_ACK
                    02 20 00 00 00 00 00 00 00000000      // AF_INET, /32
                    0800 0100 cb007109                    // RTA_DST
                    0800 1000 07000000                    // RTA_MARK
                    """)
            ])
        // An answer without a route is none.
        channel.answers = [Self.answer(Self.acknowledged, sequence: 2)]
        let failure = #expect(throws: OperationFailure.self) { try socket.lookUp(IPAddress(v4: 1)) }
        #expect(failure?.errno == ENETUNREACH)
    }

    @Test func interfaceSettingsAreRead() throws {
        let reply = """
            24000000 5000 0200 01000000 00000000  // RTM_NEWNETCONF, NLM_F_MULTI
            02 000000                             // AF_INET, padding
            0800 0100 02000000                    // NETCONFA_IFINDEX 2
            0800 0200 01000000                    // NETCONFA_FORWARDING
            """
        let all = """
            24000000 5000 0200 01000000 00000000
            02 000000
            0800 0100 ffffffff                    // NETCONFA_IFINDEX_ALL
            0800 0200 00000000
            """
        let channel = ScriptedChannel([routeBytes(reply) + routeBytes(all) + Self.done(sequence: 1)])
        let settings = try RouteSocket(channel: channel, namespace: nil).interfaceSettings()
        #expect(settings.map(\.index) == [2, -1])
        #expect(settings.map(\.forwards) == [true, false])
    }

    @Test func damagedAnswersNeverHarm() throws {
        let whole = Self.answer(Self.refused, sequence: 1) + Self.link(flags: "0200", sequence: 1)
        for cut in 0..<whole.count {
            for change in [0, 1, 4, 0x7F, 0xFF] as [UInt8] {
                var bytes = Array(whole[...cut])
                bytes[cut] = change
                let socket = RouteSocket(channel: ScriptedChannel([bytes]), namespace: nil)
                _ = try? socket.links()
                let other = RouteSocket(channel: ScriptedChannel([bytes]), namespace: nil)
                _ = try? other.perform(up)
            }
        }
        // The loops end: that is the claim. And what is whole is still understood.
        let socket = RouteSocket(channel: ScriptedChannel([whole]), namespace: nil)
        let failure = #expect(throws: OperationFailure.self) { try socket.perform(dummy) }
        #expect(failure?.errno == EPROTO || failure?.errno == EOPNOTSUPP)
    }
}
