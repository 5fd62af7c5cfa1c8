import FoundationEssentials
import SystemCalls
import TestSupport
import Testing

/// Causes that lie between the clients and the rendezvous.
@Suite(.serialized) struct RendezvousCauseTests {
    private struct Status: Decodable {
        struct Tunnel: Decodable {
            var host: String
            var client: String?
        }
        var wireguard: [Tunnel]
    }

    /// Waits until a host's client says something.
    private func wait(_ lab: WhyLab, _ host: String, says text: String) throws {
        var last = ""
        let said = try waitUntil(timeout: .seconds(30), pause: .milliseconds(50)) {
            let status = try? lab.lab.natlab.json(Status.self, "status", "--lab", lab.lab.name)
            last = status?.wireguard.first { $0.host == host }?.client ?? ""
            return last.contains(text)
        }
        try #require(said, "\(host): \(last)")
    }

    @Test func wrongServerKey() throws {
        try withCleanup { cleanup in
            let made = try ProgramCall("wg", ["genkey"]).run()
            let key = try ProgramCall("wg", ["pubkey"]).run(input: Array(made.output.utf8)).output
            let lab = try WhyLab.homes(
                try Natlab(cleanup),
                further: "[host.a.rendezvous]\nserver-key = \"\(key.prefix { $0 != "\n" })\"")
            try lab.up()
            let why = try lab.expect("wrong-server-key", at: "a", "a", "b")
            #expect(why.verdict.contains(String(key.prefix(15))), "\(why.verdict)")
        }
    }

    @Test func rendezvousDown() throws {
        try withCleanup { cleanup in
            let lab = try WhyLab.homes(
                try Natlab(cleanup), further: "[host.a.rendezvous]\nendpoint = \"203.0.113.10:4321\"")
            try lab.up()
            let why = try lab.expect("rendezvous-down", at: "hub", "a", "b")
            #expect(
                why.verdict.contains("203.0.113.10:4321") && why.verdict.contains("port unreachable"),
                "\(why.verdict)")
        }
    }

    @Test(arguments: ["ra", "hub"]) func rendezvousUnreachable(_ node: String) throws {
        try withCleanup { cleanup in
            let lab = try WhyLab.homes(
                try Natlab(cleanup), further: "[host.a.rendezvous]\nstart-delay = \"2s\"")
            try lab.up()
            let chain = node == "hub" ? "INPUT" : "FORWARD"
            try lab.exec(node, "iptables", "-I", chain, "-p", "udp", "--dport", "1234", "-j", "DROP")
            try wait(lab, "a", says: "does not answer")
            let why = try lab.expect("rendezvous-unreachable", at: node, "a", "b")
            #expect(why.verdict.contains("1234"), "\(why.verdict)")
        }
    }

    @Test func reachedThroughTheTunnel() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = WhyLab(
                lab: try natlab.writeLab(
                    """
                    [router.ra]
                    uplink = "internet"
                    lan = "192.168.1.0/24"
                    [router.rb]
                    uplink = "internet"
                    lan = "192.168.2.0/24"
                    [host.a]
                    on = "ra"
                    [host.b]
                    on = "rb"
                    [host.hub]
                    on = "internet"
                    [wireguard.wg0]
                    prefix = "10.66.66.0/24"
                    members = ["hub", "a", "b"]
                    [rendezvous]
                    host = "hub"
                    endpoint = "10.66.66.1:1234"
                    """))
            try lab.up()
            try lab.expect("rendezvous-through-tunnel", at: "a", "a", "b")
        }
    }

    @Test func unknownKey() throws {
        try withCleanup { cleanup in
            let lab = try WhyLab.homes(
                try Natlab(cleanup), further: "[host.b.rendezvous]\nstart-delay = \"300s\"")
            try lab.up()
            try wait(lab, "a", says: "registered")
            let why = try lab.expect("unknown-key", at: "b", "a", "b", timeout: 2)
            #expect(why.verdict.contains("starts 300000 ms after"), "\(why.verdict)")
            #expect(why.verdict.contains(String(try lab.publicKey("b").prefix(15))), "\(why.verdict)")
        }
    }
}
