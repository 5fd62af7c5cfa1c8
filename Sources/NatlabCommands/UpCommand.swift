package import ArgumentParser
import Glibc
import LabAgent
import LabPlanner
import LinuxLab
import NetAddress
import SystemCalls

/// `natlab up FILE`: builds the lab, all or nothing.
package struct UpCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "up",
        abstract: "Builds the lab of a topology file.",
        discussion: """
            All or nothing: when a step fails, or on Ctrl-C, everything is undone. Starts the rendezvous server and \
            clients where the topology has them. Exit status 0 says built, not connected: `natlab verify` says that.
            """)

    @OptionGroup var input: TopologyInput

    @Flag(help: "Print the result as JSON (see docs/json.md).")
    var json = false

    package init() {}

    struct Report: Encodable {
        var lab: String
        var steps: Int
        var namespaces: [String]
        var backends: [String: String]
    }

    package func run() throws {
        // Before anything else: threads made later inherit the blocked signals.
        let interrupt = InterruptFlag()
        let plan = try input.plan()
        try requireRoot()
        let progress = ProgressLine(total: plan.steps.count, "building \(plan.lab)")
        let drivers = LabDrivers(
            wireGuard: SystemWireGuard(),
            startAgent: { (state, _) throws(OperationFailure) in try AgentProcess.start(state) },
            isCancelled: { interrupt.isRaised }, progress: { progress.show($0) },
            warn: { Terminal.note("natlab: warning: \($0)") })
        let record: LabRecord
        do throws(CommandFailure) {
            record = try orFail { () throws(LabFailure) in
                try LabBuild.up(plan, filesFolder: input.folder, drivers: drivers)
            }
            progress.clear()
        } catch {
            progress.clear()
            throw error
        }
        if json {
            try Terminal.result(
                Terminal.json(
                    Report(
                        lab: plan.lab, steps: plan.steps.count, namespaces: plan.nodes.map(\.namespace),
                        backends: record.backends.mapValues(\.rawValue))))
        } else {
            try Terminal.result(summary(plan, record))
        }
    }

    private func summary(_ plan: LabPlan, _ record: LabRecord) -> String {
        var parts: [String] = []
        for (kind, noun) in [(PlannedNode.Kind.segment, "segment"), (.router, "router"), (.host, "host")] {
            let number = plan.nodes.count { $0.kind == kind }
            if number > 0 { parts.append(count(number, noun)) }
        }
        var lines = ["lab '\(plan.lab)' is up: \(parts.joined(separator: ", "))"]
        if !plan.tunnels.isEmpty {
            let kinds = Set(record.backends.values.map(\.rawValue)).sorted().joined(separator: " and ")
            lines.append(
                "WireGuard (\(kinds)): \(plan.tunnels.map { "\($0.host) \($0.address.address)" }.joined(separator: ", "))"
            )
        }
        if let rendezvous = plan.rendezvous {
            lines.append("rendezvous: \(rendezvous.host) \(rendezvous.endpoint)")
        }
        lines.append(plan.pairs.isEmpty ? "next: natlab exec NODE -- COMMAND" : "next: natlab verify")
        return lines.joined(separator: "\n")
    }
}

/// One line on a terminal that tells how far a command is; silent elsewhere.
final class ProgressLine {
    private let total: Int
    private let what: String
    private let isShown = Terminal.isColourful(STDERR_FILENO)
    private var shown = -1

    init(total: Int, _ what: String) {
        self.total = max(total, 1)
        self.what = what
    }

    func show(_ done: Int) {
        let percent = done * 100 / total
        guard isShown, percent != shown else { return }
        shown = percent
        try? Terminal.write("\r\(what): \(percent) %\u{1B}[K", to: STDERR_FILENO)
    }

    func clear() {
        guard isShown, shown >= 0 else { return }
        try? Terminal.write("\r\u{1B}[K", to: STDERR_FILENO)
    }
}

/// One line on a terminal for as long as something takes whose end cannot be told; silent elsewhere.
struct Notice {
    private let isShown = Terminal.isColourful(STDERR_FILENO)

    init(_ text: String) {
        if isShown { try? Terminal.write("\r\(text) ...\u{1B}[K", to: STDERR_FILENO) }
    }

    func clear() {
        if isShown { try? Terminal.write("\r\u{1B}[K", to: STDERR_FILENO) }
    }
}
