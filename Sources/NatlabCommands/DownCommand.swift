package import ArgumentParser
import LinuxLab
import SystemCalls

/// `natlab down [--all]`: removes everything and proves it.
package struct DownCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "down",
        abstract: "Removes a lab and proves that nothing of it is left.",
        discussion: """
            Also removes what an interrupted or killed `up` has left. Programs that still run in the lab's namespaces \
            are ended.
            """)

    @OptionGroup var lab: LabOptions

    @Flag(help: "Remove all labs of this machine.")
    var all = false

    @Flag(help: "Print the result as JSON (see docs/json.md).")
    var json = false

    package init() {}

    package func validate() throws {
        if all, lab.name != nil { throw ValidationError("--all and --lab exclude each other.") }
    }

    struct Report: Encodable {
        var lab: String
        var ok: Bool
        var namespaces: [String]
        var processes: [String]
        var problems: [String]
        var leftovers: [String]

        init(_ report: RemovalReport) {
            lab = report.lab
            ok = report.isClean
            namespaces = report.namespaces
            processes = report.processes
            problems = report.problems.map(\.description)
            leftovers = report.leftovers
        }
    }

    package func run() throws {
        try requireRoot()
        // Half a removal helps nobody: a second Ctrl-C during `down` waits for its end.
        _ = InterruptFlag()
        let root = LabRoot()
        var names = [try all ? "" : lab.theName(root)]
        if all {
            names = try orFail { () throws(LabFailure) in try root.labs() }.map(\.lab)
            guard !names.isEmpty else { throw CommandFailure(.lab, "no lab is up here") }
        }
        var reports: [RemovalReport] = []
        var failures: [CommandFailure] = []
        for name in names {
            do throws(CommandFailure) {
                reports.append(try orFail { () throws(LabFailure) in try LabRemoval.down(name) })
            } catch { failures.append(error) }
        }
        if json {
            try Terminal.result(Terminal.json(reports.map(Report.init)))
        } else {
            for report in reports { try show(report) }
        }
        if let failure = failures.first {
            for other in failures.dropLast() { Terminal.note("natlab: " + other.message) }
            throw CommandFailure(failure.status, failures.last?.message ?? failure.message)
        }
        guard reports.allSatisfy(\.isClean) else { throw CommandFailure(.lab, "") }
    }

    private func show(_ report: RemovalReport) throws(CommandFailure) {
        for problem in report.problems { Terminal.note("natlab: \(problem)") }
        var parts = [count(report.namespaces.count, "namespace")]
        if !report.processes.isEmpty {
            parts.append(report.processes.count == 1 ? "1 process" : "\(report.processes.count) processes")
        }
        var text = "removed lab '\(report.lab)': \(parts.joined(separator: ", "))"
        text +=
            report.leftovers.isEmpty
            ? "; nothing is left" : "; STILL THERE: \(report.leftovers.joined(separator: ", "))"
        try Terminal.result(text)
    }
}
