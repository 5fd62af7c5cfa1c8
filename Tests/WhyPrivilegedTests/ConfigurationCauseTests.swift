import Glibc
import SystemCalls
import TestSupport
import Testing

/// Causes that lie in what a host is told, or in what has ended.
@Suite(.serialized) struct ConfigurationCauseTests {
    @Test func connectedShowsBothMappings() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = WhyLab(lab: try natlab.writeTemplate("quickstart"))
            try lab.up()
            try lab.connect()
            let why = try lab.why("alpine1", "alpine2")
            #expect(why.connected, "\(why)")
            #expect(why.gaps.isEmpty, "\(why.gaps)")
            for (router, host) in [("home-a", "alpine1"), ("home-b", "alpine2")] {
                let mapping = try #require(why.nats.first { $0.router == router }?.mappings.first)
                #expect(
                    why.verdict.contains("\(mapping.outer) (\(router)'s mapping of"),
                    "\(host): \(why.verdict)")
            }
            #expect(
                why.directions.map(\.nodes) == [
                    ["alpine1", "home-a", "internet", "home-b", "alpine2"],
                    ["alpine2", "home-b", "internet", "home-a", "alpine1"],
                ])
            #expect(why.directions.allSatisfy { $0.arrived > 0 && $0.loss == nil })
            // conntrack(8) is the witness.
            let flows = try tool(in: lab.lab.namespace("home-a"), "conntrack", "-L", "-p", "udp")
            let mapping = try #require(why.nats.first { $0.router == "home-a" }?.mappings.first)
            let port = try #require(mapping.outer.split(separator: ":").last)
            #expect(flows.contains("dport=\(port)"), "\(flows)")
        }
    }

    @Test func notMutualPeers() throws {
        try withCleanup { cleanup in
            let lab = try WhyLab.homes(try Natlab(cleanup))
            try lab.up()
            try lab.connect()
            try lab.exec("a", "wg", "set", "wg0", "peer", try lab.publicKey("b"), "remove")
            let why = try lab.expect("not-mutual-peers", at: "a", "a", "b")
            #expect(why.verdict.contains("b is not a peer of a"), "\(why.verdict)")
            try lab.exec("b", "wg", "set", "wg0", "peer", try lab.publicKey("a"), "remove")
            let both = try lab.expect("not-mutual-peers", at: nil, "a", "b")
            #expect(both.verdict.contains("not each other's peers"), "\(both.verdict)")
        }
    }

    @Test func wrongPublicKey() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try WhyLab.homes(natlab)
            try lab.up()
            try lab.connect()
            // b gets another key; a still has the old one.
            let made = try ProgramCall("wg", ["genkey"]).run()
            try natlab.write("other.key", made.output)
            try lab.exec("b", "wg", "set", "wg0", "private-key", "\(natlab.folder)/other.key")
            let why = try lab.expect("wrong-public-key", at: "a", "a", "b")
            #expect(why.verdict.contains(String(try lab.publicKey("b").prefix(15))), "\(why.verdict)")
        }
    }

    @Test func wrongPublicKeyInThePeerList() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try WhyLab.homes(natlab)
            try lab.up()
            try lab.connect()
            let made = try ProgramCall("wg", ["genkey"]).run()
            let other = try ProgramCall("wg", ["pubkey"]).run(input: Array(made.output.utf8)).output
            try lab.exec("a", "wg", "set", "wg0", "peer", try lab.publicKey("b"), "remove")
            try lab.exec(
                "a", "wg", "set", "wg0", "peer", String(other.prefix { $0 != "\n" }), "allowed-ips",
                "10.66.66.2/32")
            try lab.expect("wrong-public-key", at: "a", "b", "a")
        }
    }

    @Test func allowedIPsExcludeTheAddress() throws {
        try withCleanup { cleanup in
            let lab = try WhyLab.homes(try Natlab(cleanup))
            try lab.up()
            try lab.connect()
            let key = try lab.publicKey("a")
            try lab.exec("b", "wg", "set", "wg0", "peer", key, "allowed-ips", "10.66.66.77/32")
            let why = try lab.expect("allowed-ips", at: "b", "a", "b")
            #expect(why.verdict.contains("exclude its address 10.66.66.1"), "\(why.verdict)")
        }
    }

    @Test(arguments: [("b", "eth0"), ("rb", "wan0"), ("b", "wg0")]) func interfaceDown(
        _ node: String, _ name: String
    )
        throws
    {
        try withCleanup { cleanup in
            let lab = try WhyLab.homes(try Natlab(cleanup))
            try lab.up()
            try lab.connect()
            try lab.exec(node, "ip", "link", "set", name, "down")
            let why = try lab.expect("interface-down", at: node, "a", "b")
            #expect(why.verdict.contains("\(name) of \(node) is down"), "\(why.verdict)")
        }
    }

    @Test(.enabled(if: !isEmulated, "the kernel's WireGuard has no process")) func wireGuardGoDead() throws {
        try withCleanup { cleanup in
            let lab = try WhyLab.homes(try Natlab(cleanup))
            try lab.up()
            try lab.connect()
            let pid = try #require(
                try lab.lab.processes(node: "b").first {
                    (try? Files.readText("/proc/\($0)/comm"))?.hasPrefix("wireguard-go") ?? false
                })
            try ProcessHandle(pid: pid).signal(SIGKILL)
            try #require(try waitUntil(timeout: .seconds(5), pause: .milliseconds(5)) { !isRunning(pid) })
            let why = try lab.expect("wireguard-dead", at: "b", "a", "b")
            #expect(why.verdict.contains("wg0 of b"), "\(why.verdict)")
        }
    }

    @Test func agentDead() throws {
        try withCleanup { cleanup in
            let lab = try WhyLab.homes(try Natlab(cleanup))
            try lab.up()
            let agent = try lab.agent
            try ProcessHandle(pid: agent).signal(SIGKILL)
            try #require(try waitUntil(timeout: .seconds(5), pause: .milliseconds(5)) { !isRunning(agent) })
            try lab.forgetPeers("a", "b")
            try lab.expect("agent-dead", at: "hub", "a", "b")
        }
    }

    @Test func endpointOverwritten() throws {
        try withCleanup { cleanup in
            let lab = try WhyLab.spoke(try Natlab(cleanup))
            try lab.up()
            let key = try lab.publicKey("hub")
            // With a session hub's own packets would set it right again.
            try lab.forgetPeers("hub", "a")
            try lab.exec("a", "wg", "set", "wg0", "peer", key, "endpoint", "203.0.113.99:51820")
            let why = try lab.expect("endpoint-overwritten", at: "a", "a", "hub")
            #expect(why.verdict.contains("203.0.113.99:51820"), "\(why.verdict)")
            #expect(why.verdict.contains("203.0.113.10:51820"), "\(why.verdict)")
        }
    }
}
