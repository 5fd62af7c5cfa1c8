package import ArgumentParser
import LinuxLab

/// `natlab doctor`: what this machine can and cannot do, and how to mend it.
package struct DoctorCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract: "Shows what this machine can and cannot do for natlab, and how to mend it.",
        discussion: """
            Tries things out in a network namespace that vanishes again; the kernel may load modules on being asked. \
            Exit status: 0 when labs can be built, with the kernel's WireGuard or wireguard-go; 3 when something that is \
            needed is missing.
            """)

    @Flag(help: "Print the result as JSON (see docs/json.md).")
    var json = false

    package init() {}

    package func run() throws {
        let report = Doctor.examine()
        try Terminal.result(
            json ? Terminal.json(report) : DoctorText(report).text(paint: { Terminal.paint($0, $1) }))
        guard report.ok else { throw CommandFailure(.machine, "") }
    }
}

/// The report as a table, the mends below their rows, and a verdict.
struct DoctorText {
    private let report: DoctorReport

    init(_ report: DoctorReport) { self.report = report }

    func text(paint: (String, Terminal.Colour) -> String = { text, _ in text }) -> String {
        let checks = report.checks
        let widths = (
            name: (checks.map(\.name.count) + ["CHECK".count]).max() ?? 0,
            state: (checks.map { Self.word($0).count } + ["STATE".count]).max() ?? 0
        )
        func cell(_ text: String, _ width: Int) -> String {
            text + String(repeating: " ", count: max(0, width - text.count) + 2)
        }
        var lines = [cell("CHECK", widths.name) + cell("STATE", widths.state) + "FOUND"]
        let indent = String(repeating: " ", count: widths.name + widths.state + 4)
        for check in checks {
            // Painted after it has been padded: the colour has no width.
            let state = paint(cell(Self.word(check), widths.state), Self.colour(check))
            lines.append(cell(check.name, widths.name) + state + check.found)
            if let mend = check.mend { lines.append(paint("\(indent)-> \(mend)", .faint)) }
        }
        return (lines + ["", verdict(paint)]).joined(separator: "\n")
    }

    private func verdict(_ paint: (String, Terminal.Colour) -> String) -> String {
        let missing = report.checks.filter { $0.required && $0.state == .missing }.map(\.name)
        guard missing.isEmpty else {
            return paint("natlab cannot build labs here; missing: \(missing.joined(separator: ", "))", .red)
        }
        let limits = report.checks.filter { $0.state != .ok }.map(\.name)
        return paint("natlab can build labs here", .green)
            + (limits.isEmpty ? "" : "; with limits or something to mend: \(limits.joined(separator: ", "))")
    }

    /// What is missing and needed stands out from what only limits.
    private static func word(_ check: DoctorCheck) -> String {
        check.state == .missing && check.required ? "MISSING" : check.state.rawValue
    }

    private static func colour(_ check: DoctorCheck) -> Terminal.Colour {
        switch check.state {
        case .ok: .green
        case .warning: .yellow
        case .missing: check.required ? .red : .yellow
        }
    }
}
