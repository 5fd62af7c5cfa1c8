import ArgumentParser
import Glibc
import LabPlanner
import SystemCalls
import TopologyModel

/// A topology file on the command line: read, checked, compiled.
struct TopologyInput: ParsableArguments {
    @Argument(help: "The topology file.", completion: .file(extensions: ["toml"]))
    var file: String

    @Flag(help: "Treat warnings as errors.")
    var strict = false

    /// Far above what a topology may have: the reader of topologies refuses it with a diagnostic of its own.
    private static let readLimit = 64 << 20

    /// What reading the file came to.
    struct Checked {
        var topology: Topology?
        var diagnostics: [Diagnostic]
        var source: [UInt8]
    }

    func check() throws(CommandFailure) -> Checked {
        let source: [UInt8]
        do throws(OperationFailure) {
            source = try Files.read(file, limit: Self.readLimit)
        } catch {
            if [EMFILE, ENFILE, ENOMEM].contains(error.errno) { throw CommandFailure(error) }
            throw CommandFailure(.usage, "cannot read \(file): \(OperationFailure.text(of: error.errno))")
        }
        let (topology, diagnostics) = TopologyFile.parse(bytes: source, fileName: file)
        let warnings =
            topology.map {
                theoryWarnings($0, fileName: file) + clientWarnings($0, fileName: file)
            } ?? []
        return Checked(
            topology: topology,
            diagnostics: (diagnostics + warnings).sorted { $0.span.start < $1.span.start }, source: source)
    }

    /// The plan; all errors and warnings go to standard error, and errors end the command with status 2.
    func plan() throws(CommandFailure) -> LabPlan {
        let checked = try check()
        if !checked.diagnostics.isEmpty {
            Terminal.note(DiagnosticRenderer(source: checked.source).text(checked.diagnostics))
        }
        guard let topology = checked.topology, !isRefused(checked) else {
            throw CommandFailure(.usage, "")
        }
        return compile(topology)
    }

    func isRefused(_ checked: Checked) -> Bool {
        checked.diagnostics.contains { $0.severity == .error || strict }
    }

    /// The folder that the names of key files in the topology are meant from.
    var folder: String {
        guard let slash = file.lastIndex(of: "/") else { return "." }
        return slash == file.startIndex ? "/" : String(file[..<slash])
    }
}
