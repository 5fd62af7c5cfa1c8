import FoundationEssentials
import Glibc
import LabTemplates
package import SystemCalls
package import Testing

/// The real binary, run as a user runs it, in a folder of its own.
package final class Natlab {
    package let folder: String
    private let cleanup: Cleanup

    package init(_ cleanup: Cleanup) throws {
        self.cleanup = cleanup
        folder = try cleanup.folder()
    }

    /// The checkout; the tests are sources in it.
    package static let checkout: String = {
        var parts = #filePath.split(separator: "/", omittingEmptySubsequences: false)
        parts.removeLast(3)
        return parts.joined(separator: "/")
    }()

    /// NATLAB_BINARY, or what the tests' own build has made.
    package static let binary: String =
        getenv("NATLAB_BINARY").map { String(cString: $0) } ?? "\(checkout)/.build/debug/natlab"

    /// Runs natlab to its end.
    @discardableResult
    package func run(_ arguments: String..., input: String = "") throws -> ProgramCall.Output {
        try ProgramCall(Self.binary, arguments, folder: folder).run(input: Array(input.utf8))
    }

    @discardableResult
    package func run(_ arguments: [String]) throws(OperationFailure) -> ProgramCall.Output {
        try ProgramCall(Self.binary, arguments, folder: folder).run()
    }

    /// Starts natlab, to be waited for later.
    package func begin(_ arguments: [String]) throws -> RunningProgram {
        try ProgramCall(Self.binary, arguments, folder: folder).begin()
    }

    /// Runs natlab and expects status 0.
    @discardableResult
    package func succeed(_ arguments: String..., sourceLocation: SourceLocation = #_sourceLocation) throws
        -> String
    {
        let output = try ProgramCall(Self.binary, arguments, folder: folder).run()
        #expect(
            output.status == .exited(0), "natlab \(arguments): \(output.output)\(output.error)",
            sourceLocation: sourceLocation)
        return output.output
    }

    /// Runs natlab with `--json` and decodes the result, whatever the status.
    package func json<T: Decodable>(_ type: T.Type, _ arguments: String...) throws -> T {
        let output = try ProgramCall(Self.binary, arguments + ["--json"], folder: folder).run()
        return try JSONDecoder().decode(type, from: Data(output.output.utf8))
    }

    /// Writes a file here.
    package func write(_ name: String, _ text: String) throws {
        try Files.writeAtomically("\(folder)/\(name)", Array(text.utf8), mode: 0o644)
    }

    /// Writes a template as NAME.toml with a lab name of its own, which is taken down at the end.
    package func writeTemplate(_ template: String, edit: (String) -> String = { $0 }) throws -> Lab {
        let found = try #require(LabTemplate.all.first { $0.name == template })
        let name = uniqueName("e2e")
        let text = found.text.replacing("name = \"\(template)\"", with: "name = \"\(name)\"")
        try #require(text != found.text, "the template has its name in it")
        try write("\(name).toml", edit(text))
        return adopt(name)
    }

    /// Writes a topology as NAME.toml, with a lab name of its own, which is taken down at the end.
    package func writeLab(_ topology: String) throws -> Lab {
        let name = uniqueName("e2e")
        try write("\(name).toml", "name = \"\(name)\"\n" + topology)
        return adopt(name)
    }

    /// A lab that is taken down at the end, if it is up then.
    package func adopt(_ name: String) -> Lab {
        cleanup.add("lab \(name)") { [self] in
            let output = try run("down", "--lab", name)
            let wasUp = output.status == .exited(0)
            // The test may have taken it down itself.
            if !wasUp, !output.error.contains("no lab") {
                throw OperationFailure("natlab down", name, detail: output.error)
            }
            try MachineSnapshot.expectNothing(named: name)
        }
        return Lab(natlab: self, name: name)
    }
}

/// Whether this runs in `scripts/kernel-vm`, where software emulation makes everything some ten times as slow.
package let isEmulated = getenv("NATLAB_KERNEL_VM") != nil

/// One lab of a test.
package struct Lab {
    package let natlab: Natlab
    package let name: String
    package var file: String { "\(name).toml" }

    package func up(sourceLocation: SourceLocation = #_sourceLocation) throws {
        try natlab.succeed("up", file, sourceLocation: sourceLocation)
    }

    package func namespace(_ node: String) -> String { "\(name).\(node)" }

    /// The processes in the lab's namespaces, or in one node's.
    package func processes(node: String? = nil) throws -> [Int32] {
        let names = try Files.list(NetworkNamespace.directory).filter {
            if let node { $0 == namespace(node) } else { $0.hasPrefix("\(name).") }
        }
        let identities = Set(names.compactMap { NetworkNamespace($0).identity() })
        return try Files.list("/proc").compactMap { Int32($0) }.filter { pid in
            NetworkNamespace.identity(ofProcess: pid).map { identities.contains($0) } ?? false
        }
    }
}

/// `natlab verify --json`, as its readers see it.
package struct Verdicts: Decodable {
    package struct Pair: Decodable {
        package var from: String
        package var to: String
        package var expected: String
        package var observed: String
        package var ok: Bool
        package var endpoint: String?
        package var endpoint_owner: String?
        package var return_endpoint_owner: String?
        package var handshake_age_s: Double?
        package var first_handshake_ms: Double?
        package var rtt_ms: Double?
        package var reason: String
    }
    package var lab: String
    package var ok: Bool
    package var pairs: [Pair]
    package var problems: [String]

    package func pair(_ a: String, _ b: String) -> Pair? {
        pairs.first { [$0.from, $0.to] == [a, b] || [$0.from, $0.to] == [b, a] }
    }
}

/// Whether a process has not ended; one that only waits for its parent to ask (a zombie) has.
package func isRunning(_ pid: Int32) -> Bool {
    guard let text = try? Files.readText("/proc/\(pid)/stat"), let end = text.lastIndex(of: ")") else {
        return false
    }
    return text[end...].dropFirst(2).first != "Z"
}
