package import ArgumentParser
import LabPlanner
import PeeringCheck
import SystemCalls

/// `natlab verify`: proves for each pair of WireGuard peers whether they reach each other directly.
package struct VerifyCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Proves which WireGuard peers reach each other directly, and says why not.",
        discussion: """
            Direct means: echoes through the tunnel both ways now, counted by WireGuard for this very peer; a handshake \
            newer than this `up` and under 180 s old; an endpoint that belongs to the peer or a NAT in front of it. \
            No session is reset for it. Exit status: 0 all as expected, 1 not.
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
        let report = try LabVerification(view: view).run(timeout: timeout) { progress.show($0) }
        progress.clear()
        try Terminal.result(json ? Terminal.json(report) : VerifyText(report).text)
        // After the verdict, which is worth more than the file.
        if let junit {
            try orFailed(.machine) { () throws(OperationFailure) in try JUnitDocument(report).write(to: junit)
            }
        }
        guard report.ok else { throw CommandFailure(.verdict, "") }
    }

    static func seconds(_ value: Double) -> String { "\(Int(value.rounded())) s" }

    /// With one decimal below 100.
    static func milliseconds(_ value: Double) -> String {
        guard value < 100 else { return "\(Int(value.rounded())) ms" }
        let tenths = Int((value * 10).rounded())
        return "\(tenths / 10).\(tenths % 10) ms"
    }
}
