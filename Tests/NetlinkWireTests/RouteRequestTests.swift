import NetAddress
import Testing

@testable import NetlinkWire

/// Each request byte for byte, as a little-endian machine sends it.
///
/// Source: linux/rtnetlink.h, if_link.h, veth.h.
@Suite struct RouteRequestTests {
    @Test func vethPair() {
        let request = RouteRequest.makeVeth(
            VethEnd(name: "p1", index: 101), VethEnd(name: "wan0", index: 102, network: 7))
        expect(
            request,
            """
            60000000 1000 0106 01000000 00000000  // 96 bytes, RTM_NEWLINK, REQUEST|CREATE|EXCL, sequence 1
            00 00 0000 65000000 00000000 00000000 // ifinfomsg: index 101, not up
            0700 0300 703100 00                   // IFLA_IFNAME "p1"
            3800 1280                             // IFLA_LINKINFO, nested
              0800 0100 76657468                  //   IFLA_INFO_KIND "veth"
              2c00 0280                           //   IFLA_INFO_DATA, nested
                2800 0180                         //     VETH_INFO_PEER, nested
                00 00 0000 66000000 00000000 00000000 //   ifinfomsg: index 102
                0900 0300 77616e3000 000000       //       IFLA_IFNAME "wan0"
                0800 1c00 07000000                //       IFLA_NET_NS_FD 7
            """)
    }

    @Test func bridge() {
        expect(
            .makeLink(kind: "bridge", name: "br0", index: 101),
            """
            38000000 1000 0106 01000000 00000000  // RTM_NEWLINK, REQUEST|CREATE|EXCL
            00 00 0000 65000000 00000000 00000000 // ifinfomsg: index 101
            0800 0300 62723000                    // IFLA_IFNAME "br0"
            1000 1280                             // IFLA_LINKINFO, nested
              0a00 0100 627269646765 0000         //   IFLA_INFO_KIND "bridge"
            """)
    }

    @Test func wireGuardWithMTU() {
        expect(
            .makeLink(kind: "wireguard", name: "wg0", index: 103, mtu: 1420),
            """
            44000000 1000 0106 01000000 00000000
            00 00 0000 67000000 00000000 00000000
            0800 0300 77673000                    // IFLA_IFNAME "wg0"
            0800 0400 8c050000                    // IFLA_MTU 1420
            1400 1280                             // IFLA_LINKINFO, nested
              0d00 0100 776972656775617264 000000 //   IFLA_INFO_KIND "wireguard"
            """)
    }

    @Test func joinBridge() {
        expect(
            .setMaster(index: 102, master: 101, name: "p1"),
            """
            28000000 1000 0100 01000000 00000000
            00 00 0000 66000000 00000000 00000000
            0800 0a00 65000000                    // IFLA_MASTER 101
            """)
    }

    @Test func upAndDown() {
        expect(
            .setUp(index: 102, name: "p1"),
            """
            20000000 1000 0100 01000000 00000000
            00 00 0000 66000000 01000000 01000000 // IFF_UP, and a mask of it alone
            """)
        expect(
            .setUp(index: 102, false, name: "p1"),
            """
            20000000 1000 0100 01000000 00000000
            00 00 0000 66000000 00000000 01000000
            """)
    }

    @Test func noLinkLocalAddress() {
        expect(
            .setNoLinkLocal(index: 102, name: "p1"),
            """
            30000000 1000 0100 01000000 00000000
            00 00 0000 66000000 00000000 00000000
            1000 1a80                             // IFLA_AF_SPEC, nested
              0c00 0a80                           //   AF_INET6, nested
                0500 0800 01 000000               //     IFLA_INET6_ADDR_GEN_MODE none
            """)
    }

    @Test func deletedLink() {
        expect(
            .deleteLink(index: 102, name: "p1"),
            """
            20000000 1100 0100 01000000 00000000  // RTM_DELLINK
            00 00 0000 66000000 00000000 00000000
            """)
    }

