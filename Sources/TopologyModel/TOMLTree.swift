internal import CTOML

/// A TOML value with its place in the file; tables keep the file's order.
struct TOMLNode {
    enum Value {
        case table([TOMLNode])
        case array([TOMLNode])
        case string(String)
        case integer(Int64)
        case boolean(Bool)
        case float
        case dateTime
    }

    /// The key in the table it is in; empty in an array and for the root.
    var key: String
    var keySpan: SourceSpan
    /// A table's is its header's.
    var span: SourceSpan
    var value: Value

    /// "a string", for messages.
    var kind: String {
        switch value {
        case .table: "a table"
        case .array(let elements) where elements.first?.isTable == true && elements.allSatisfy(\.isTable):
            "an array of tables"
        case .array: "an array"
        case .string: "a string"
        case .integer: "an integer"
        case .boolean: "a boolean"
        case .float: "a float"
        case .dateTime: "a date or time"
        }
    }

    var isTable: Bool { if case .table = value { true } else { false } }
}

/// A parsed file: what could be read, and the errors of syntax.
struct TOMLFile {
    var root: [TOMLNode] = []
    var diagnostics: [Diagnostic] = []
    /// Some key is missing from the tree: what seems not to be there may have been.
    var lostKeys = false
    /// Some table is missing from the tree.
    var lostTables = false
    /// There is no tree.
    var refused = false

    init(bytes: [UInt8], fileName: String) {
        let document = bytes.withUnsafeBufferPointer { natlab_toml_parse($0.baseAddress, $0.count) }
        defer { natlab_toml_free(document) }

        var count = 0
        if let errors = natlab_toml_errors(document, &count) {
            for error in UnsafeBufferPointer(start: errors, count: count) {
                diagnostics.append(Self.diagnostic(error, fileName: fileName))
                lostKeys = lostKeys || error.kind != NATLAB_TOML_DUPLICATE
                lostTables = lostTables || error.lost_table != 0
                refused = refused || error.kind == NATLAB_TOML_REFUSED
            }
        }
        if let nodes = natlab_toml_nodes(document, &count), count > 0 {
            root = Self.children(of: nodes[0], in: UnsafeBufferPointer(start: nodes, count: count))
        } else {
            refused = true
        }
    }

    private static func diagnostic(_ error: natlab_toml_error, fileName: String) -> Diagnostic {
        var result = Diagnostic(
            .error,
            text(error.message, error.message_length), file: fileName, at: SourceSpan(error.region))
        if error.first.line > 0 {
            result.notes.append(.init("first defined here", at: SourceSpan(error.first)))
        }
        return result
    }

    /// The depth of the tree is bounded by CTOML.
    private static func children(
        of parent: natlab_toml_node, in nodes: UnsafeBufferPointer<natlab_toml_node>
    ) -> [TOMLNode] {
        var result: [TOMLNode] = []
        var next = Int(parent.first_child)
        while nodes.indices.contains(next) {
            let node = nodes[next]
            let value: TOMLNode.Value =
                switch node.kind {
                case NATLAB_TOML_TABLE: .table(children(of: node, in: nodes))
                case NATLAB_TOML_ARRAY: .array(children(of: node, in: nodes))
                case NATLAB_TOML_STRING: .string(text(node.text, node.text_length))
                case NATLAB_TOML_INTEGER: .integer(node.integer)
                case NATLAB_TOML_BOOLEAN: .boolean(node.integer != 0)
                case NATLAB_TOML_FLOAT: .float
                default: .dateTime
                }
            let span = SourceSpan(node.region)
            result.append(
                TOMLNode(
                    key: text(node.key, node.key_length),
                    keySpan: node.key == nil ? span : SourceSpan(node.key_region),
                    span: span, value: value))
            next = Int(node.next_sibling)
        }
        return result
    }

    private static func text(_ start: UnsafePointer<CChar>?, _ count: Int) -> String {
        guard let start else { return "" }
        return String(decoding: UnsafeRawBufferPointer(start: start, count: count), as: UTF8.self)
    }
}

extension SourceSpan {
    fileprivate init(_ region: natlab_toml_region) {
        self.init(
            SourcePosition(line: Int(region.line), column: Int(region.column)),
            SourcePosition(line: Int(region.end_line), column: Int(region.end_column)))
    }
}
