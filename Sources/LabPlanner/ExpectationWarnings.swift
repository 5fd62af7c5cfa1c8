package import TopologyModel

/// What a topology expects of pairs although theory says otherwise; a file may mean it, so it is no error.
package func expectationWarnings(_ topology: Topology, fileName: String) -> [Diagnostic] {
    guard !topology.expectations.isEmpty else { return [] }
    let plan = compile(topology)
    let theory = TraversalTheory(plan)
    return topology.expectations.compactMap { expectation in
        let names = Set(expectation.between)
        guard let pair = plan.pairs.first(where: { Set([$0.from, $0.to]) == names }) else { return nil }
        let verdict = theory.verdict(pair.from, pair.to, interface: pair.interface)
        guard verdict.path.rawValue != expectation.path.rawValue else { return nil }
        let can = verdict.path == .direct ? "reach each other" : "cannot reach each other directly"
        return Diagnostic(
            .warning, "by theory `\(pair.from)` and `\(pair.to)` \(can): \(verdict.reason)", file: fileName,
            at: expectation.span, hint: "without an [[expect]] natlab expects what theory says")
    }
}
