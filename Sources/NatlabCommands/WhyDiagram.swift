import PeeringDiagnosis

/// The same exchange as a Mermaid sequence diagram.
struct WhyDiagram {
    let text: String

    init(_ report: WhyReport) {
        var nodes = [report.from]
        // The way back has the same nodes in the other order, and maybe some that the first packet never came to.
        for node in (report.directions.first?.nodes ?? [])
            + (report.directions.dropFirst().first?.nodes ?? []).reversed()
        where !nodes.contains(node) { nodes.append(node) }
        // The second host last, however far the first one's packets came.
        nodes.removeAll { $0 == report.to }
        nodes.append(report.to)
        let names = Dictionary(uniqueKeysWithValues: nodes.enumerated().map { ($1, "n\($0)") })
        var lines = ["sequenceDiagram"]
        for node in nodes { lines.append("    participant \(names[node] ?? "") as \(node)") }
        for journey in report.directions {
            guard journey.sent > 0 else {
                lines.append("    Note over \(names[journey.from] ?? "n0"): sends nothing to \(journey.to)")
                continue
            }
            let steps = Array(zip(journey.nodes, journey.nodes.dropFirst()))
            for (index, (one, other)) in steps.enumerated() {
                let isLost = journey.loss != nil && index == steps.count - 1
                let hop = journey.hops.last { $0.node == one }
                let label = hop.map { "\($0.source) to \($0.destination)" } ?? "on to \(journey.to)"
                lines.append("    \(names[one] ?? "")\(isLost ? "-x" : "->>")\(names[other] ?? ""): \(label)")
            }
            if let loss = journey.loss {
                lines.append(
                    "    Note over \(names[loss.node] ?? names[journey.from] ?? "n0"): \(Self.words(loss.reason))"
                )
            }
        }
        lines.append("    Note over n0,n\(nodes.count - 1): \(Self.words(report.verdict))")
        text = lines.joined(separator: "\n")
    }

    /// Without what would end Mermaid's statement (a semicolon, a new line) or begin one of its comments or entities.
    private static func words(_ text: String) -> String {
        String(text.map { $0 == ";" ? "," : $0 == "#" || $0.isNewline ? " " : $0 })
    }
}
