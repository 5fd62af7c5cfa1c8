import FoundationEssentials
import SystemCalls
import TestSupport
import Testing

/// ```
///      hub 203.0.113.10 (rendezvous)    third 203.0.113.30, whom nobody has sent to
///       │                                │
///   ────┴────────────────────────────────┴──── internet
///       │                       │
///     cone (full-cone)        home (port-restricted-cone)
///       ├─ a                    └─ c
///       └─ b                              all three use port 51820
/// ```
@Suite(.serialized) struct FullConeTests {
    private static let topology =
        """
        [host.hub]
        on = "internet"
        address = "203.0.113.10"
        [host.third]
        on = "internet"
        address = "203.0.113.30"
        \(Lab.home("cone", "\"full-cone\"", hosts: ["a", "b"]))
        \(Lab.home("home", "\"port-restricted-cone\"", hosts: ["c"]))
        [wireguard.wg0]
        prefix = "10.66.66.0/24"
        members = ["hub", "a", "b", "c", "third"]
        peers = "hub:hub"
        listen-port = 51820
        [rendezvous]
        host = "hub"

        """

    private struct Status: Decodable {
        struct Tunnel: Decodable {
            var host: String
            var peers: [Peer]
        }
        struct Peer: Decodable {
            var host: String?
            var endpoint: String?
            var endpoint_owner: String?
        }
        var wireguard: [Tunnel]
    }

    /// A UDP datagram from the third host's port 4444; too short for WireGuard to heed.
    private func send(_ lab: Lab, _ length: Int, to endpoint: String) throws {
        let parts = endpoint.split(separator: ":")
        try tool(
            in: lab.namespace("third"), "/usr/bin/python3", "-c",
            """
            import socket
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.bind(("203.0.113.30", 4444))
            s.sendto(b"x" * \(length), ("\(parts[0])", \(parts[1])))
            """)
    }

    @Test func bothHostsWithOnePortAreReachedByStrangers() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeLab(Self.topology)
            try lab.up()
            let verdicts = try natlab.json(Verdicts.self, "verify", "--lab", lab.name)
            try #require(verdicts.ok, "\(verdicts.pairs)")
            let status = try natlab.json(Status.self, "status", "--lab", lab.name)
            let peers = try #require(status.wireguard.first { $0.host == "hub" }).peers
            func external(_ host: String) throws -> String {
                try #require(peers.first { $0.host == host }?.endpoint)
            }
            let (a, b, c) = (try external("a"), try external("b"), try external("c"))
            func address(_ endpoint: String) -> Substring { endpoint.prefix { $0 != ":" } }
            #expect(address(a) == address(b) && a != b)
            #expect([a, b].contains("\(address(a)):51820"), "the first has its own port")
            #expect(address(c) != address(a))

            let witnesses = try ["a", "b", "c"].map { host in
                let program = try Background(
                    lab.call(
                        host, "tcpdump", "-n", "-l", "--immediate-mode", "-i", "eth0",
                        "udp and src host 203.0.113.30"), natlab.folder, cleanup)
                try #require(try program.waits(for: "listening on", seconds: 60), "\(program.error)")
                return program
            }
            // Whom c has not sent to does not reach it; what follows is no quicker.
            try send(lab, 35, to: c)
            try send(lab, 33, to: a)
            try send(lab, 34, to: b)
            #expect(try witnesses[0].waits(for: "203.0.113.30.4444 > 192.168.1.2.51820: UDP, length 33"))
            #expect(try witnesses[1].waits(for: "203.0.113.30.4444 > 192.168.1.3.51820: UDP, length 34"))
            #expect(!witnesses[0].output.contains("length 34") && !witnesses[1].output.contains("length 33"))
            #expect(witnesses[2].output == "")

            try handshakes(lab, with: ["a": a, "b": b])
        }
    }

    /// The third host knows keys and endpoints; the others know its key and nothing else.
    private func handshakes(_ lab: Lab, with endpoints: [String: String]) throws {
        func wg(_ host: String, _ arguments: String...) throws -> String {
            let output = try lab.natlab.run(["exec", "--lab", lab.name, host, "--", "wg"] + arguments)
            try #require(output.status == .exited(0), "\(output.error)")
            return String(output.output.prefix { $0 != "\n" })
        }
        let key = try wg("third", "show", "wg0", "public-key")
        for (number, host) in ["a", "b"].enumerated() {
            let own = try wg(host, "show", "wg0", "public-key")
            // Neither address is in use; what matters is the session.
            _ = try wg(host, "set", "wg0", "peer", key, "allowed-ips", "10.66.66.201/32")
            _ = try wg(
                "third", "set", "wg0", "peer", own, "allowed-ips", "10.66.66.\(211 + number)/32", "endpoint",
                try #require(endpoints[host]), "persistent-keepalive", "1")
            let met = try waitUntil(timeout: .seconds(isEmulated ? 60 : 20), pause: .milliseconds(50)) {
                () throws(OperationFailure) in
                let shown = try lab.natlab.run(
                    ["exec", "--lab", lab.name, host, "--", "wg", "show", "wg0", "dump"])
                let peer = shown.output.split(separator: "\n").first { $0.hasPrefix(key) }
                let fields = peer?.split(separator: "\t") ?? []
                return fields.count == 8 && fields[2] == "203.0.113.30:51820" && fields[4] != "0"
            }
            #expect(met, "\(host) has a session with the third host")
        }
    }
}
