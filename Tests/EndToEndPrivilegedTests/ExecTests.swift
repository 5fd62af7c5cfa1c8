import Glibc
import SystemCalls
import TestSupport
import Testing

@Suite(.serialized) struct ExecTests {
    /// One host on the internet segment, no WireGuard.
    private func bareLab(_ cleanup: Cleanup) throws -> (Natlab, Lab) {
        let natlab = try Natlab(cleanup)
        let name = uniqueName("e2e")
        try natlab.write("\(name).toml", "name = \"\(name)\"\n[host.a]\non = \"internet\"\n")
        let lab = natlab.adopt(name)
        try lab.up()
        return (natlab, lab)
    }

    @Test func passesStatusInputAndArguments() throws {
        try withCleanup { cleanup in
            let (natlab, lab) = try bareLab(cleanup)
            #expect(
                try natlab.run("exec", "--lab", lab.name, "a", "--", "sh", "-c", "exit 37").status
                    == .exited(37))
            #expect(
                try natlab.run("exec", "--lab", lab.name, "a", "--", "cat", input: "a\u{0}b\n").output
                    == "a\u{0}b\n")
            #expect(
                try natlab.run(
                    "exec", "--lab", lab.name, "a", "--", "printf", "%s|", "", "a b", "--json", "-h"
                ).output
                    == "|a b|--json|-h|")
            // Without `--` too.
            #expect(try natlab.run("exec", "--lab", lab.name, "a", "echo", "-n", "x").output == "x")
            #expect(
                try natlab.run("exec", "--lab", lab.name, "a", "--", "sh", "-c", "kill -TERM $$").status
                    == .killed(SIGTERM))
            // A pipe that nobody reads must end a program by SIGPIPE, as in a shell, though natlab itself ignores it.
            let state = try natlab.run(
                "exec", "--lab", lab.name, "a", "--", "grep", "SigIgn", "/proc/self/status"
            ).output
            let ignored = try #require(UInt64(state.trimmed.suffix(16), radix: 16))
            #expect(ignored & 1 << UInt64(SIGPIPE - 1) == 0)
        }
    }

    @Test func saysWhatIsMissing() throws {
        try withCleanup { cleanup in
            let (natlab, lab) = try bareLab(cleanup)
            let program = try natlab.run("exec", "--lab", lab.name, "a", "--", "no-such-program")
            #expect(program.status == .exited(127) && program.error.contains("no-such-program"))
            let node = try natlab.run("exec", "--lab", lab.name, "b", "--", "true")
            #expect(node.status == .exited(2) && node.error.contains("it has: internet, a"))
            let nothing = try natlab.run("exec", "--lab", lab.name, "a")
            #expect(nothing.status == .exited(2))
            let noLab = try natlab.run("exec", "--lab", "no-such-lab", "a", "--", "true")
            #expect(noLab.status == .exited(4))
        }
    }

    @Test func runsInTheHostsNamespaceWithItsSys() throws {
        try withCleanup { cleanup in
            let (natlab, lab) = try bareLab(cleanup)
            #expect(
                try natlab.succeed("exec", "--lab", lab.name, "a", "--", "ls", "/sys/class/net").contains(
                    "eth0"))
            let shell = try natlab.run(
                "shell", "--lab", lab.name, "a", input: "echo $NATLAB_LAB/$NATLAB_NODE\n")
            #expect(shell.output.contains("\(lab.name)/a"))
        }
    }

    @Test func downEndsProgramsThatStillRunInside() throws {
        try withCleanup { cleanup in
            let (natlab, lab) = try bareLab(cleanup)
            let child = try ProgramCall(
                Natlab.binary, ["exec", "--lab", lab.name, "a", "--", "sleep", "1000"]
            ).spawn()
            let identity = try #require(NetworkNamespace(lab.namespace("a")).identity())
            let pid = child.pid
            #expect(
                try waitUntil(timeout: .seconds(10)) { NetworkNamespace.identity(ofProcess: pid) == identity }
            )
            let down = try natlab.succeed("down", "--lab", lab.name)
            #expect(down.contains("1 process"))
            #expect(try child.wait() == .killed(SIGTERM))
        }
    }
}
