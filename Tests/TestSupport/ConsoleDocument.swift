import FoundationEssentials
import Glibc
import SystemCalls
import Testing

/// A document whose `console` blocks are run from top to bottom, as a reader would, and say what was printed.
///
/// Each line that begins with "$ " is run by sh(1), `natlab` on its PATH, and must end with status 0; what it prints stands below it.
/// For a program that runs until it is stopped the comment
///
///     <!-- terminal NAME until [COUNT] TEXT[, then ^C] -->
///
/// stands above a block of its own. The block shows what was printed up to the line with the text, the COUNTth time; what
/// comes after that is left out, but for the last line after `^C`. A later block of the same terminal, without a command, shows
/// what has been printed since. Blocks inside a comment of several lines are not run.
///
/// Public keys of the labs are written KEY-OF-HOST and KEY-OF-RENDEZVOUS, their beginnings as `why` shows them too.
package final class ConsoleDocument {
    private let natlab: Natlab
    private let cleanup: Cleanup
    private let path: String
    private var terminals: [String: Terminal] = [:]
    /// What stands for each key.
    private var keys: [(key: String, name: String)] = []

    private struct Terminal {
        var program: Background
        var shownLines = 0
    }

    private struct Directive {
        var terminal: String
        var text: String
        var count = 1
        var stops = false
    }

    /// One block as it is in the document, and as it was now.
    private struct Block {
        var line: Int
        var isTerminal: Bool
        var shown: [String]
        var printed: [String]
    }

    /// - Parameter path: relative to the checkout.
    package init(_ path: String, _ natlab: Natlab, _ cleanup: Cleanup) throws {
        self.path = "\(Natlab.checkout)/\(path)"
        self.natlab = natlab
        self.cleanup = cleanup
        try Files.makeFolder("\(natlab.folder)/bin", mode: 0o700)
        try #require(symlink(Natlab.binary, "\(natlab.folder)/bin/natlab") == 0)
    }

    /// Runs the blocks and compares, or with NATLAB_WRITE_GOLDENS=1 writes them anew; how many there were.
    package func check() throws -> Int {
        let lines = try Files.readText(path).split(separator: "\n", omittingEmptySubsequences: false)
            .map(String.init)
        var blocks: [Block] = []
        var written: [String] = []
        var comment = false
        var directive: Directive?
        var index = 0
        while index < lines.count {
            let line = lines[index]
            index += 1
            written.append(line)
            if line.hasPrefix("<!-- terminal ") { directive = try Self.directive(line) }
            if line.hasPrefix("<!--") { comment = true }
            if line.hasSuffix("-->") { comment = false }
            guard line == "```console", !comment else { continue }
            let end = try #require(lines[index...].firstIndex(of: "```"), "the block of line \(index) ends")
            let shown = Array(lines[index..<end])
            let printed = try directive.map { try follow($0, shown) } ?? run(shown)
            blocks.append(
                Block(line: index, isTerminal: directive != nil, shown: shown, printed: printed))
            written += printed
            directive = nil
            index = end
        }
        if ProcessInfo.processInfo.environment["NATLAB_WRITE_GOLDENS"] != nil {
            try Files.writeAtomically(path, Array(written.joined(separator: "\n").utf8), mode: 0o644)
        } else {
            for block in blocks { Self.compare(block) }
        }
        return blocks.count
    }

    // MARK: Running

    private static func directive(_ line: String) throws -> Directive {
        let match = try #require(
            line.wholeMatch(of: #/<!-- terminal (\S+) until (?:(\d+) )?(.+?)(, then \^C)? -->/#), "\(line)")
        return Directive(
            terminal: String(match.1), text: String(match.3), count: match.2.flatMap { Int($0) } ?? 1,
            stops: match.4 != nil)
    }

    private func call(_ line: String) -> ProgramCall {
        let command = keys.reduce(line) { $0.replacing($1.name, with: $1.key) }
        let path = "\(natlab.folder)/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return ProgramCall(
            "/bin/sh", ["-c", "exec 2>&1; \(command)"],
            environment: ["PATH": path, "HOME": natlab.folder, "LC_ALL": "C"], folder: natlab.folder)
    }

    private func named(_ text: String) -> [String] {
        var lines = keys.reduce(text) {
            $0.replacing($1.key, with: $1.name).replacing($1.key.prefix(15), with: $1.name)
        }.split(separator: "\n", omittingEmptySubsequences: false).map { line in
            String(line.reversed().drop(while: \.isWhitespace).reversed())
        }
        while lines.last == "" { lines.removeLast() }
        return lines
    }

    private func run(_ block: [String]) throws -> [String] {
        var printed: [String] = []
        for line in block where line.hasPrefix("$ ") {
            let command = String(line.dropFirst(2))
            let output = try call(command).run()
            #expect(output.status == .exited(0), "\(command): \(output.output)")
            if command.hasPrefix("natlab up ") { try learnKeys() }
            printed += [line] + named(output.output)
        }
        return printed
    }

    private func follow(_ directive: Directive, _ block: [String]) throws -> [String] {
        var printed: [String] = []
        if let first = block.first, first.hasPrefix("$ ") {
            let program = try Background(
                call("exec " + first.dropFirst(2)), natlab.folder, cleanup)
            terminals[directive.terminal] = Terminal(program: program)
            printed = [first]
        }
        let terminal = try #require(terminals[directive.terminal], "\(directive.terminal) is open")
        var end = 0
        let isThere = try waitUntil(timeout: .seconds(isEmulated ? 120 : 30), pause: .milliseconds(2)) {
            let hits = named(terminal.program.output).enumerated().dropFirst(terminal.shownLines).filter {
                $0.element.contains(directive.text)
            }
            end = hits.count < directive.count ? 0 : hits[directive.count - 1].offset + 1
            return end > 0
        }
        try #require(isThere, "\(directive.text) in \(terminal.program.output)")
        printed += named(terminal.program.output)[terminal.shownLines..<end]
        terminals[directive.terminal]?.shownLines = end
        if directive.stops {
            #expect(try terminal.program.stop(SIGINT) == .exited(0), "\(terminal.program.output)")
            let last = named(terminal.program.output)[end...].last
            printed += ["^C"] + (last.map { [$0] } ?? [])
            terminals[directive.terminal] = nil
        }
        return printed
    }

    private struct Status: Decodable {
        struct Tunnel: Decodable {
            var host: String
            var public_key: String
        }
        struct Rendezvous: Decodable { var public_key: String? }
        var wireguard: [Tunnel]
        var rendezvous: Rendezvous?
    }

    private func learnKeys() throws {
        let status = try natlab.json(Status.self, "status")
        keys = status.wireguard.map { ($0.public_key, "KEY-OF-\($0.host.uppercased())") }
        if let key = status.rendezvous?.public_key { keys.append((key, "KEY-OF-RENDEZVOUS")) }
    }

    // MARK: Comparing

    private static func compare(_ block: Block) {
        var (shown, printed) = (block.shown.map(shape), block.printed.map(shape))
        // wireguard-go lists its peers in any order, and a client takes them as they come.
        if block.isTerminal { (shown, printed) = (shown.sorted(), printed.sorted()) }
        #expect(printed == shown, "the block of line \(block.line)")
    }

    /// Words after a number of bytes, datagrams or the like.
    private static let units = ["bytes", "datagrams", "datagram", "packets", "packet", "received", "arrived"]

    /// A line without what differs from run to run: times, amounts, the widths of columns, which WireGuard the machine has,
    /// the ports that a NAT draws, how far a client is.
    private static func shape(_ line: String) -> String {
        guard !line.hasPrefix("$ ") else { return line }
        if let client = line.prefixMatch(of: #/ *client of \S+:/#) { return String(client.0) }
        let line = line.replacing(#/(\d+\.\d+\.\d+\.\d+):(\d+)/#) { match in
            ["51820", "1234"].contains(match.2) ? "\(match.0)" : "\(match.1):#"
        }.replacing(#/, keepalive (off|\d+ s)/#, with: ", keepalive #")
        let words = line.split(separator: " ").map(String.init)
        // Of punches there may be none; of what else is counted none is no amount.
        let always = ["s", "ms", "tries", "process;", "processes;", "sent,", "received)"]
        return words.enumerated().map { index, word in
            let next = index + 1 < words.count ? words[index + 1] : ""
            if word == "process;" { return "processes;" }
            if word == "datagram" || word == "packet" { return word + "s" }
            if word == "(kernel)" || word == "(kernel):" {
                return word.replacing("kernel", with: "userspace")
            }
            if word.wholeMatch(of: #/\d{4}-\d\d-\d\dT[\d:.]+Z,?/#) != nil { return "TIME" }
            if word.wholeMatch(of: #/time=[\d.]+/#) != nil { return "time=#" }
            if word.wholeMatch(of: #/[\d.]+(\/[\d.]+)+/#) != nil, next == "ms" { return "#" }
            if word.wholeMatch(of: #/\d+ms/#) != nil { return "#ms" }
            guard let number = Double(word) else { return word.replacing(#/@if\d+/#, with: "@if#") }
            // Nothing at all is no amount.
            if next.hasPrefix("kB") || Self.units.contains(next.filter(\.isLetter)), number > 0 { return "#" }
            return word.contains(".") || always.contains(next) ? "#" : word
        }.joined(separator: " ")
    }
}
