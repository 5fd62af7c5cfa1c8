import LabPlanner
import NetAddress
import PeeringCheck

/// A verify report for people: a table, the reasons of what is not as expected, the problems.
struct VerifyText {
    let text: String

    init(_ report: VerifyReport) {
        let hasSeveralNetworks = Set(report.pairs.map(\.interface)).count > 1
        var table = TextTable(["PAIR", "EXPECTED", "OBSERVED", "ENDPOINT", "HANDSHAKE", "FIRST", "RTT", ""])
        for pair in report.pairs {
            let endpoint =
                pair.endpoint.map { "\($0)" + (pair.endpointOwner.map { " (\($0))" } ?? "") } ?? "-"
            table.add([
                "\(pair.from) - \(pair.to)" + (hasSeveralNetworks ? " (\(pair.interface))" : ""),
                pair.expected.rawValue, pair.observed.rawValue, endpoint,
                pair.handshakeAge.map { "\(VerifyCommand.seconds($0)) ago" } ?? "-",
                pair.firstHandshake.map { VerifyCommand.milliseconds($0) } ?? "-",
                pair.roundTrip.map { VerifyCommand.milliseconds($0) } ?? "-",
                pair.ok ? Terminal.paint("ok", .green) : Terminal.paint("NOT AS EXPECTED", .red),
            ])
        }
        var lines =
            report.pairs.isEmpty
            ? ["lab '\(report.lab)' has no WireGuard peers: nothing to verify"] : [table.text]
        for pair in report.pairs {
            if !pair.ok { lines.append("\(pair.from) - \(pair.to): \(pair.reason)") }
            if let explanation = pair.explanation { lines.append("  why: \(explanation.verdict)") }
            if let theory = pair.theory {
                let word = theory.path == .direct ? "could punch" : "cannot punch"
                lines.append("\(pair.from) - \(pair.to) \(word) by theory: \(theory.reason)")
            }
        }
        let further = report.pairs.count { !$0.ok && $0.explanation == nil }
        if further > 0, further < report.pairs.count(where: { !$0.ok }) {
            lines.append("\(count(further, "further pair")) not looked at: natlab why A B")
        }
        lines += report.problems.map { Terminal.paint($0, .red) }
        text = lines.joined(separator: "\n")
    }
}
