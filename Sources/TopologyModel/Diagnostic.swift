/// A place in a topology file.
///
/// Lines and columns count from 1, columns in Unicode scalars.
package struct SourcePosition: Codable, Hashable, Sendable, Comparable {
    package var line: Int
    package var column: Int

    package init(line: Int, column: Int) {
        self.line = line
        self.column = column
    }

    package static func < (left: Self, right: Self) -> Bool {
        (left.line, left.column) < (right.line, right.column)
    }
}

/// A range of a topology file; the end is exclusive.
package struct SourceSpan: Codable, Hashable, Sendable {
    package var start: SourcePosition
    package var end: SourcePosition

    package init(_ start: SourcePosition, _ end: SourcePosition) {
        self.start = start
        self.end = end
    }

    /// The first character of the file: where errors go that belong to no place in it.
    static let fileStart = SourceSpan(SourcePosition(line: 1, column: 1), SourcePosition(line: 1, column: 2))
}

/// One thing that is wrong, or suspicious, in a topology file.
package struct Diagnostic: Hashable, Sendable {
    package enum Severity: String, Codable, Sendable { case error, warning }

    /// A second place that helps to understand the first.
    package struct Note: Hashable, Sendable {
        package var message: String
        package var span: SourceSpan

        package init(_ message: String, at span: SourceSpan) {
            self.message = message
            self.span = span
        }
    }

    package var severity: Severity
    package var message: String
    /// The file's name as the user gave it.
    package var file: String
    package var span: SourceSpan
    /// What to do about it, where there is something.
    package var hint: String?
    package var notes: [Note]

    package init(
        _ severity: Severity, _ message: String, file: String, at span: SourceSpan, hint: String? = nil,
        notes: [Note] = []
    ) {
        self.severity = severity
        self.message = message
        self.file = file
        self.span = span
        self.hint = hint
        self.notes = notes
    }
}

// In JSON a diagnostic is flat: file, line, column, end_line, end_column, severity, message, hint (null where there is
// none) and notes.

private enum Field: String, CodingKey {
    case file, line, column, severity, message, hint, notes
    case endLine = "end_line"
    case endColumn = "end_column"
}

extension SourceSpan {
    fileprivate init(from fields: KeyedDecodingContainer<Field>) throws {
        self.init(
            SourcePosition(
                line: try fields.decode(Int.self, forKey: .line),
                column: try fields.decode(Int.self, forKey: .column)),
            SourcePosition(
                line: try fields.decode(Int.self, forKey: .endLine),
                column: try fields.decode(Int.self, forKey: .endColumn)))
    }

    fileprivate func encode(to fields: inout KeyedEncodingContainer<Field>) throws {
        try fields.encode(start.line, forKey: .line)
        try fields.encode(start.column, forKey: .column)
        try fields.encode(end.line, forKey: .endLine)
        try fields.encode(end.column, forKey: .endColumn)
    }
}

extension Diagnostic: Codable {
    package init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: Field.self)
        self.init(
            try fields.decode(Severity.self, forKey: .severity),
            try fields.decode(String.self, forKey: .message),
            file: try fields.decode(String.self, forKey: .file), at: try SourceSpan(from: fields),
            hint: try fields.decodeIfPresent(String.self, forKey: .hint),
            notes: try fields.decodeIfPresent([Note].self, forKey: .notes) ?? [])
    }

    package func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: Field.self)
        try fields.encode(severity, forKey: .severity)
        try fields.encode(message, forKey: .message)
        try fields.encode(file, forKey: .file)
        try span.encode(to: &fields)
        try fields.encode(hint, forKey: .hint)
        try fields.encode(notes, forKey: .notes)
    }
}

extension Diagnostic.Note: Codable {
    package init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: Field.self)
        self.init(try fields.decode(String.self, forKey: .message), at: try SourceSpan(from: fields))
    }

    package func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: Field.self)
        try fields.encode(message, forKey: .message)
        try span.encode(to: &fields)
    }
}