    @Test func addressIPv4() throws {
        expect(
            .addAddress(try #require(IPPrefix("203.0.113.1/24")), index: 101, name: "br0"),
            """
            30000000 1400 0106 01000000 00000000  // RTM_NEWADDR, REQUEST|CREATE|EXCL
            02 18 00 00 65000000                  // ifaddrmsg: AF_INET, /24, index 101
            0800 0200 cb007101                    // IFA_LOCAL
            0800 0100 cb007101                    // IFA_ADDRESS
            0800 0400 cb0071ff                    // IFA_BROADCAST
            """)
    }

    @Test func addressWithoutBroadcast() throws {
        expect(
            .addAddress(try #require(IPPrefix("10.66.66.1/31")), index: 101, name: "wg0"),
            """
            28000000 1400 0106 01000000 00000000
            02 1f 00 00 65000000
            0800 0200 0a424201
            0800 0100 0a424201
            """)
    }

    @Test func addressIPv6SkipsDuplicateDetection() throws {
        expect(
            .addAddress(try #require(IPPrefix("fd00::1/64")), index: 101, name: "br0"),
            """
            40000000 1400 0106 01000000 00000000
            0a 40 02 00 65000000                  // ifaddrmsg: AF_INET6, /64, IFA_F_NODAD
            1400 0200 fd000000000000000000000000000001
            1400 0100 fd000000000000000000000000000001
            """)
    }

    @Test func defaultRoute() throws {
        expect(
            .addRoute(to: try #require(IPPrefix("0.0.0.0/0")), via: IPAddress(v4: 0xCB00_71FE)),
            """
            24000000 1800 0106 01000000 00000000  // RTM_NEWROUTE, REQUEST|CREATE|EXCL
            02 00 00 00 fe 04 00 01 00000000      // rtmsg: AF_INET, /0, main, static, universe, unicast
            0800 0500 cb0071fe                    // RTA_GATEWAY
            """)
    }

    @Test func onLinkRouteInAnotherTable() throws {
        expect(
            .addRoute(
                to: try #require(IPPrefix("192.168.5.7/24")), via: IPAddress(v4: 0x0A00_0001), index: 101,
                onLink: true, table: 51820),
            """
            3c000000 1800 0106 01000000 00000000
            02 18 00 00 00 04 00 01 04000000      // table 0: see RTA_TABLE; RTNH_F_ONLINK
            0800 0100 c0a80500                    // RTA_DST, without host bits
            0800 0500 0a000001                    // RTA_GATEWAY
            0800 0400 65000000                    // RTA_OIF 101
            0800 0f00 6cca0000                    // RTA_TABLE 51820
            """)
    }

    @Test func routeOntoALink() throws {
        expect(
            .addRoute(to: try #require(IPPrefix("10.66.66.0/24")), index: 101),
            """
            2c000000 1800 0106 01000000 00000000
            02 18 00 00 fe 04 fd 01 00000000      // scope link
            0800 0100 0a424200
            0800 0400 65000000
            """)
    }

    @Test func ruleForWhatCarriesNoMark() {
        expect(
            .addRule(ipv6: false, priority: 32764, firewallMark: 51820, invert: true, table: 51820),
            """
            34000000 2000 0106 01000000 00000000  // RTM_NEWRULE, REQUEST|CREATE|EXCL
            02 00 00 00 00 00 00 01 02000000      // fib_rule_hdr: AF_INET, FR_ACT_TO_TBL, FIB_RULE_INVERT
            0800 0600 fc7f0000                    // FRA_PRIORITY 32764
            0800 0a00 6cca0000                    // FRA_FWMARK 51820
            0800 0f00 6cca0000                    // FRA_TABLE 51820
            """)
    }

    @Test func ruleThatSuppressesTheDefaultRoute() {
        expect(
            .addRule(ipv6: true, table: 254, suppressPrefixLength: 0),
            """
            24000000 2000 0106 01000000 00000000
            0a 00 00 00 fe 00 00 01 00000000      // AF_INET6, main
            0800 0e00 00000000                    // FRA_SUPPRESS_PREFIXLEN 0
            """)
    }

    @Test func lookUpByName() {
        expect(
            .getLink(name: "wg0"),
            """
            28000000 1200 0100 01000000 00000000  // RTM_GETLINK
            00 00 0000 00000000 00000000 00000000
            0800 0300 77673000
            """)
    }

    @Test func netemWithEverything() {
        let settings = NetemSettings(
            latency: 40_000_000, jitter: 5_000_000, loss: 0x051E_B851, rate: 1_250_000, limit: 473)
        expect(
            .addQueue(.netem(settings), index: 102, name: "eth0"),
            """
            78000000 2400 0106 01000000 00000000  // 120 bytes, RTM_NEWQDISC, REQUEST|CREATE|EXCL
            00 00 0000 66000000 00000100 ffffffff 00000000 // tcmsg: index 102, handle 1:, parent TC_H_ROOT
            0a00 0100 6e6574656d00 0000           // TCA_KIND "netem"
            4800 0280                             // TCA_OPTIONS, nested
              00000000 d9010000 51b81e05          //   tc_netem_qopt: latency 0, limit 473, loss
              00000000 00000000 00000000          //     gap, duplicate, jitter
              1400 0600 d0121300 00000000 00000000 00000000 // TCA_NETEM_RATE 1,250,000 bytes a second
              0c00 0a00 005a620200000000          //   TCA_NETEM_LATENCY64 40 ms
              0c00 0b00 404b4c0000000000          //   TCA_NETEM_JITTER64 5 ms
            """)
    }

    @Test func netemFasterThan32Bits() {
        let settings = NetemSettings(latency: -1, jitter: 0, loss: .max, rate: 12_500_000_000, limit: 1)
        expect(
            .addQueue(.netem(settings), index: 1, name: "lo"),
            """
            84000000 2400 0106 01000000 00000000
            00 00 0000 01000000 00000100 ffffffff 00000000
            0a00 0100 6e6574656d00 0000
            5400 0280
              00000000 01000000 ffffffff 00000000 00000000 00000000
              1400 0600 ffffffff 00000000 00000000 00000000 // TCA_NETEM_RATE, the most it can say
              0c00 0800 00dd0ee902000000          //   TCA_NETEM_RATE64
              0c00 0a00 ffffffffffffffff          //   TCA_NETEM_LATENCY64
              0c00 0b00 0000000000000000          //   TCA_NETEM_JITTER64
            """)
    }

    @Test func tokenBucket() {
        expect(
            .addQueue(
                .tokenBucket(TokenBucketSettings(rate: 1_250_000, burst: 5000, limit: 125_000)), index: 102,
                name: "eth0"),
            """
            60000000 2400 0106 01000000 00000000
            00 00 0000 66000000 00000100 ffffffff 00000000
            0800 0100 74626600                    // TCA_KIND "tbf"
            3400 0280                             // TCA_OPTIONS, nested
              2800 0100                           //   TCA_TBF_PARMS: tc_tbf_qopt
                00 01 0000 0000 0000 d0121300     //     rate: TC_LINKLAYER_ETHERNET, 1,250,000 bytes a second
                00 00 0000 0000 0000 00000000     //     no peak rate
                48e80100 00000000 00000000        //     limit 125,000; no buffer and MTU in ticks
              0800 0600 88130000                  //   TCA_TBF_BURST 5000
            """)
    }

    @Test func tokenBucketFasterThan32Bits() {
        expect(
            .addQueue(
                .tokenBucket(TokenBucketSettings(rate: 12_500_000_000, burst: 1, limit: 2)), index: 1,
                name: "lo"),
            """
            6c000000 2400 0106 01000000 00000000
            00 00 0000 01000000 00000100 ffffffff 00000000
            0800 0100 74626600
            4000 0280
              2800 0100 00 01 0000 0000 0000 ffffffff 00 00 0000 0000 0000 00000000 02000000 00000000 00000000
              0c00 0400 00dd0ee902000000          //   TCA_TBF_RATE64
              0800 0600 01000000
            """)
    }

    @Test func singlePackets() {
        expect(
            .setSegmentsPerPacket(index: 102, 1, name: "eth0"),
            """
            28000000 1000 0100 01000000 00000000
            00 00 0000 66000000 00000000 00000000
            0800 2800 01000000                    // IFLA_GSO_MAX_SEGS 1
            """)
    }

    @Test func onlyTheLastOfABatchIsAcknowledged() {
        var buffer = RouteMessageBuffer()
        let fits = [
            buffer.append(.setUp(index: 1, name: "a"), flags: 0, sequence: 1),
            buffer.append(.setUp(index: 2, name: "b"), flags: 0, sequence: 2),
        ]
        buffer.acknowledgeLast()
        let bytes = Array(buffer.bytes)
        #expect(fits == [true, true])
        #expect(
            bytes
                == routeBytes(
                    """
                    20000000 1000 0100 01000000 00000000 00 00 0000 01000000 01000000 01000000
                    20000000 1000 0500 02000000 00000000 00 00 0000 02000000 01000000 01000000 // NLM_F_ACK
                    """))
    }

    @Test func whatDoesNotFitIsRefusedWhole() {
        var buffer = RouteMessageBuffer(capacity: 96)
        let first = buffer.append(.setUp(index: 1, name: "a"), flags: 0, sequence: 1)
        let before = Array(buffer.bytes)
        let second = buffer.append(
            .makeLink(kind: "wireguard", name: "wg0", mtu: 1420), flags: 0, sequence: 2)
        let after = Array(buffer.bytes)
        #expect(first)
        #expect(!second)
        #expect(after == before)
    }

    private func expect(
        _ request: RouteRequest, _ hex: String, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        var buffer = RouteMessageBuffer()
        let fits = buffer.append(request, flags: 0, sequence: 1)
        let bytes = Array(buffer.bytes)
        #expect(fits, sourceLocation: sourceLocation)
        #expect(bytes == routeBytes(hex), sourceLocation: sourceLocation)
    }
}
