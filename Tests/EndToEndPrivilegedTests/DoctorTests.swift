import FoundationEssentials
import Glibc
import SystemCalls
import TestSupport
import Testing

/// `natlab doctor` against what other tools say of the same machine.
@Suite(.serialized) struct DoctorTests {
    private struct Report: Decodable {
        struct Check: Decodable {
            var name: String
            var state: String
            var required: Bool
            var found: String
            var mend: String?
        }
        var ok: Bool
        var checks: [Check]
        var status: SystemCalls.ExitStatus = .exited(-1)

        private enum CodingKeys: CodingKey { case ok, checks }

        func check(_ name: String) throws -> Check {
            try #require(checks.first { $0.name == name }, "\(name)")
        }
    }

    private func report(_ output: ProgramCall.Output) throws -> Report {
        var report = try JSONDecoder().decode(Report.self, from: Data(output.output.utf8))
        report.status = output.status
        #expect(report.status == .exited(report.ok ? 0 : 3))
        #expect(report.ok == !report.checks.contains { $0.required && $0.state == "missing" })
        // Whatever is missing has its mend.
        for check in report.checks where check.state == "missing" {
            #expect(check.mend != nil, "\(check.name)")
        }
        return report
    }

    private func examine() throws -> Report {
        try report(ProgramCall(Natlab.binary, ["doctor", "--json"]).run())
    }

    /// Runs `doctor --json` in a mount namespace where `script` has hidden something.
    private func examine(hiding script: String) throws -> (Report, text: ProgramCall.Output) {
        func run(_ arguments: String...) throws -> ProgramCall.Output {
            try ProgramCall(
                "unshare",
                ["--mount", "sh", "-ec", "\(script)\nexec \"$@\"", "sh", Natlab.binary] + arguments
            ).run()
        }
        return (try report(run("doctor", "--json")), try run("doctor"))
    }

    private func succeeds(_ program: String, _ arguments: String...) throws -> Bool {
        try ProgramCall(program, arguments).run().status.isSuccess
    }

