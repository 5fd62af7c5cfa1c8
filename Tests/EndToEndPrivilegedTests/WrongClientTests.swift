import FoundationEssentials
import SystemCalls
import TestSupport
import Testing

/// Clients that are told a wrong key or place of the server, and what the agent can say of it.
///
/// ```
///            hub 203.0.113.10 (rendezvous :1234)
///             │
///   ──────────┴──── internet
///      │          │
///    home-a     home-b        MASQUERADE
///      │          │
///    alpine1    alpine2
///    wrong key  wrong port
/// ```
@Suite(.serialized) struct WrongClientTests {
    /// Parts of what the agent writes to whoever connects to its socket.
    private struct Agent: Decodable {
        struct Refusal: Decodable {
            var source: String
            var reason: String
            var publicKey: String?
            var count: Int
        }
        struct Entry: Decodable {
            var publicKey: String
            var firstSeen: UInt64
            var lastSeen: UInt64
        }
        struct Server: Decodable {
            var publicKey: String
            var entries: [Entry]
            var refusals: [Refusal]
        }
        struct Client: Decodable {
            struct Counters: Decodable {
                var handshakesSent: Int
                var sessions: Int
                var replies: Int
            }
            struct Time: Decodable { var nanoseconds: Int64 }
            var host: String
            var publicKey: String
            var listenPort: Int
            var server: String
            var serverKey: String
            var standing: String
            var observed: String?
            var registeredAt: Time?
            var counters: Counters
        }
        var server: Server
        var clients: [Client]

        func client(_ host: String) throws -> Client {
            try #require(clients.first { $0.host == host })
        }
    }

    private func ask(_ lab: Lab) throws -> Agent {
        let script = """
            import socket, sys
            agent = socket.socket(socket.AF_UNIX)
            agent.connect(sys.argv[1])
            sys.stdout.write(agent.makefile().read())
            """
        let text = try tool("python3", "-c", script, "/run/natlab/\(lab.name)/agent.sock")
        return try JSONDecoder().decode(Agent.self, from: Data(text.utf8))
    }

    @Test func areRefusedOrNeverAnswered() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let pair = try ProgramCall("wg", ["genkey"]).run()
            let derived = try ProgramCall("wg", ["pubkey"]).run(input: Array(pair.output.utf8))
            let wrongKey = String(derived.output.prefix(44))
            let lab = try natlab.writeTemplate("quickstart") {
                $0 + """

                    [host.alpine1.rendezvous]
                    server-key = "\(wrongKey)"
                    [host.alpine2.rendezvous]
                    endpoint = "203.0.113.10:1235"
                    """
            }
            let checked = try natlab.run("check", lab.file)
            #expect(checked.status == .exited(0))
            #expect(
                checked.error.contains(
                    "203.0.113.10:1235 is not where the rendezvous listens (203.0.113.10:1234): `alpine2` will get no "
                        + "answer"), "\(checked.error)")
            #expect(checked.error.contains("endpoint = \"203.0.113.10:1235\""), "with its place")
            try lab.up()

            let settled = try waitUntil(timeout: .seconds(isEmulated ? 120 : 30), pause: .milliseconds(50)) {
                guard let agent = try? ask(lab) else { return false }
                return agent.clients.count { $0.standing == "silent" } == 2
                    && agent.clients.contains { $0.host == "hub" && $0.standing == "registered" }
            }
            let agent = try ask(lab)
            #expect(settled, "\(agent.clients)")
            let (hub, wrong, lost) = (
                try agent.client("hub"), try agent.client("alpine1"), try agent.client("alpine2")
            )
            #expect(hub.serverKey == agent.server.publicKey && hub.server == "203.0.113.10:1234")
            #expect(hub.registeredAt != nil && hub.observed != nil)
            #expect(wrong.serverKey == wrongKey && wrong.server == hub.server && wrong.listenPort == 51820)
            #expect(lost.serverKey == agent.server.publicKey && lost.server == "203.0.113.10:1235")
            for client in [wrong, lost] {
                #expect(client.registeredAt == nil && client.observed == nil)
                #expect(client.counters.handshakesSent >= 3)
                #expect(client.counters.sessions == 0 && client.counters.replies == 0)
            }

            // An init made for another key does not even tell whose it is; where it came from, it does.
            #expect(agent.server.refusals.map(\.source) == ["203.0.113.2:51820"])
            let refusal = try #require(agent.server.refusals.first)
            #expect(refusal.reason == "bad-tag" && refusal.publicKey == nil && refusal.count >= 3)
            #expect(agent.server.entries.map(\.publicKey) == [hub.publicKey])
            let entry = try #require(agent.server.entries.first)
            #expect(entry.firstSeen <= entry.lastSeen && entry.firstSeen > 1_700_000_000_000_000_000)
        }
    }
}
