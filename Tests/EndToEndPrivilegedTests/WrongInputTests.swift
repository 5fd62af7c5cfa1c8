import SystemCalls
import TestSupport
import Testing

@Suite struct WrongInputTests {
    private func check(_ text: [UInt8]) throws -> ProgramCall.Output {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            try Files.writeAtomically("\(natlab.folder)/t.toml", text, mode: 0o644)
            let checked = try natlab.run("check", "t.toml")
            // `up` refuses the same way, before it touches anything.
            let up = try natlab.run("up", "t.toml")
            #expect(up.status == checked.status)
            return checked
        }
    }

    @Test func aTypoInAKey() throws {
        let output = try check(
            Array("[router.a]\nuplnk = \"internet\"\nlan = \"192.168.1.0/24\"\nnat = \"none\"\n".utf8))
        #expect(output.status == .exited(2))
        #expect(output.error.contains("t.toml:2:1: error:"))
        #expect(output.error.contains("did you mean `uplink`?"))
    }

    @Test func aLANThatOverlapsItsUplink() throws {
        let output = try check(
            Array("[router.a]\nuplink = \"internet\"\nlan = \"203.0.113.0/25\"\nnat = \"masquerade\"\n".utf8))
        #expect(output.status == .exited(2))
        #expect(output.error.contains("t.toml:3:"))
    }

    @Test func threeErrorsAtOnce() throws {
        let output = try check(
            Array(
                "[host.a]\non = \"nowhere\"\n[host.B]\non = \"internet\"\n[host.c]\non = \"internet\"\naddress = \"10.0.0.1\"\n"
                    .utf8))
        #expect(output.status == .exited(2))
        #expect(output.error.split(separator: "\n").count { $0.contains(": error: ") } == 3)
        for place in ["t.toml:2:", "t.toml:3:", "t.toml:7:"] { #expect(output.error.contains(place)) }
    }

    @Test func garbage() throws {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<20 {
            let bytes = (0..<1000).map { _ in UInt8.random(in: 0...255, using: &generator) }
            #expect(try check(bytes).status == .exited(2))
        }
        #expect(try check([UInt8](repeating: UInt8(ascii: "["), count: 10 << 20)).status == .exited(2))
        #expect(try check([0, 1, 2]).status == .exited(2))
        #expect(try check(Array("x = [1,}".utf8)).status == .exited(2))
    }

    @Test func theCommandLineItself() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            #expect(try natlab.run("frobnicate").status == .exited(2))
            #expect(try natlab.run("up").status == .exited(2))
            #expect(try natlab.run("up", "missing.toml").status == .exited(2))
            #expect(try natlab.run("verify", "--timeout", "-1").status == .exited(2))
            #expect(try natlab.run("down", "--lab", "../etc").status == .exited(2))
            #expect(try natlab.run("--help").status == .exited(0))
            #expect(try natlab.run("verify", "--help").status == .exited(0))
            #expect(try natlab.run("--version").output.contains("."))
            #expect(try natlab.run("init", "nothing").status == .exited(2))
            try natlab.succeed("init", "quickstart")
            #expect(try natlab.run("init", "quickstart").status == .exited(2))
            try natlab.succeed("init", "quickstart", "--force")
            try natlab.succeed("check", "quickstart.toml")
            let first = try natlab.succeed("plan", "quickstart.toml", "--format", "json")
            #expect(try natlab.succeed("plan", "quickstart.toml", "--format", "json") == first)
        }
    }
}
