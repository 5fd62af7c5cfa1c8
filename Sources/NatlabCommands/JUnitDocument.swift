import LabPlanner
import PeeringCheck
import SystemCalls

/// Results as JUnit XML, which CI systems read: one suite with a test case for each thing that can fail.
struct JUnitDocument {
    let text: String

    struct Case {
        var name: String
        /// Nil when it passed.
        var failure: String?
    }

    /// - Parameters:
    ///   - suite: what was done, "natlab verify LAB".
    ///   - group: the cases' class name.
    init(suite: String, group: String, _ cases: [Case]) {
        let failures = cases.count { $0.failure != nil }
        var lines = [
            #"<?xml version="1.0" encoding="UTF-8"?>"#,
            #"<testsuites>"#,
            #"  <testsuite name="\#(Self.escape(suite))" tests="\#(cases.count)" failures="\#(failures)">"#,
        ]
        for item in cases {
            let open = #"    <testcase classname="\#(Self.escape(group))" name="\#(Self.escape(item.name))""#
            if let failure = item.failure {
                lines.append(open + ">")
                lines.append(#"      <failure message="\#(Self.escape(failure))"/>"#)
                lines.append("    </testcase>")
            } else {
                lines.append(open + "/>")
            }
        }
        lines += ["  </testsuite>", "</testsuites>"]
        text = lines.joined(separator: "\n") + "\n"
    }

    init(_ report: VerifyReport) {
        let pairs = report.pairs.map { pair in
            Case(
                name: "\(pair.from) - \(pair.to) (\(pair.interface)): \(pair.expected.rawValue)",
                failure: pair.ok
                    ? nil : pair.reason + (pair.explanation.map { "; why: \($0.verdict)" } ?? ""))
        }
        self.init(
            suite: "natlab verify \(report.lab)", group: report.lab,
            pairs + Self.problems(report.problems))
    }

    init(_ report: MatrixReport) {
        let cells = report.cells.map { cell in
            Case(name: "\(cell.a) - \(cell.b): \(cell.theory.rawValue)", failure: cell.ok ? nil : cell.reason)
        }
        self.init(suite: "natlab matrix", group: "matrix", cells + Self.problems(report.problems))
    }

    init(_ report: NATReport) {
        let routers = report.routers.map { router in
            Case(
                name: "\(router.router): \(router.nat)",
                failure: router.ok ? nil : router.differences.joined(separator: "; "))
        }
        let paths = report.paths.map { path in
            Case(
                name: "path \(path.via.joined(separator: " > "))",
                failure: path.ok ? nil : path.differences.joined(separator: "; "))
        }
        self.init(
            suite: "natlab nat \(report.lab)", group: report.lab,
            routers + paths + Self.problems(report.problems))
    }

    private static func problems(_ problems: [String]) -> [Case] {
        problems.enumerated().map { Case(name: "problem \($0.offset + 1)", failure: $0.element) }
    }

    func write(to path: String) throws(OperationFailure) {
        try Files.writeResult(text, to: path, operation: "write JUnit file")
    }

    /// XML 1.0 section 2.4; control characters that XML cannot hold become U+FFFD.
    static func escape(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            case "\n", "\t": result += "&#\(scalar.value);"
            default:
                result.unicodeScalars.append(
                    scalar.value < 0x20 || scalar.value == 0x7F ? "\u{FFFD}" : scalar)
            }
        }
        return result
    }
}
