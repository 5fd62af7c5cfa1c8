import FoundationEssentials
import SystemCalls
import TestSupport
import Testing

/// Causes that lie on the way: firewalls, NATs, links.
@Suite(.serialized) struct WayCauseTests {
    @Test func udpDroppedOutbound() throws {
        try withCleanup { cleanup in
            let lab = try WhyLab.homes(try Natlab(cleanup), ra: #""blocked""#)
            try lab.up()
            let why = try lab.expect("udp-dropped-outbound", at: "ra", "a", "b")
            #expect(why.directions.allSatisfy { $0.arrived == 0 })
        }
    }

    @Test func aUsersRuleDropsOutbound() throws {
        try withCleanup { cleanup in
            let lab = try WhyLab.homes(try Natlab(cleanup))
            try lab.up()
            try lab.connect()
            try lab.exec(
                "ra", "iptables", "-I", "FORWARD", "-i", "lan0", "-p", "udp", "--dport", "51820", "-j", "DROP"
            )
            let why = try lab.expect("udp-dropped-outbound", at: "ra", "a", "b")
            let loss = try #require(why.directions[0].loss)
            #expect(loss.node == "ra" && loss.rule?.contains("51820") == true, "\(loss)")
        }
    }

    @Test func aUsersRuleDropsInbound() throws {
        try withCleanup { cleanup in
            let lab = try WhyLab.homes(try Natlab(cleanup))
            try lab.up()
            try lab.connect()
            try lab.exec(
                "rb", "iptables", "-I", "FORWARD", "-i", "wan0", "-p", "udp", "--dport", "51820", "-j", "DROP"
            )
            let why = try lab.expect("udp-dropped-inbound", at: "rb", "a", "b")
            #expect(why.directions[0].nodes == ["a", "ra", "internet", "rb"], "\(why.directions[0])")
        }
    }

    @Test func aHostsOwnFirewallDropsInbound() throws {
        try withCleanup { cleanup in
            let lab = try WhyLab.homes(try Natlab(cleanup))
            try lab.up()
            try lab.connect()
            try lab.exec("b", "iptables", "-I", "INPUT", "-p", "udp", "--dport", "51820", "-j", "DROP")
            let why = try lab.expect("udp-dropped-inbound", at: "b", "a", "b")
            #expect(why.verdict.contains("b's own firewall"), "\(why.verdict)")
        }
    }

    /// Eight watch the router already, which is all that can.
    @Test func aRouterThatCannotBeTracedIsNamedNevertheless() throws {
        try withCleanup { cleanup in
            let lab = try WhyLab.homes(try Natlab(cleanup))
            try lab.up()
            try lab.connect()
            for router in ["ra", "rb"] {
                for number in 1...8 {
                    let name = number == 1 ? "natlab-why" : "natlab-why-\(number)"
                    try lab.exec(router, "nft", "add", "table", "inet", name)
                }
            }
            try lab.exec(
                "ra", "iptables", "-I", "FORWARD", "-i", "lan0", "-p", "udp", "--dport", "51820", "-j", "DROP"
            )
            let out = try lab.expect("lost", at: "ra", "a", "b")
            #expect(
                out.verdict.hasSuffix("; ra's firewall, which could not be traced, may have dropped it"),
                "\(out.verdict)")
            let gap = try #require(out.gaps.first, "\(out)")
            #expect(gap.hasPrefix("what ra's firewall drops cannot be traced: "), "\(gap)")
            #expect(gap.contains("8 others watch there already"), "\(gap)")
            try lab.exec("ra", "iptables", "-D", "FORWARD", "1")
            try lab.exec(
                "rb", "iptables", "-I", "FORWARD", "-i", "wan0", "-p", "udp", "--dport", "51820", "--sport",
                "51820", "-j", "DROP")
            let inbound = try lab.expect("udp-dropped-inbound", at: "rb", "a", "b")
            #expect(
                inbound.verdict.contains("is for them: something else there drops them"), "\(inbound.verdict)"
            )
        }
    }

    @Test func symmetric() throws {
        try withCleanup { cleanup in
            let lab = try WhyLab.homes(try Natlab(cleanup), ra: #""symmetric""#)
            try lab.up()
            let why = try lab.expect("symmetric-nat", at: "ra", "a", "b")
            // Both ports are shown, and the one is what leaves ra.
            let out = try #require(
                why.directions[0].hops.last { $0.node == "ra" && $0.outgoing }, "\(why.directions)")
            #expect(why.verdict.contains(out.source), "\(why.verdict)")
            #expect(why.verdict.contains("a is known as 203.0.113."), "\(why.verdict)")
        }
    }

    @Test func symmetricOnBothSidesNamesBoth() throws {
        try withCleanup { cleanup in
            let lab = try WhyLab.homes(try Natlab(cleanup), ra: #""symmetric""#, rb: #""symmetric""#)
            try lab.up()
            let why = try lab.expect("symmetric-nat", at: "ra", "a", "b")
            #expect(
                Set(why.findings.filter { $0.cause == "symmetric-nat" }.compactMap(\.node)) == ["ra", "rb"])
        }
    }

    @Test func mappingExpired() throws {
        try withCleanup { cleanup in
            let lab = try WhyLab.spoke(
                try Natlab(cleanup),
                nat:
                    #"{ mapping = "endpoint-independent", filtering = "address-and-port-dependent", udp-timeout = "2s" }"#,
                further: "[host.a.wireguard.wg0.peer.hub]\nkeepalive = \"off\"")
            try lab.up()
            try lab.connect()
            try #require(
                try waitUntil(timeout: .seconds(30), pause: .milliseconds(50)) {
                    (try? tool(in: lab.lab.namespace("ra"), "conntrack", "-L", "-p", "udp"))?.isEmpty ?? false
                })
            let why = try lab.expect("mapping-expired", at: "ra", "hub", "a")
            #expect(why.verdict.contains("203.0.113.2:51820"), "\(why.verdict)")
        }
    }

    @Test func mappingStolen() throws {
        try withCleanup { cleanup in
            let lab = try WhyLab.homes(try Natlab(cleanup))
            try lab.up()
            try lab.connect()
            // ra becomes a plain MASQUERADE, which takes in what it has not asked for; a is held up until b's punch has come.
            try lab.exec("ra", "iptables", "-F", "INPUT")
            try lab.exec("a", "iptables", "-A", "OUTPUT", "-d", "203.0.113.3", "-j", "DROP")
            try lab.forgetPeers("a", "b")
            // The flows to the rendezvous stay: else a's might get the new port as well, and the rendezvous tell b of it.
            for (router, host, other) in [
                ("ra", "192.168.1.2", "203.0.113.3"), ("rb", "192.168.2.2", "203.0.113.2"),
            ] {
                try tool(
                    in: lab.lab.namespace(router), "conntrack", "-D", "-p", "udp", "--orig-src", host,
                    "--orig-dst", other)
            }
            try #require(
                try waitUntil(timeout: .seconds(30), pause: .milliseconds(20)) {
                    let flows = (try? tool(in: lab.lab.namespace("ra"), "conntrack", "-L", "-p", "udp")) ?? ""
                    return flows.split(separator: "\n").contains {
                        $0.contains("src=203.0.113.3") && $0.contains("src=203.0.113.2")
                    }
                })
            try lab.exec("a", "iptables", "-F", "OUTPUT")
            let why = try lab.expect("mapping-stolen", at: "ra", "a", "b")
            #expect(why.verdict.contains("203.0.113.2:51820"), "\(why.verdict)")
        }
    }

    /// ```
    ///   a ── ra ──┐
    ///           carrier ── internet ── hub
    ///   b ── rb ──┘
    /// ```
    @Test func hairpinMissing() throws {
        try withCleanup { cleanup in
            let lab = WhyLab(
                lab: try Natlab(cleanup).writeLab(
                    """
                    [router.carrier]
                    uplink = "internet"
                    lan = "100.64.0.0/24"
                    nat = "masquerade"
                    [router.ra]
                    uplink = "carrier"
                    lan = "192.168.1.0/24"
                    [router.rb]
                    uplink = "carrier"
                    lan = "192.168.2.0/24"
                    [host.a]
                    on = "ra"
                    [host.b]
                    on = "rb"
                    [host.hub]
                    on = "internet"
                    [wireguard.wg0]
                    prefix = "10.66.66.0/24"
                    members = ["a", "b"]
                    [rendezvous]
                    host = "hub"
                    """))
            try lab.up()
            try lab.expect("hairpin-missing", at: "carrier", "a", "b")
        }
    }

    @Test func nobodyOpensAMapping() throws {
        try withCleanup { cleanup in
            let lab = try WhyLab.spoke(
                try Natlab(cleanup),
                further:
                    "[host.hub.wireguard.wg0.peer.a]\nendpoint = \"203.0.113.2:51820\"\nkeepalive = \"25s\"")
            try lab.up()
            // a is not to send by itself, and nothing is to be left of what it has sent.
            try lab.exec("a", "iptables", "-A", "OUTPUT", "-p", "udp", "-j", "DROP")
            try lab.forgetPeers("hub", "a")
            try lab.exec(
                "hub", "wg", "set", "wg0", "peer", try lab.publicKey("a"), "endpoint", "203.0.113.2:51820")
            try tool(in: lab.lab.namespace("ra"), "conntrack", "-F")
            let why = try lab.why("hub", "a")
            #expect(why.cause == "no-mapping" && why.findings.first?.node == "ra", "\(why)")
            #expect(why.directions[0].loss?.reason == "no mapping for 203.0.113.2:51820", "\(why)")
        }
    }

    @Test func mtuTooSmall() throws {
        try withCleanup { cleanup in
            let lab = try WhyLab.homes(try Natlab(cleanup))
            try lab.up()
            try lab.connect()
            // One end of the link only: what is larger vanishes without a word.
            try lab.exec("ra", "ip", "link", "set", "wan0", "mtu", "1400")
            let why = try lab.expect("mtu-too-small", at: "ra", "a", "b")
            #expect(why.verdict.contains("wan0 of ra has an MTU of 1400"), "\(why.verdict)")
        }
    }

    @Test func lostWhereNobodyHasTheAddress() throws {
        try withCleanup { cleanup in
            let lab = try WhyLab.spoke(try Natlab(cleanup))
            try lab.up()
            let key = try lab.publicKey("hub")
            try lab.forgetPeers("hub", "a")
            try lab.exec("a", "wg", "set", "wg0", "peer", key, "endpoint", "203.0.113.99:51820")
            let why = try lab.why("a", "hub")
            let loss = try #require(why.directions[0].loss)
            #expect(loss.node == "internet" && loss.reason == "nobody has 203.0.113.99", "\(loss)")
        }
    }
}
