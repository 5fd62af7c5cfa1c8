package import ArgumentParser
import LabPlanner
import PeeringCheck
import PeeringDiagnosis
import SystemCalls

/// `natlab verify`: proves for each pair of WireGuard peers whether they reach each other directly.
package struct VerifyCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Proves which WireGuard peers reach each other directly, and says why not.",
        discussion: """
            Direct means: echoes through the tunnel both ways now, counted by WireGuard for this very peer; a handshake \
            newer than this `up` and under 180 s old; an endpoint that belongs to the peer or a NAT in front of it. \
            No session is reset for it. Of pairs that are not as expected it finds out why, as `natlab why` does. Exit \
            status: 0 all as expected, 1 not.
            """)

    @OptionGroup var lab: LabOptions

    @Option(help: "Seconds to wait for pairs that are not connected yet.")
    var timeout: Double = 20

    @Flag(help: "Print the result as JSON (see docs/json.md).")
    var json = false

    @Option(help: ArgumentHelp("Also write the result as JUnit XML.", valueName: "file"))
    var junit: String?

    package init() {}

    package func validate() throws {
        guard timeout > 0, timeout <= 3600 else {
            throw ValidationError("--timeout takes seconds, above 0 and up to 3600.")
        }
    }

    package func run() throws {
        let view = try LabView(lab.state())
        let progress = ProgressLine(total: view.plan.pairs.count, "verifying \(view.plan.lab)")
        var report = try LabVerification(view: view).run(timeout: timeout) { progress.show($0) }
        progress.clear()
        explain(&report, view)
        try Terminal.result(json ? Terminal.json(report) : VerifyText(report).text)
        // After the verdict, which is worth more than the file.
        if let junit {
            try orFailed(.machine) { () throws(OperationFailure) in try JUnitDocument(report).write(to: junit)
            }
        }
        guard report.ok else { throw CommandFailure(.verdict, "") }
    }

    /// Of how many pairs at most it is found out why: all are watched at once.
    private static let mostExplained = 32

    /// Adds to the pairs that are not as expected what `why` says of them.
    ///
    /// The verdicts are worth more than their reasons: what hinders this is only noted.
    private func explain(_ report: inout VerifyReport, _ view: LabView) {
        let open = report.pairs.indices.filter { !report.pairs[$0].ok }.prefix(Self.mostExplained)
        guard !open.isEmpty else { return }
        let notice = Notice("finding out why of \(count(open.count, "pair"))")
        defer { notice.clear() }
        let pairs = open.map { index in
            let pair = report.pairs[index]
            return PlannedPair(from: pair.from, to: pair.to, interface: pair.interface, expected: .direct)
        }
        do throws(CommandFailure) {
            let found = try LabDiagnosis(view, pairs: pairs).run(
                patience: min(timeout, LabDiagnosis.patience), probesAlone: false)
            for (index, pair) in zip(open, pairs) {
                report.pairs[index].explanation = found.first {
                    $0.from == pair.from && $0.to == pair.to && $0.interface == pair.interface
                }.map { PairExplanation(cause: $0.cause?.rawValue, verdict: $0.verdict) }
            }
        } catch {
            Terminal.note("natlab: cannot find out why: \(error.message)")
        }
    }

    static func seconds(_ value: Double) -> String { "\(Int(value.rounded())) s" }

    /// With one decimal below 100.
    static func milliseconds(_ value: Double) -> String {
        guard value < 100 else { return "\(Int(value.rounded())) ms" }
        let tenths = Int((value * 10).rounded())
        return "\(tenths / 10).\(tenths % 10) ms"
    }
}
