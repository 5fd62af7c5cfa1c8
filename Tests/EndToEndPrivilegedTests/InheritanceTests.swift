import Glibc
import SystemCalls
import TestSupport
import Testing

/// What natlab gets from whoever starts it: descriptors, signals, limits, a network namespace.
@Suite(.serialized) struct InheritanceTests {
    /// One host on the internet segment, no WireGuard.
    private func bareLab(_ cleanup: Cleanup) throws -> (Natlab, Lab) {
        let natlab = try Natlab(cleanup)
        let name = uniqueName("e2e")
        try natlab.write("\(name).toml", "name = \"\(name)\"\n[host.a]\non = \"internet\"\n")
        let lab = natlab.adopt(name)
        try lab.up()
        return (natlab, lab)
    }

    /// Runs a script of bash(1) with natlab as $0 and the lab's name as $1.
    private func bash(_ script: String, _ natlab: Natlab, lab: String = "") throws -> ProgramCall.Output {
        try ProgramCall("bash", ["-c", script, Natlab.binary, lab], folder: natlab.folder).run()
    }

    @Test func execKeepsDescriptorsAndIgnoredSignals() throws {
        try withCleanup { cleanup in
            let (natlab, lab) = try bareLab(cleanup)
            let file = try bash(
                "exec \"$0\" exec --lab \"$1\" a cat <(echo from a pipe)", natlab, lab: lab.name)
            #expect(file.output == "from a pipe\n", "\(file.error)")
            let own = try bash("exec \"$0\" exec --lab \"$1\" a ls -x /proc/self/fd", natlab, lab: lab.name)
            // 3 is the folder that ls reads: none of natlab's own.
            #expect(own.output == "0  1  2  3\n")
            func ignored(_ traps: String) throws -> UInt64 {
                let text = try bash(
                    "trap '' \(traps); exec \"$0\" exec --lab \"$1\" a grep SigIgn /proc/self/status", natlab,
                    lab: lab.name
                ).output
                return try #require(UInt64(text.trimmed.suffix(16), radix: 16))
            }
            #expect(try ignored("HUP") == 1 << UInt64(SIGHUP - 1))
            #expect(try ignored("PIPE") == 1 << UInt64(SIGPIPE - 1))
        }
    }

    @Test func execShowsNoSocketsOfTheMachine() throws {
        try withCleanup { cleanup in
            let (natlab, lab) = try bareLab(cleanup)
            let socket = "/run/wireguard/\(uniqueName("t"))"
            try Files.writeAtomically(socket, [], mode: 0o600)
            cleanup.add(socket) { try Files.remove(socket) }
            for node in ["a", "internet"] {
                #expect(
                    try natlab.succeed("exec", "--lab", lab.name, node, "--", "ls", "/run/wireguard").isEmpty)
            }
        }
    }

    @Test func closedOutputIsAFailureAndSpoilsNoFile() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            try natlab.succeed("init", "static")
            let before = try Files.read("\(natlab.folder)/static.toml")
            for closed in [">&-", "<&- >&-", "<&- >&- 2>&-"] {
                try Files.remove("\(natlab.folder)/static.toml")
                #expect(try bash("exec \"$0\" init static \(closed)", natlab).status == .exited(3))
                #expect(try Files.read("\(natlab.folder)/static.toml") == before)
            }
        }
    }

    @Test func aReaderThatGoesAwayEndsItSilently() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            // The reader is gone before anything is written.
            let output = try bash(
                "exec 3> >(exec true); wait $!; \"$0\" --help >&3; echo $?", natlab)
            #expect(output.output == "141\n")
            #expect(output.error.isEmpty)
        }
    }

    @Test func aLimitOfTheMachineIsNoDefect() throws {
        try withCleanup { cleanup in
            let (natlab, _) = try bareLab(cleanup)
            let output = try bash("ulimit -n 4; exec \"$0\" list", natlab)
            #expect(output.status == .exited(3))
            #expect(output.error.contains("ulimit -n"))
        }
    }

    @Test func downFindsTheAgentOfAnUpInAnotherNamespace() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("quickstart")
            try tool("unshare", ["-n", Natlab.binary, "up", "\(natlab.folder)/\(lab.file)"])
            // By the name that ps(1) shows.
            let agents = try Files.list("/proc").filter {
                (try? Files.readText("/proc/\($0)/cmdline")) == "natlab\0__agent\0/run/natlab\0\(lab.name)\0"
            }
            #expect(agents.count == 1)
            let down = try natlab.succeed("down", "--lab", lab.name)
            #expect(down.contains("nothing is left"))
            for agent in agents { #expect(!isRunning(try #require(Int32(agent)))) }
            try MachineSnapshot.expectNothing(named: lab.name)
        }
    }
}
