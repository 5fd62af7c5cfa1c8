import Glibc
import SystemCalls
import TestSupport
import Testing

/// ```
///        server 203.0.113.10
///         │
///   ──────┴───────────── internet
///      │             │
///    cafe          hotel        MASQUERADE
///      │             │
///    laptop        phone        no rendezvous
/// ```
@Suite(.serialized) struct StaticLabTests {
    @Test func connectsAndLeavesNothing() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("static")
            try lab.up()

            let verdicts = try natlab.json(Verdicts.self, "verify", "--lab", lab.name)
            #expect(verdicts.ok && verdicts.problems.isEmpty)
            #expect(verdicts.pairs.count == 2)
            let pair = try #require(verdicts.pair("server", "laptop"))
            #expect(pair.observed == "direct" && pair.ok)
            #expect(pair.endpoint == "203.0.113.2:51820" && pair.endpoint_owner == "cafe")
            #expect(pair.handshake_age_s != nil && pair.rtt_ms != nil)

            // Independent witnesses: ping through the tunnel, iptables' own view, wg's own view.
            #expect(try pings(from: lab.namespace("laptop"), to: "10.66.66.1"))
            // The spokes reach each other through the hub, without being each other's peers.
            #expect(try pings(from: lab.namespace("laptop"), to: "10.66.66.3"))
            let rules = try tool(in: lab.namespace("cafe"), "iptables", "-t", "nat", "-S")
            #expect(rules.contains("-A POSTROUTING -o wan0 -j MASQUERADE"))
            let shown = try natlab.succeed("exec", "--lab", lab.name, "laptop", "--", "wg", "show")
            #expect(shown.contains("interface: wg0"))
            #expect(shown.split(separator: "\n").count { $0.hasPrefix("interface:") } == 1)

            let inside = try lab.processes()
            // The kernel's WireGuard needs no process.
            #expect(isEmulated || inside.count == 3)
            let down = try natlab.succeed("down", "--lab", lab.name)
            #expect(down.contains("nothing is left"))
            try MachineSnapshot.expectNothing(named: lab.name)
            for pid in inside { #expect(!isRunning(pid), "process \(pid) of the lab still runs") }
        }
    }

    /// `auto` takes the kernel's WireGuard where there is one; `ip link` is the witness of what there is.
    @Test func autoPicksWhatTheMachineHas() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("static")
            let probe = try cleanup.namespace(uniqueName("e2e"))
            let hasKernel = try ProgramCall(
                "ip", ["-n", probe.name, "link", "add", "wg0", "type", "wireguard"]
            ).run()
                .status.isSuccess
            if isEmulated { #expect(hasKernel, "Debian's stock kernel has WireGuard") }
            let output = try natlab.succeed("up", lab.file)
            #expect(output.contains(hasKernel ? "WireGuard (kernel)" : "WireGuard (userspace)"))
            #expect(try natlab.run("verify", "--lab", lab.name).status == .exited(0))
            // A process in each host, or none: what is served in the kernel needs none.
            #expect(try lab.processes().count == (hasKernel ? 0 : 3))
        }
    }

    @Test func aSecondUpAndASecondDownSaySo() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("static")
            try lab.up()
            let again = try natlab.run("up", lab.file)
            #expect(again.status == .exited(4))
            #expect(again.error.contains("'\(lab.name)' is up already"))
            try natlab.succeed("down", "--lab", lab.name)
            let second = try natlab.run("down", "--lab", lab.name)
            #expect(second.status == .exited(4))
            #expect(second.error.contains("no lab '\(lab.name)'"))
        }
    }

    @Test func twoLabsRunSideBySide() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let first = try natlab.writeTemplate("static")
            let second = try natlab.writeTemplate("static")
            try first.up()
            try second.up()
            let listed = try natlab.succeed("list")
            #expect(listed.contains(first.name) && listed.contains(second.name))
            // Without a name the command would have to guess.
            let ambiguous = try natlab.run("verify")
            #expect(ambiguous.status == .exited(2) && ambiguous.error.contains("--lab NAME"))
            for lab in [first, second] {
                #expect(try natlab.run("verify", "--lab", lab.name).status == .exited(0))
            }
            try natlab.succeed("down", "--lab", first.name)
            #expect(try natlab.run("verify", "--lab", second.name).status == .exited(0))
        }
    }

    @Test func droppedUDPIsNotConnected() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("static")
            try lab.up()
            #expect(try natlab.run("verify", "--lab", lab.name).status == .exited(0))
            try tool(in: lab.namespace("cafe"), "iptables", "-I", "FORWARD", "-p", "udp", "-j", "DROP")
            let verdicts = try natlab.json(Verdicts.self, "verify", "--lab", lab.name, "--timeout", "3")
            #expect(!verdicts.ok)
            let broken = try #require(verdicts.pair("server", "laptop"))
            #expect(broken.observed == "none" && !broken.ok)
            #expect(broken.reason.contains("no data came back"))
            #expect(verdicts.pair("server", "phone")?.observed == "direct")
            #expect(try natlab.run("verify", "--lab", lab.name, "--timeout", "1").status == .exited(1))
        }
    }

    @Test func aDeadWireGuardIsNamed() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("static") {
                $0.replacing("[wireguard.wg0]", with: "[wireguard.wg0]\nbackend = \"userspace\"")
            }
            try lab.up()
            for pid in try lab.processes(node: "phone") { try ProcessHandle(pid: pid).signal(SIGKILL) }
            let verdicts = try natlab.json(Verdicts.self, "verify", "--lab", lab.name, "--timeout", "5")
            let pair = try #require(verdicts.pair("server", "phone"))
            #expect(!pair.ok && pair.reason.contains("wg0 of phone"))
            #expect(verdicts.pair("server", "laptop")?.observed == "direct")
        }
    }

    @Test func anEndpointInsideTheTunnelOrOfAnotherNodeIsNotDirect() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("static")
            try lab.up()
            #expect(try natlab.run("verify", "--lab", lab.name).status == .exited(0))
            // The server is told that the laptop is where the phone is: nothing comes back from there.
            let keys = try natlab.succeed(
                "exec", "--lab", lab.name, "laptop", "--", "wg", "show", "wg0", "public-key")
            let key = keys.trimmed
            try natlab.succeed(
                "exec", "--lab", lab.name, "server", "--", "wg", "set", "wg0", "peer", key, "endpoint",
                "10.66.66.3:51820",
                "persistent-keepalive", "1")
            try tool(in: lab.namespace("cafe"), "iptables", "-I", "FORWARD", "-p", "udp", "-j", "DROP")
            let verdicts = try natlab.json(Verdicts.self, "verify", "--lab", lab.name, "--timeout", "2")
            #expect(verdicts.pair("server", "laptop")?.observed == "none")
        }
    }
}

extension String {
    /// Without white space and line ends around it.
    var trimmed: String {
        var text = self[...]
        while let last = text.last, last.isWhitespace { text = text.dropLast() }
        return String(text.drop { $0.isWhitespace })
    }
}
