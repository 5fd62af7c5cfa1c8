import SystemCalls
import TestSupport
import Testing

/// ```
///            hub 203.0.113.10 (rendezvous :1234)
///             │
///   ──────────┴──── internet
///      │
///    home-a          MASQUERADE, which does not hairpin
///      ├─ alpine1 192.168.1.2
///      └─ alpine2 192.168.1.3
/// ```
@Suite(.serialized) struct SameNATTests {
    private func oneHome(_ natlab: Natlab, with more: String = "") throws -> Lab {
        try natlab.writeTemplate("quickstart") {
            $0.replacing("on = \"home-b\"", with: "on = \"home-a\"") + more
                + "\n[[expect]]\nbetween = [\"alpine1\", \"alpine2\"]\npath = \"direct\"\n"
        }
    }

    @Test(arguments: 0..<(isEmulated ? 2 : 5)) func meetAtTheirLocalAddresses(_ run: Int) throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try oneHome(natlab)
            try lab.up()
            let verdicts = try natlab.json(Verdicts.self, "verify", "--lab", lab.name)
            let pair = try #require(verdicts.pair("alpine1", "alpine2"))
            #expect(pair.observed == "direct" && verdicts.ok, "\(pair.reason)")
            #expect(pair.endpoint == "192.168.1.3:51820" && pair.endpoint_owner == "alpine2")
            #expect(pair.return_endpoint_owner == "alpine1")
            let time = try #require(pair.first_handshake_ms)
            #expect(time < (isEmulated ? 5_000 : 1_000), "no retry of WireGuard's was waited for")
            #expect(verdicts.pair("hub", "alpine1")?.observed == "direct")
            #expect(verdicts.pair("hub", "alpine2")?.observed == "direct")
            #expect(try pings(from: lab.namespace("alpine1"), to: "10.66.66.3"))
            let logs = try natlab.succeed("logs", "--lab", lab.name)
            #expect(logs.contains("local-address") && logs.contains("192.168.1.3:51820"))
        }
    }

    @Test func isToldOnlyBehindTheSameNAT() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("quickstart")
            try lab.up()
            #expect(try natlab.run("verify", "--lab", lab.name).status == .exited(0))
            #expect(try !natlab.succeed("logs", "--lab", lab.name).contains("local-address"))
        }
    }

    /// Where the hosts may not talk to each other on their own network, nothing is left to try.
    @Test func aShutLANIsNotDirect() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try oneHome(natlab)
            try lab.up()
            for (host, other) in [("alpine1", "192.168.1.3"), ("alpine2", "192.168.1.2")] {
                try tool(in: lab.namespace(host), "iptables", "-A", "INPUT", "-s", other, "-j", "DROP")
            }
            let verdicts = try natlab.json(Verdicts.self, "verify", "--lab", lab.name, "--timeout", "4")
            let pair = try #require(verdicts.pair("alpine1", "alpine2"))
            #expect(pair.observed == "none" && !verdicts.ok, "\(pair.reason)")
        }
    }
}
