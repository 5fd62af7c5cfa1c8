/// Gathers the diagnostics of one file.
final class Reporter {
    let fileName: String
    var diagnostics: [Diagnostic]
    /// Whether a table or key missing from the tree may only have been lost to an error of syntax.
    let lostKeys: Bool
    let lostTables: Bool
    private var spelling = Spelling()

    init(fileName: String, file: TOMLFile) {
        self.fileName = fileName
        diagnostics = file.diagnostics
        lostKeys = file.lostKeys
        lostTables = file.lostTables
    }

    var hasErrors: Bool { diagnostics.contains { $0.severity == .error } }
    /// To see whether reading something has found an error.
    var errorCount: Int { diagnostics.count { $0.severity == .error } }

    func error(_ message: String, at span: SourceSpan, hint: String? = nil, notes: [Diagnostic.Note] = []) {
        diagnostics.append(Diagnostic(.error, message, file: fileName, at: span, hint: hint, notes: notes))
    }

    func warning(_ message: String, at span: SourceSpan, hint: String? = nil, notes: [Diagnostic.Note] = []) {
        diagnostics.append(Diagnostic(.warning, message, file: fileName, at: span, hint: hint, notes: notes))
    }

    /// Something that the language has but this version does not do.
    func unsupported(_ what: String, at span: SourceSpan, hint: String? = nil) {
        error("\(what) not supported by this version", at: span, hint: hint)
    }

    /// "did you mean `x`?", when one of the candidates is near.
    func didYouMean(_ word: String, _ candidates: some Sequence<String>) -> String? {
        spelling.nearest(to: word, among: candidates).map { "did you mean `\($0)`?" }
    }
}
