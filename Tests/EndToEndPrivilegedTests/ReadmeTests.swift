import Glibc
import SystemCalls
import TestSupport
import Testing

/// README's `console` blocks, run from top to bottom as a reader would; what they print must be what README says.
@Suite(.serialized) struct ReadmeTests {
    struct Command {
        var line: String
        /// The lines README shows below it; none: it does not say.
        var shown: [String]
    }

    private func commands() throws -> [Command] {
        var commands: [Command] = []
        var isConsole = false
        for line in try Files.readText("\(Natlab.checkout)/README.md").split(
            separator: "\n", omittingEmptySubsequences: false)
        {
            if line.hasPrefix("```") {
                isConsole = line == "```console"
            } else if isConsole, line.hasPrefix("$ ") {
                commands.append(Command(line: String(line.dropFirst(2)), shown: []))
            } else if isConsole, !line.isEmpty {
                let last = try #require(commands.indices.last)
                commands[last].shown.append(String(line))
            }
        }
        return commands
    }

    /// Lines as README may differ from them: numbers, column widths, the ports that a NAT draws, and which WireGuard the
    /// machine has.
    private func shape(_ line: String) -> String {
        let words = line.split(separator: " ").map(String.init)
        return words.map { word in
            if word == "(kernel):" { return "(userspace):" }
            let endpoint = word.split(separator: ":")
            if endpoint.count == 2, let port = Int(endpoint[1]), ![51_820, 1234].contains(port) {
                return "\(endpoint[0]):#"
            }
            let isMeasured = word.utf8.contains(UInt8(ascii: ".")) && Double(word) != nil || Int(word) != nil
            return isMeasured ? "#" : word
        }.joined(separator: " ")
    }

    @Test func everyCommandDoesWhatItSays() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            for lab in ["quickstart", "symmetric"] { _ = natlab.adopt(lab) }
            // `natlab` on the PATH, as README has it.
            try Files.makeFolder("\(natlab.folder)/bin", mode: 0o700)
            #expect(symlink(Natlab.binary, "\(natlab.folder)/bin/natlab") == 0)
            let path = "\(natlab.folder)/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            let all = try commands()
            #expect(all.count >= 12)
            for command in all {
                let output = try ProgramCall(
                    "/bin/sh", ["-c", command.line], environment: ["PATH": path, "HOME": natlab.folder],
                    folder: natlab.folder
                ).run()
                #expect(output.status == .exited(0), "\(command.line): \(output.output)\(output.error)")
                guard !command.shown.isEmpty else { continue }
                let printed = output.output.split(separator: "\n").map { shape(String($0)) }
                #expect(printed == command.shown.map { shape($0) }, "\(command.line)")
            }
        }
    }

    /// The block on the rendezvous alone: the key is made, the server serves, the client's line is understood.
    @Test func theRendezvousLinesWork() throws {
        let text = try Files.readText("\(Natlab.checkout)/README.md")
        let block = try #require(
            text.split(separator: "```sh\n").last?.split(separator: "```", maxSplits: 1).first)
        let lines = block.split(separator: "\n").map(String.init)
        try #require(lines.count == 3 && lines[1].hasPrefix("natlab ") && lines[2].hasPrefix("natlab "))
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let key = try ProgramCall("/bin/sh", ["-c", lines[0]], folder: natlab.folder).run()
            #expect(key.status == .exited(0) && key.error.isEmpty, "\(key.error)")
            let output = try Descriptor.memoryFile("output")
            let words = lines[1].split(separator: " ").dropFirst().map(String.init)
            let server = try ProgramCall(Natlab.binary, words, folder: natlab.folder).spawn(
                output: output.rawValue)
            let isServing = try waitUntil(timeout: .seconds(20)) { () throws(OperationFailure) in
                try Files.readText("/proc/self/fd/\(output.rawValue)").contains("public key")
            }
            #expect(isServing)
            let shown = try Files.readText("/proc/self/fd/\(output.rawValue)")
            let publicKey = try #require(shown.split(whereSeparator: \.isWhitespace).last.map(String.init))
            try server.handle.signal(SIGINT)
            #expect(try server.wait() == .exited(0))
            // There is no wg0 here, outside of any lab: the line is understood, and that is what is missing.
            let join = lines[2].replacing("KEY", with: publicKey).replacing("wg0", with: "e2e-none")
            let joined = try ProgramCall(
                Natlab.binary, join.split(separator: " ").dropFirst().map(String.init), folder: natlab.folder
            ).run()
            #expect(joined.status == .exited(3) && joined.error.contains("e2e-none"), "\(joined.error)")
        }
    }

    @Test func theTopologyInItIsTheTemplate() throws {
        // The first TOML block is the quickstart, comments aside; the second goes on top of it.
        let blocks = try Files.readText("\(Natlab.checkout)/README.md").split(separator: "```toml\n")
            .dropFirst()
            .map { $0.split(separator: "```", maxSplits: 1)[0] }
        try #require(blocks.count == 2)
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            try natlab.succeed("init", "quickstart")
            try natlab.write("readme.toml", String(blocks[0]))
            let mine = try natlab.succeed("plan", "readme.toml").replacing(#/  # line \d+/#, with: "")
            let template = try natlab.succeed("plan", "quickstart.toml").replacing(#/  # line \d+/#, with: "")
            #expect(mine == template)
            try natlab.write("readme.toml", String(blocks[0] + blocks[1]))
            try natlab.succeed("check", "--strict", "readme.toml")
        }
    }
}
