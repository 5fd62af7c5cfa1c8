import Glibc
import SystemCalls
import TestSupport
import Testing

/// ```
///            hub 203.0.113.10 (rendezvous :1234)
///             │
///   ──────────┴──────────── internet
///      │               │
///    home-a          home-b        MASQUERADE, both LANs 192.168.1.0/24
///      │               │
///    alpine1         alpine2
/// ```
@Suite(.serialized) struct QuickstartTests {
    /// Many times: what punches once may still race.
    ///
    /// Under an emulated kernel each run takes seconds, so fewer there.
    @Test(arguments: 0..<(isEmulated ? 3 : 20)) func punchesThroughBothNATs(_ run: Int) throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("quickstart")
            try lab.up()
            let verdicts = try natlab.json(Verdicts.self, "verify", "--lab", lab.name)
            #expect(verdicts.ok && verdicts.pairs.count == 3 && verdicts.problems.isEmpty)
            let pair = try #require(verdicts.pair("alpine1", "alpine2"))
            #expect(pair.observed == "direct", "\(pair.reason)")
            #expect(pair.endpoint == "203.0.113.3:51820" && pair.endpoint_owner == "home-b")
            #expect(pair.return_endpoint_owner == "home-a")
            #expect(pair.first_handshake_ms != nil)
            #expect(try pings(from: lab.namespace("alpine1"), to: "10.66.66.3"))
        }
    }

    @Test func showsItselfAndKeepsItsSecrets() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("quickstart")
            try lab.up()
            var shown = try natlab.succeed("verify", "--lab", lab.name)
            shown += try natlab.succeed("status", "--lab", lab.name)
            #expect(shown.contains("knows 3 clients"))
            shown += try natlab.succeed("status", "--lab", lab.name, "--json")
            let logs = try natlab.succeed("logs", "--lab", lab.name)
            for event in ["server-registered", "resolved", "punched", "endpoint-set", "connected"] {
                #expect(logs.contains(event))
            }
            shown += logs
            shown += try natlab.succeed("plan", lab.file, "--format", "json")
            // Each host shows its own wg0 and no other's.
            var keys: Set<String> = []
            for host in ["hub", "alpine1", "alpine2"] {
                let text = try natlab.succeed("exec", "--lab", lab.name, host, "--", "wg", "show")
                #expect(text.split(separator: "\n").count { $0.hasPrefix("interface:") } == 1)
                keys.insert(
                    try natlab.succeed(
                        "exec", "--lab", lab.name, host, "--", "wg", "show", "wg0", "public-key"))
                let secret = try natlab.succeed(
                    "exec", "--lab", lab.name, host, "--", "wg", "show", "wg0", "private-key"
                ).trimmed
                #expect(secret.count == 44 && !shown.contains(secret))
                #expect(try MachineSnapshot.processes(mentioning: secret).isEmpty)
            }
            #expect(keys.count == 3)
            // Nobody but root may look into the lab's folder.
            var status = stat()
            #expect(stat("/run/natlab/\(lab.name)", &status) == 0 && status.st_mode & 0o777 == 0o700)
        }
    }

    @Test func droppedUDPIsNotReportedAsConnected() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("quickstart")
            try lab.up()
            #expect(try natlab.run("verify", "--lab", lab.name).status == .exited(0))
            try tool(in: lab.namespace("home-a"), "iptables", "-I", "FORWARD", "-p", "udp", "-j", "DROP")
            let verdicts = try natlab.json(Verdicts.self, "verify", "--lab", lab.name, "--timeout", "4")
            #expect(!verdicts.ok)
            #expect(verdicts.pair("alpine1", "alpine2")?.observed == "none")
            #expect(verdicts.pair("hub", "alpine1")?.observed == "none")
            #expect(verdicts.pair("hub", "alpine2")?.observed == "direct")
        }
    }

    @Test func expectedNoneIsFoundAndJUnitSaysSo() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("quickstart") {
                $0 + "\n[[expect]]\nbetween = [\"alpine1\", \"alpine2\"]\npath = \"none\"\n"
            }
            try lab.up()
            // They do connect: that is not as expected.
            let output = try natlab.run("verify", "--lab", lab.name, "--junit", "result.xml")
            #expect(output.status == .exited(1) && output.output.contains("NOT AS EXPECTED"))
            let document = try Files.readText("\(natlab.folder)/result.xml")
            #expect(document.contains(#"tests="3" failures="1""#))
        }
    }

    @Test func aDeadAgentIsNamed() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("quickstart")
            try lab.up()
            let agents = try MachineSnapshot.processes(mentioning: "NATLAB_AGENT_OF=/run/natlab/\(lab.name)")
            let pid = try #require(agents.first?.split(separator: " ").first.flatMap { Int32($0) })
            let process = try ProcessHandle(pid: pid)
            try process.signal(SIGKILL)
            let hasEnded = process.waitForEnd(until: .now() + .seconds(5))
            #expect(hasEnded)
            let output = try natlab.run("verify", "--lab", lab.name, "--timeout", "2")
            #expect(output.status == .exited(1))
            #expect(output.output.contains("agent of lab '\(lab.name)'"))
        }
    }

    @Test func anUnreachableRendezvousIsNamed() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            // Nothing listens at this address, so no client is ever served.
            let lab = try natlab.writeTemplate("quickstart") {
                $0.replacing("port = 1234", with: "port = 1234\nendpoint = \"203.0.113.99:1234\"")
            }
            try lab.up()
            let verdicts = try natlab.json(Verdicts.self, "verify", "--lab", lab.name, "--timeout", "6")
            #expect(!verdicts.ok)
            #expect(verdicts.pair("alpine1", "alpine2")?.observed == "none")
            #expect(verdicts.problems.contains { $0.contains("alpine1") })
        }
    }

    /// WireGuard's own socket and the client's raw socket both see every one of them.
    @Test func theTunnelSurvivesStrayDatagrams() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("quickstart")
            try lab.up()
            #expect(try natlab.run("verify", "--lab", lab.name).status == .exited(0))
            let script = """
                import os, socket
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                for number in range(100000):
                    s.sendto(os.urandom(16 + number % 200), ("203.0.113.10", 51820))
                """
            try tool(in: lab.namespace("alpine1"), "python3", "-c", script)
            let verdicts = try natlab.json(Verdicts.self, "verify", "--lab", lab.name)
            #expect(verdicts.ok, "\(verdicts.pairs.map(\.reason)) \(verdicts.problems)")
        }
    }

    @Test func aHungWireGuardHoldsUpNobodyElse() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("quickstart") {
                $0.replacing("[wireguard.wg0]", with: "[wireguard.wg0]\nbackend = \"userspace\"")
            }
            try lab.up()
            #expect(try natlab.run("verify", "--lab", lab.name).status == .exited(0))
            for pid in try lab.processes(node: "alpine2") { try ProcessHandle(pid: pid).signal(SIGSTOP) }
            let verdicts = try natlab.json(Verdicts.self, "verify", "--lab", lab.name, "--timeout", "5")
            #expect(verdicts.pair("hub", "alpine1")?.observed == "direct")
            let broken = try #require(verdicts.pair("hub", "alpine2"))
            #expect(broken.observed == "none" && broken.reason.contains("alpine2"))
            #expect(!verdicts.problems.contains { $0.contains("agent of lab") })
        }
    }

    @Test func theAgentSurvivesWhatIsThrownAtIt() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("quickstart")
            try lab.up()
            #expect(try natlab.run("verify", "--lab", lab.name).status == .exited(0))
            // Garbage of every length to the server and to the clients' ports.
            let script = """
                import os, socket
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                for target in [("203.0.113.10", 1234), ("203.0.113.10", 51820)]:
                    for length in range(0, 200):
                        for first in (0, 1, 2, 3, 4, 5, 6):
                            s.sendto((bytes([first]) + os.urandom(length))[:length], target)
                """
            try tool(in: lab.namespace("alpine1"), "python3", "-c", script)
            // An interface that vanishes, too.
            try tool(in: lab.namespace("alpine2"), "ip", "link", "del", "wg0")
            let verdicts = try natlab.json(Verdicts.self, "verify", "--lab", lab.name, "--timeout", "3")
            #expect(verdicts.pair("hub", "alpine1")?.observed == "direct")
            #expect(verdicts.pair("alpine1", "alpine2")?.reason.contains("wg0 of alpine2") == true)
            #expect(try natlab.succeed("status", "--lab", lab.name).contains("rendezvous hub"))
        }
    }
}

/// ```
///        hub (rendezvous)
///   ──────┴─────────────── internet
///      │               │
///    carrier         home-b        MASQUERADE
///      │ 100.64/10     │
///    home-a          laptop        MASQUERADE
///      │
///    phone
/// ```
@Suite(.serialized) struct CarrierTests {
    @Test(arguments: 0..<(isEmulated ? 2 : 5)) func punchesThroughTwoNATsOnOneSide(_ run: Int) throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("cgnat")
            try lab.up()
            let verdicts = try natlab.json(Verdicts.self, "verify", "--lab", lab.name)
            let pair = try #require(verdicts.pair("phone", "laptop"))
            #expect(verdicts.ok && pair.observed == "direct", "\(pair.reason)")
            // What the laptop sees is the carrier, not the home behind it.
            #expect([pair.endpoint_owner, pair.return_endpoint_owner].contains("carrier"))
        }
    }
}
