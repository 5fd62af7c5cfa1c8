import PeeringCheck

/// A matrix for people: a table of marks, then each pair that is not as theory says.
struct MatrixText {
    let text: String

    init(_ report: MatrixReport) {
        let names = report.behaviours
        var table = TextTable(["", ""] + names.indices.map { "\($0 + 1)" } + [""])
        for (row, a) in names.enumerated() {
            // The lower half says the same as the upper one.
            let marks = names.indices.map { column in
                column < row ? "" : report.cell(a, names[column]).map(Self.mark) ?? "?"
            }
            table.add(["\(row + 1)", a] + marks)
        }
        var lines = [
            table.text, "", "\(Self.direct) direct   \(Self.none) none   \(Self.miss) not as theory says",
        ]
        let good = report.cells.count(where: \.ok)
        lines.append(
            "\(good) of \(report.cells.count) pairs as theory says, in \(count(report.rounds, "round"))")
        for cell in report.cells where !cell.ok {
            lines.append(
                Terminal.paint("\(cell.a) - \(cell.b): \(cell.observed.rawValue); \(cell.reason)", .red))
        }
        lines += report.problems.map { Terminal.paint($0, .red) }
        text = lines.joined(separator: "\n")
    }

    static let direct = "●"
    static let none = "·"
    static let miss = "!"

    private static func mark(_ cell: MatrixReport.Cell) -> String {
        guard cell.ok else { return miss }
        return cell.observed == .direct ? direct : none
    }
}
