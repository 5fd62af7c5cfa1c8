/// Writes diagnostics for people: position, message, source line, caret, hint.
///
///     lab.toml:4:1: error: unknown key `uplnk` in [router.home-a]
///         uplnk = "internet"
///         ^^^^^
///         hint: did you mean `uplink`?
package struct DiagnosticRenderer: Sendable {
    private let lines: [ArraySlice<UInt8>]
    private static let indent = "    "
    /// More of a line is not shown; what is shown contains the caret.
    private static let lineWidth = 160

    /// The bytes are those of the file that the diagnostics are about.
    package init(source: [UInt8]) {
        lines = source.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    }

    /// All of them, each ending with a line break.
    package func text(_ diagnostics: [Diagnostic]) -> String {
        var output = ""
        for diagnostic in diagnostics { write(diagnostic, to: &output) }
        return output
    }

    /// "2 errors, 1 warning"; empty when there is nothing to count.
    package static func summary(_ diagnostics: [Diagnostic]) -> String {
        func count(_ severity: Diagnostic.Severity) -> String? {
            let count = diagnostics.count { $0.severity == severity }
            return count == 0 ? nil : "\(count) \(severity.rawValue)\(count == 1 ? "" : "s")"
        }
        return [count(.error), count(.warning)].compactMap(\.self).joined(separator: ", ")
    }

    private func write(_ diagnostic: Diagnostic, to output: inout String) {
        let file = Self.printable(diagnostic.file)
        output += "\(file):\(diagnostic.span.start.line):\(diagnostic.span.start.column): "
        output += "\(diagnostic.severity.rawValue): \(Self.printable(diagnostic.message))\n"
        writeExcerpt(diagnostic.span, to: &output)
        if let hint = diagnostic.hint { output += "\(Self.indent)hint: \(Self.printable(hint))\n" }
        for note in diagnostic.notes {
            output += "\(file):\(note.span.start.line):\(note.span.start.column): note: "
            output += "\(Self.printable(note.message))\n"
            writeExcerpt(note.span, to: &output)
        }
    }

    /// The line and, under the span, carets.
    private func writeExcerpt(_ span: SourceSpan, to output: inout String) {
        guard lines.indices.contains(span.start.line - 1) else { return }
        let line = lines[span.start.line - 1]
        let start = max(span.start.column - 1, 0)
        // A line can have a megabyte: only what is near the caret is decoded.
        let near = Self.bytes(of: line, scalars: max(0, start - Self.lineWidth)..<(start + Self.lineWidth))
        let skipped = min(start, max(0, start - Self.lineWidth))

        // One cell for each scalar: what it prints as and how many columns of a terminal that takes.
        var cells: [(text: String, width: Int)] = []
        var column = 0
        // Decoded with repair: a line of broken UTF-8 is still shown as far as it goes.
        for scalar in String(decoding: line[near], as: UTF8.self).unicodeScalars where scalar != "\r" {
            let cell: (text: String, width: Int)
            if scalar == "\t" {
                let width = 4 - column % 4
                cell = (String(repeating: " ", count: width), width)
            } else {
                cell = (Self.printable(String(scalar)), Self.width(scalar))
            }
            cells.append(cell)
            column += cell.width
        }
        let first = min(start - skipped, cells.count)
        let end = span.end.line > span.start.line ? cells.count : span.end.column - 1 - skipped
        let window = Self.window(of: cells.count, around: first)
        let isCutBefore = skipped + window.lowerBound > 0
        let isCutAfter = window.upperBound < cells.count || near.upperBound < line.endIndex
        let pad = cells[window.lowerBound..<min(first, window.upperBound)].reduce(isCutBefore ? 1 : 0) {
            $0 + $1.width
        }
        let marked = cells[min(first, window.upperBound)..<min(max(end, first), window.upperBound)]

        output +=
            Self.indent + (isCutBefore ? "…" : "") + cells[window].map(\.text).joined()
            + (isCutAfter ? "…" : "")
        output += "\n" + Self.indent + String(repeating: " ", count: pad)
        output += String(repeating: "^", count: max(1, marked.reduce(0) { $0 + $1.width })) + "\n"
    }

    private static func window(of count: Int, around column: Int) -> Range<Int> {
        guard count > lineWidth else { return 0..<count }
        let start = min(max(0, column - lineWidth / 4), count - lineWidth)
        return start..<(start + lineWidth)
    }

    /// The indices of the bytes of these scalars, as far as there are any.
    private static func bytes(of line: ArraySlice<UInt8>, scalars: Range<Int>) -> Range<Int> {
        var number = -1
        var start = line.endIndex
        for index in line.indices where line[index] & 0xC0 != 0x80 || index == line.startIndex {
            number += 1
            if number == scalars.lowerBound { start = index }
            if number == scalars.upperBound { return start..<index }
        }
        return start..<line.endIndex
    }

    /// The text without what would move the cursor or colour the terminal: input is quoted in messages.
    static func printable(_ text: String) -> String {
        guard text.unicodeScalars.contains(where: isControl) else { return text }
        var result = String.UnicodeScalarView()
        for scalar in text.unicodeScalars { result.append(isControl(scalar) ? "\u{FFFD}" : scalar) }
        return String(result)
    }

    private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator: true
        default: false
        }
    }

    /// Terminal columns: combining marks take none, East Asian wide characters and emoji two.
    private static func width(_ scalar: Unicode.Scalar) -> Int {
        guard scalar.value >= 0x300 else { return 1 }
        switch scalar.properties.generalCategory {
        case .nonspacingMark, .enclosingMark: return 0
        default: break
        }
        switch scalar.value {
        case 0x1100...0x115F, 0x2E80...0xA4CF, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE30...0xFE6F,
            0xFF00...0xFF60,
            0xFFE0...0xFFE6, 0x1F300...0x1F64F, 0x1F900...0x1F9FF, 0x20000...0x3FFFD:
            return 2
        default: return 1
        }
    }
}
