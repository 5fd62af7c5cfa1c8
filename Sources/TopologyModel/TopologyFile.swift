/// Reads topology files.
package enum TopologyFile {
    /// Reads and checks a file; the topology is nil exactly when there is an error among the diagnostics.
    ///
    /// All that is wrong is reported at once, in the order of the file. `fileName` is what the user calls the file: it
    /// is in the diagnostics, and names the lab when the file does not.
    package static func parse(bytes: [UInt8], fileName: String) -> (
        topology: Topology?, diagnostics: [Diagnostic]
    ) {
        let file = TOMLFile(bytes: bytes, fileName: fileName)
        guard !file.refused else { return (nil, file.diagnostics) }
        let report = Reporter(fileName: fileName, file: file)
        let draft = TopologyReader(report: report).read(file.root)
        var checker = TopologyChecker(draft, report: report)
        let topology = checker.check()
        // One thing can be found wrong in one place by several checks: position, then the order of the checks.
        let sorted = report.diagnostics.enumerated().sorted {
            ($0.element.span.start, $0.offset) < ($1.element.span.start, $1.offset)
        }
        return (topology, sorted.map(\.element))
    }
}
