import FoundationEssentials
import Glibc
import SystemCalls

/// Where results and progress go: results on standard output, everything else on standard error.
enum Terminal {
    /// Writes a result and a newline to standard output.
    ///
    /// Throws when standard output is closed or full: a result that was not written is no success. When its reader
    /// has gone away (`natlab logs | head`) the process ends as by SIGPIPE.
    static func result(_ text: String) throws(CommandFailure) {
        try write(text + "\n", to: STDOUT_FILENO)
    }

    /// Writes a line to standard error; failing there has nowhere to be reported.
    static func note(_ text: String) {
        try? write(text + "\n", to: STDERR_FILENO)
    }

    /// Writes bytes as they are, without a newline.
    static func write(_ text: String, to descriptor: Int32) throws(CommandFailure) {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count > 0 {
                bytes = bytes.dropFirst(count)
            } else if count < 0, errno != EINTR {
                let code = errno
                if code == EPIPE, descriptor == STDOUT_FILENO { InheritedSignals.endByBrokenPipe() }
                throw CommandFailure(.machine, "cannot write the result: \(OperationFailure.text(of: code))")
            }
        }
    }

    /// Whether a person looks at this descriptor and has not asked for plain text (https://no-color.org).
    static func isColourful(_ descriptor: Int32) -> Bool {
        guard isatty(descriptor) == 1 else { return false }
        if let asked = getenv("NO_COLOR"), asked.pointee != 0 { return false }
        if let kind = getenv("TERM"), String(cString: kind) == "dumb" { return false }
        return true
    }

    enum Colour: String {
        case red = "31"
        case green = "32"
        case yellow = "33"
        case faint = "2"
    }

    /// The text in a colour where standard output is a colourful terminal.
    static func paint(_ text: String, _ colour: Colour, on descriptor: Int32 = STDOUT_FILENO) -> String {
        isColourful(descriptor) ? "\u{1B}[\(colour.rawValue)m\(text)\u{1B}[0m" : text
    }

    /// A value as JSON with sorted keys, so that the same result is the same bytes.
    static func json(_ value: some Encodable) throws(CommandFailure) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        do {
            return String(decoding: try encoder.encode(value), as: UTF8.self)
        } catch {
            throw CommandFailure(.defect, "a result could not be encoded: \(error)")
        }
    }
}

/// Left-aligned columns, two spaces apart, the last one unpadded.
struct TextTable {
    private var rows: [[String]]

    init(_ heading: [String]) { rows = [heading] }

    mutating func add(_ row: [String]) { rows.append(row) }

    var text: String {
        let columns = rows.map(\.count).max() ?? 0
        let widths = (0..<columns).map { column in
            rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0
        }
        return rows.map { row in
            var line = ""
            for (index, cell) in row.enumerated() {
                line += cell
                if index < row.count - 1 {
                    line += String(repeating: " ", count: widths[index] - cell.count + 2)
                }
            }
            while line.last == " " { line.removeLast() }
            return line
        }.joined(separator: "\n")
    }
}
