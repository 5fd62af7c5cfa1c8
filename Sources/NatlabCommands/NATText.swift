import PeeringCheck

/// A NAT report for people: one line a router, then what differs, or everything that was measured.
struct NATText {
    let text: String

    init(_ report: NATReport, showsCards: Bool) {
        guard !report.routers.isEmpty || !report.problems.isEmpty else {
            text = "lab '\(report.lab)' has no router: nothing to measure"
            return
        }
        var parts = showsCards ? report.routers.map(Self.card) : [Self.table(report)]
        if !report.paths.isEmpty { parts.append(Self.paths(report)) }
        var lines: [String] = []
        for router in report.routers where !showsCards {
            lines += router.differences.map { "\(router.router): \($0)" }
        }
        for path in report.paths {
            lines += path.differences.map { "\(path.via.joined(separator: " > ")): \($0)" }
        }
        lines += report.problems
        if !lines.isEmpty { parts.append(lines.map { Terminal.paint($0, .red) }.joined(separator: "\n")) }
        text = parts.joined(separator: "\n\n")
    }

    private static func mark(_ ok: Bool) -> String {
        ok ? Terminal.paint("ok", .green) : Terminal.paint("NOT AS DECLARED", .red)
    }

    private static func value(_ value: NATValue?) -> String { value?.description ?? "-" }

    private static func table(_ report: NATReport) -> String {
        let columns: [NATProperty] = [.udp, .mapping, .filtering, .ports, .hairpin, .samePort]
        var table = TextTable(["ROUTER", "NAT"] + columns.map { $0.name.uppercased() } + [""])
        for router in report.routers {
            table.add(
                [router.router, router.nat] + columns.map { value(router.measured[$0]) } + [mark(router.ok)])
        }
        return table.text
    }

    private static func paths(_ report: NATReport) -> String {
        var table = TextTable(["PATH", "UDP", "MAPPING", "FILTERING", ""])
        for path in report.paths {
            table.add([
                path.via.joined(separator: " > "), value(path.measured[.udp]), value(path.measured[.mapping]),
                value(path.measured[.filtering]),
                path.ok ? mark(true) : Terminal.paint("NOT AS THEORY SAYS", .red),
            ])
        }
        return table.text
    }

    /// What one router is declared to do and does.
    static func card(_ router: NATReport.Router) -> String {
        var table = TextTable(["PROPERTY", "DECLARED", "MEASURED", ""])
        for property in NATProperty.allCases {
            let (declared, measured) = (router.declared[property], router.measured[property])
            guard declared != nil || measured != nil else { continue }
            let differs = router.differences.contains { $0.hasPrefix("\(property.name): ") }
            let note = declared == nil || measured == nil && !differs ? "" : mark(!differs)
            table.add([property.name, value(declared), value(measured), note])
        }
        return "\(router.router) (\(router.nat))\n" + table.text
            + router.differences.map { "\n" + Terminal.paint($0, .red) }.joined()
    }
}
