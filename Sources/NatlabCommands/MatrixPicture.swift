import PeeringCheck

/// A matrix as an SVG 1.1 picture: one square a pair, told apart by colour and by mark.
struct MatrixPicture {
    private let report: MatrixReport

    private static let size = 34
    private static let top = 150
    private static let left = 170

    init(_ report: MatrixReport) { self.report = report }

    private struct Look {
        var fill: String
        var mark: String
        var meaning: String
    }

    // Okabe and Ito's colours, which colour-blind readers tell apart.
    private static let direct = Look(fill: "#009E73", mark: "●", meaning: "direct, as theory says")
    private static let none = Look(fill: "#E8E8E8", mark: "·", meaning: "none, as theory says")
    private static let miss = Look(fill: "#D55E00", mark: "!", meaning: "not as theory says")

    private func look(_ cell: MatrixReport.Cell) -> Look {
        if !cell.ok { return Self.miss }
        return cell.observed == .direct ? Self.direct : Self.none
    }

    var text: String {
        let names = report.behaviours
        let width = Self.left + names.count * Self.size + 40
        let height = Self.top + names.count * Self.size + 100
        var lines = [
            #"<?xml version="1.0" encoding="UTF-8"?>"#,
            #"<svg xmlns="http://www.w3.org/2000/svg" width="\#(width)" height="\#(height)" "#
                + #"viewBox="0 0 \#(width) \#(height)" font-family="sans-serif" font-size="13">"#,
            "  <title>Hole punching between NAT behaviours (RFC 4787): observed against theory</title>",
            #"  <rect width="\#(width)" height="\#(height)" fill="white"/>"#,
        ]
        for (index, name) in names.enumerated() {
            let label = JUnitDocument.escape(name)
            let middle = index * Self.size + Self.size / 2
            lines.append(
                #"  <text x="\#(Self.left - 8)" y="\#(Self.top + middle + 4)" text-anchor="end">\#(label)</text>"#
            )
            let x = Self.left + middle + 4
            lines.append(
                #"  <text x="\#(x)" y="\#(Self.top - 8)" transform="rotate(-60 \#(x) \#(Self.top - 8))">\#(label)</text>"#
            )
        }
        for (row, a) in names.enumerated() {
            for (column, b) in names.enumerated() {
                guard let cell = report.cell(a, b) else { continue }
                lines += square(cell, row: row, column: column)
            }
        }
        lines += legend(from: Self.top + names.count * Self.size + 30)
        lines.append("</svg>")
        return lines.joined(separator: "\n") + "\n"
    }

    private func square(_ cell: MatrixReport.Cell, row: Int, column: Int) -> [String] {
        let (x, y) = (Self.left + column * Self.size, Self.top + row * Self.size)
        let look = look(cell)
        let hint = JUnitDocument.escape("\(cell.a) - \(cell.b): \(cell.observed.rawValue). \(cell.reason)")
        return [
            "  <g><title>\(hint)</title>",
            #"    <rect x="\#(x)" y="\#(y)" width="\#(Self.size)" height="\#(Self.size)" fill="\#(look.fill)" "#
                + #"stroke="white" stroke-width="2"/>"#,
            #"    <text x="\#(x + Self.size / 2)" y="\#(y + Self.size / 2 + 5)" text-anchor="middle">\#(look.mark)</text>"#,
            "  </g>",
        ]
    }

    private func legend(from y: Int) -> [String] {
        var lines: [String] = []
        for (index, look) in [Self.direct, Self.none, Self.miss].enumerated() {
            let line = y + index * 22
            lines.append(
                #"  <rect x="20" y="\#(line - 12)" width="16" height="16" fill="\#(look.fill)"/>"#)
            lines.append(
                #"  <text x="28" y="\#(line + 1)" text-anchor="middle">\#(look.mark)</text>"#)
            lines.append(#"  <text x="44" y="\#(line + 1)">\#(look.meaning)</text>"#)
        }
        let good = report.cells.count(where: \.ok)
        lines.append(
            #"  <text x="250" y="\#(y + 1)">\#(good) of \#(report.cells.count) pairs, \#(count(report.rounds, "round"))</text>"#
        )
        return lines
    }
}
