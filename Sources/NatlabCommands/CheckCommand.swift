package import ArgumentParser
import TopologyModel

/// `natlab check FILE`: all errors and warnings of a topology; changes nothing, needs no root.
package struct CheckCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Reports everything that is wrong with a topology, with positions.",
        discussion: "Changes nothing and needs no root. Exit status: 0 fine (warnings too), 2 errors.")

    @OptionGroup var input: TopologyInput

    @Flag(help: "Print the result as JSON (see docs/json.md).")
    var json = false

    package init() {}

    struct Report: Encodable {
        var file: String
        var ok: Bool
        var diagnostics: [Diagnostic]
    }

    package func run() throws {
        let checked = try input.check()
        let isRefused = input.isRefused(checked)
        if json {
            try Terminal.result(
                Terminal.json(Report(file: input.file, ok: !isRefused, diagnostics: checked.diagnostics)))
        } else if !checked.diagnostics.isEmpty {
            Terminal.note(DiagnosticRenderer(source: checked.source).text(checked.diagnostics))
        }
        guard !isRefused else { throw CommandFailure(.usage, "") }
        if !json, let topology = checked.topology {
            try Terminal.result(
                "\(input.file): lab '\(topology.name)' with \(count(topology.routers.count, "router")),"
                    + " \(count(topology.hosts.count, "host")) and \(count(topology.networks.count, "WireGuard network"))"
            )
        }
    }
}

/// "1 router", "2 routers".
func count(_ number: Int, _ noun: String) -> String { "\(number) \(noun)\(number == 1 ? "" : "s")" }