    @Test func agreesWithOtherTools() throws {
        try withCleanup { cleanup in
            let report = try examine()
            let n = try cleanup.namespace(uniqueName("doctor")).name
            func expect(_ check: String, _ witness: Bool, sourceLocation: SourceLocation = #_sourceLocation)
                throws
            {
                let found = try report.check(check)
                #expect((found.state == "ok") == witness, "\(found)", sourceLocation: sourceLocation)
            }
            #expect(try report.check("root").state == "ok")
            #expect(try report.check("network-namespaces").state == "ok")
            try expect(
                "veth", succeeds("ip", "-n", n, "link", "add", "v0", "type", "veth", "peer", "name", "v1"))
            try expect("bridge", succeeds("ip", "-n", n, "link", "add", "b0", "type", "bridge"))
            try expect("kernel-wireguard", succeeds("ip", "-n", n, "link", "add", "wg9", "type", "wireguard"))
            try expect("tun", succeeds("ip", "-n", n, "tuntap", "add", "mode", "tun", "name", "t0"))
            try expect(
                "netem", succeeds("tc", "-n", n, "qdisc", "add", "dev", "v0", "root", "netem", "delay", "1ms")
            )
            try expect(
                "tbf",
                succeeds(
                    "tc", "-n", n, "qdisc", "add", "dev", "v1", "root", "tbf", "rate", "1mbit", "burst",
                    "16kb",
                    "latency", "50ms"))
            try expect("nftables", succeeds("ip", "netns", "exec", n, "nft", "add", "table", "inet", "x"))
            try expect(
                "nat",
                succeeds(
                    "ip", "netns", "exec", n, "iptables", "-t", "nat", "-A", "POSTROUTING", "-j", "MASQUERADE"
                )
                    && succeeds(
                        "ip", "netns", "exec", n, "iptables", "-A", "INPUT", "-m", "conntrack", "--ctstate",
                        "NEW",
                        "-j", "DROP")
            )
            try expect(
                "nat-ipv6",
                succeeds(
                    "ip", "netns", "exec", n, "ip6tables", "-t", "nat", "-A", "POSTROUTING", "-j",
                    "MASQUERADE"))
        }
    }

    @Test func versionsAndNumbersAreTheMachines() throws {
        let report = try examine()
        // "iptables v1.8.9 (nf_tables)"
        for program in ["iptables", "ip6tables"] {
            let words = try tool(program, "-V").trimmed.split(separator: " ")
            let found = try report.check(program).found
            #expect(found.hasPrefix("\(words[1].dropFirst()) \(words[2]), "), "\(found)")
            #expect(found.hasSuffix(try tool("which", "\(program)-restore").trimmed))
        }
        let version = try tool("wireguard-go", "--version").split(separator: "\n")[0].split(separator: " ")[1]
        #expect(
            try report.check("wireguard-go").found
                == "\(version), \(try tool("which", "wireguard-go").trimmed)")
        #expect(
            try report.check("open-files").found.hasPrefix(try tool("sh", "-c", "ulimit -Hn").trimmed + " "))
        #expect(
            try report.check("inotify-instances").found.hasPrefix(
                try tool("sysctl", "-n", "fs.inotify.max_user_instances").trimmed + " "))
    }

    @Test func leavesNothing() throws {
        func everything() throws -> [String] {
            let snapshot = try MachineSnapshot.take()
            return [
                "\(snapshot.namespaces.sorted())", "\(snapshot.mounts.sorted())", "\(snapshot.labs.sorted())",
                "\(snapshot.foreignProcesses.sorted())", try tool("ip", "-br", "link"),
                "\(try Files.list("/run"))",
                try tool("nft", "list", "ruleset"),
            ]
        }
        // What others do on the machine meanwhile shows too; what doctor leaves would show every time.
        var difference: [(String, String)] = []
        for _ in 0..<5 {
            let before = try everything()
            _ = try examine()
            difference = zip(before, try everything()).filter { $0 != $1 }
            if difference.isEmpty { break }
        }
        #expect(difference.isEmpty)
    }

    @Test func missingWireGuardGoIsNamedWithItsMend() throws {
        let (report, text) = try examine(
            hiding:
                "which -a wireguard-go | while read f; do mount --bind /dev/null \"$(readlink -f \"$f\")\"; done"
        )
        let check = try report.check("wireguard-go")
        #expect(check.state == "missing" && check.mend == "apt-get install wireguard-go")
        let kernelHasIt = try report.check("kernel-wireguard").state == "ok"
        #expect(report.ok == kernelHasIt)
        #expect(try report.check("wireguard-backend").state == (kernelHasIt ? "ok" : "missing"))
        #expect(text.status == report.status)
        #expect(text.output.contains("-> apt-get install wireguard-go\n"))
        if !kernelHasIt { #expect(text.output.hasSuffix("missing: wireguard-backend\n")) }
        #expect(text.error.isEmpty)
    }

    @Test func missingTunIsNamed() throws {
        let (report, _) = try examine(hiding: "mount -t tmpfs none /dev/net")
        let check = try report.check("tun")
        #expect(check.state == "missing" && check.found.contains("No such file"))
        #expect(try report.check("wireguard-backend").state == report.check("kernel-wireguard").state)
    }

    @Test func missingIptablesMeansExit3() throws {
        let (report, text) = try examine(
            hiding: """
                for f in $(which -a iptables-restore); do readlink -f "$f"; done | sort -u |
                    while read f; do mount --bind /dev/null "$f"; done
                """)
        #expect(report.status == .exited(3) && text.status == .exited(3))
        let check = try report.check("iptables")
        #expect(check.state == "missing" && check.required && check.mend == "apt-get install iptables")
        #expect(try report.check("nat").state == "missing")
        #expect(text.output.contains("natlab cannot build labs here; missing: iptables, nat"))
    }

    @Test func withoutRootItSaysSo() throws {
        try withCleanup { cleanup in
            // Where that user can read it.
            let folder = try cleanup.folder()
            try #require(chmod(folder, 0o755) == 0)
            let copy = "\(folder)/natlab"
            try Files.writeAtomically(copy, try Files.read(Natlab.binary, limit: 1 << 30), mode: 0o755)
            let output = try ProgramCall(
                "setpriv",
                ["--reuid", "65534", "--regid", "65534", "--clear-groups", copy, "doctor", "--json"]
            ).run()
            let report = try report(output)
            #expect(report.status == .exited(3))
            let root = try report.check("root")
            #expect(
                root.state == "missing" && root.found.contains("65534") && root.mend?.contains("sudo") == true
            )
            #expect(try report.check("wireguard-go").state == "ok")
            #expect(try report.check("netem").found == "not tried: needs root")
        }
    }

    @Test func leftoversAreFoundAndTheirMendsWork() throws {
        try withCleanup { cleanup in
            // Names that sort first: only the first few are shown.
            let lab = uniqueName("0")
            try Files.makeFolder("/run/natlab", mode: 0o755)
            cleanup.add("/run/natlab") { _ = try ProgramCall(Natlab.binary, ["list"]).run() }
            try Files.makeFolder("/run/natlab/\(lab)", mode: 0o700)
            cleanup.add("lab \(lab)") { try Files.removeTree("/run/natlab/\(lab)") }
            let stray = try cleanup.namespace("\(uniqueName("0")).host").name
            let dead = uniqueName("0")
            cleanup.add("pin \(dead)") { try Files.remove("/run/netns/\(dead)") }
            try Files.writeAtomically("/run/netns/\(dead)", [], mode: 0o600)

            let before = try examine()
            for (check, name, mend) in [
                ("leftover-labs", lab, "`natlab down --lab \(lab)`"),
                ("leftover-namespaces", stray, "`ip netns del \(stray)`"),
                ("leftover-pins", dead, "`ip netns del \(dead)`"),
            ] {
                let found = try before.check(check)
                #expect(found.state == "warning" && !found.required)
                #expect(found.found.contains(name) && found.mend?.contains(mend) == true, "\(found)")
            }
            // A look changes nothing.
            #expect(try Files.list("/run/natlab/\(lab)").isEmpty)

            try tool(Natlab.binary, "down", "--lab", lab)
            try tool("ip", "netns", "del", stray)
            try tool("ip", "netns", "del", dead)
            let after = try examine()
            for (check, name) in [("labs", lab), ("namespaces", stray), ("pins", dead)] {
                #expect(try !after.check("leftover-\(check)").found.contains(name))
            }
        }
    }

    @Test func aRunningLabIsNoLeftoverButItsOrphansAre() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("static") {
                $0.replacing("[wireguard.wg0]", with: "[wireguard.wg0]\nbackend = \"userspace\"")
            }
            try lab.up()
            let host = try #require(NetworkNamespace(lab.namespace("server")).identity())
            let pids = try Files.list("/proc").compactMap { Int32($0) }
                .filter { NetworkNamespace.identity(ofProcess: $0) == host }
            try #require(pids.count == 1)
            cleanup.add("wireguard-go") { for pid in pids { kill(pid, SIGKILL) } }

            let up = try examine()
            #expect(try !up.check("leftover-labs").found.contains(lab.name))
            #expect(try !up.check("leftover-namespaces").found.contains(lab.name))
            #expect(try !up.check("leftover-processes").found.contains("wireguard-go \(pids[0])"))

            // The lab's folder out of sight, as natlab sees it: its programs are nobody's then.
            let (folder, hidden) = ("/run/natlab/\(lab.name)", "/run/natlab/.\(lab.name)")
            try #require(rename(folder, hidden) == 0)
            cleanup.add("folder") { if Files.exists(hidden) { _ = rename(hidden, folder) } }
            let orphaned = try examine().check("leftover-processes")
            #expect(orphaned.state == "warning" && orphaned.found.contains("wireguard-go"), "\(orphaned)")
            #expect(orphaned.mend?.contains("`kill ") == true)
            try #require(rename(hidden, folder) == 0)
        }
    }
}
