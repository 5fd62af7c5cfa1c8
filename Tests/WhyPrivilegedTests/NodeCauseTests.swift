import SystemCalls
import TestSupport
import Testing

/// Causes that lie in a node's own settings: forwarding, routes, links, what is inside the tunnel.
@Suite(.serialized) struct NodeCauseTests {
    private func connected(_ cleanup: Cleanup) throws -> WhyLab {
        let lab = try WhyLab.homes(try Natlab(cleanup))
        try lab.up()
        try lab.connect()
        return lab
    }

    @Test func aRouterThatDoesNotForward() throws {
        try withCleanup { cleanup in
            let lab = try connected(cleanup)
            try lab.exec("rb", "sysctl", "-w", "net.ipv4.ip_forward=0")
            let why = try lab.expect("not-forwarded", at: "rb", "a", "b")
            #expect(
                why.directions.allSatisfy {
                    $0.loss?.node == "rb" && $0.loss?.reason == "it does not forward"
                })
            // The mend, to the letter.
            let mend = try #require(why.findings.first?.mend)
            #expect(mend == "natlab exec rb -- sysctl -w net.ipv4.ip_forward=1")
            try lab.exec("rb", "sysctl", "-w", "net.ipv4.ip_forward=1")
            #expect(try lab.why("a", "b").connected)
        }
    }

    @Test func blackholes() throws {
        try withCleanup { cleanup in
            let lab = try connected(cleanup)
            for node in ["a", "ra"] {
                try lab.exec(node, "ip", "route", "add", "blackhole", "203.0.113.3/32")
                let why = try lab.expect("no-route", at: node, "a", "b")
                #expect(
                    why.verdict.hasSuffix("\(node) has a blackhole route to 203.0.113.3"), "\(why.verdict)")
                try lab.exec(node, "ip", "route", "del", "blackhole", "203.0.113.3/32")
            }
        }
    }

    @Test func theEndOfALinkThatIsDownIsNamed() throws {
        try withCleanup { cleanup in
            let lab = try connected(cleanup)
            try lab.exec("ra", "ip", "link", "set", "lan0", "down")
            let why = try lab.expect("interface-down", at: "ra", "a", "b")
            #expect(why.findings.count == 1, "\(why.findings)")
            try lab.exec("ra", "ip", "link", "set", "lan0", "up")
            try lab.exec("ra", "ip", "link", "del", "lan0")
            let gone = try lab.why("a", "b")
            #expect(gone.findings.map(\.text) == ["eth0 of a is gone", "lan0 of ra is gone"])
        }
    }

    @Test func whatTheTunnelCarries() throws {
        try withCleanup { cleanup in
            let lab = try connected(cleanup)
            try lab.exec("b", "iptables", "-I", "INPUT", "-i", "wg0", "-j", "DROP")
            try lab.expect("inside-tunnel", at: nil, "a", "b")
            try lab.exec("b", "ip", "address", "flush", "dev", "wg0")
            let why = try lab.expect("inside-tunnel", at: "b", "a", "b")
            #expect(why.verdict.hasSuffix("wg0 of b has lost its address 10.66.66.2"), "\(why.verdict)")
        }
    }
}
