import Glibc
import SystemCalls
import TestSupport
import Testing

/// Verdicts that are easy to get wrong.
@Suite(.serialized) struct VerdictTests {
    /// ```
    ///   alpine1 ═══ hub ═══ alpine2     what they send to each other: hub's peer has 10.66.66.0/24
    ///      ╚═══════════════════╝        their own session: up, with keepalives, for another address
    /// ```
    @Test func aPathThroughAHubIsNotDirect() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("quickstart") {
                $0
                    + [("alpine1", "alpine2", 3), ("alpine2", "alpine1", 2)].map { host, other, number in
                        """

                        [host.\(host).wireguard.wg0.peer.hub]
                        allowed-ips = ["10.66.66.0/24"]
                        [host.\(host).wireguard.wg0.peer.\(other)]
                        allowed-ips = ["10.77.77.\(number)/32"]
                        keepalive = "1s"

                        """
                    }.joined()
            }
            try lab.up()
            try tool(in: lab.namespace("hub"), "sysctl", "-qw", "net.ipv4.ip_forward=1")
            let found = try waitUntil(timeout: .seconds(20), pause: .milliseconds(50)) {
                () throws(OperationFailure) in try pings(from: lab.namespace("alpine1"), to: "10.66.66.3")
            }
            #expect(found, "the hub forwards")
            for _ in 0..<3 {
                let verdicts = try natlab.json(Verdicts.self, "verify", "--lab", lab.name, "--timeout", "4")
                let pair = try #require(verdicts.pair("alpine1", "alpine2"))
                #expect(pair.observed == "none" && !verdicts.ok)
                #expect(pair.handshake_age_s != nil, "they have a session of their own")
                #expect(
                    pair.reason.contains("goes to hub (10.66.66.1) to be sent on, not over this peer"),
                    "\(pair.reason)")
                #expect(!pair.reason.contains("the time was up"))
                #expect(verdicts.pair("hub", "alpine1")?.observed == "direct")
                #expect(verdicts.pair("hub", "alpine2")?.observed == "direct")
            }
            // Also where something on the way lets the echoes live longer: what the peer received tells.
            for host in ["alpine1", "alpine2"] {
                try tool(
                    in: lab.namespace(host), "iptables", "-t", "mangle", "-A", "POSTROUTING", "-o", "wg0",
                    "-j",
                    "TTL", "--ttl-set", "64")
            }
            let verdicts = try natlab.json(Verdicts.self, "verify", "--lab", lab.name, "--timeout", "6")
            let pair = try #require(verdicts.pair("alpine1", "alpine2"))
            #expect(pair.observed == "none" && pair.rtt_ms != nil)
            #expect(
                pair.reason.contains("echoes came back from")
                    && pair.reason.contains("but not over this peer"),
                "\(pair.reason)")
        }
    }

    @Test func aHungWireGuardHoldsNobodyUp() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("static") {
                $0.replacing("[wireguard.wg0]", with: "[wireguard.wg0]\nbackend = \"userspace\"")
            }
            try lab.up()
            #expect(try natlab.run("verify", "--lab", lab.name).status == .exited(0))
            for pid in try lab.processes(node: "phone") { try ProcessHandle(pid: pid).signal(SIGSTOP) }
            let start = MonotonicTime.now()
            let verdicts = try natlab.json(Verdicts.self, "verify", "--lab", lab.name, "--timeout", "20")
            // Found by asking it, not by the time running out.
            #expect(MonotonicTime.now() - start < .seconds(15))
            let hung = try #require(verdicts.pair("server", "phone"))
            #expect(!hung.ok && hung.reason.contains("wg0 of phone does not answer"), "\(hung.reason)")
            #expect(!hung.reason.contains("the time was up"))
            let healthy = try #require(verdicts.pair("server", "laptop"))
            let time = try #require(healthy.rtt_ms)
            #expect(healthy.ok && time < 400, "one question to a hung program takes 500 ms")
            let shown = try natlab.succeed("status", "--lab", lab.name)
            let lines = shown.split(separator: "\n")
            #expect(lines.contains { $0.hasPrefix("phone wg0: ") && $0.contains("did not answer") })
            #expect(lines.contains { $0.hasPrefix("phone ") && $0.hasSuffix("not readable, see below") })
        }
    }

    @Test func jUnitGoesThroughDevicesAndLinks() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("static")
            try lab.up()
            // A device of the test's own, like /dev/null.
            let device = "\(natlab.folder)/null"
            #expect(mknod(device, S_IFCHR | 0o600, 0x0103) == 0)
            #expect(symlink("target.xml", "\(natlab.folder)/link.xml") == 0)
            for name in ["null", "link.xml"] {
                #expect(try natlab.run("verify", "--lab", lab.name, "--junit", name).status == .exited(0))
            }
            var status = stat()
            #expect(lstat(device, &status) == 0 && status.st_mode & S_IFMT == S_IFCHR)
            #expect(lstat("\(natlab.folder)/link.xml", &status) == 0 && status.st_mode & S_IFMT == S_IFLNK)
            #expect(try Files.readText("\(natlab.folder)/target.xml").contains("<testsuite "))
            // The verdict comes first, then what is wrong with the file.
            let failed = try natlab.run("verify", "--lab", lab.name, "--junit", "missing/result.xml")
            #expect(failed.status == .exited(3) && failed.error.contains("missing/result.xml"))
            #expect(failed.output.contains("server - laptop"))
        }
    }

    @Test func severalNetworksAreNamed() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("static") {
                $0
                    + """

                    [wireguard.wg1]
                    prefix = "10.77.77.0/24"
                    members = ["server", "laptop"]
                    peers = "mesh"
                    listen-port = 51821

                    """
            }
            try lab.up()
            let text = try natlab.run("verify", "--lab", lab.name)
            #expect(
                text.output.contains("server - laptop (wg0)") && text.output.contains("server - laptop (wg1)")
            )
            let verdicts = try natlab.json(Verdicts.self, "verify", "--lab", lab.name)
            #expect(verdicts.pairs.contains { $0.reason.hasPrefix("wg1: ") })
        }
    }
}
