import Glibc
import LabPlanner
import PeeringCheck
import SystemCalls

/// A verify report as JUnit XML, which CI systems read: one test case a pair, one a problem.
struct JUnitDocument {
    let text: String

    init(_ report: VerifyReport) {
        let failures = report.pairs.count { !$0.ok } + report.problems.count
        let tests = report.pairs.count + report.problems.count
        var lines = [
            #"<?xml version="1.0" encoding="UTF-8"?>"#,
            #"<testsuites>"#,
            #"  <testsuite name="natlab verify \#(Self.escape(report.lab))" tests="\#(tests)" failures="\#(failures)">"#,
        ]
        for pair in report.pairs {
            let name = Self.escape("\(pair.from) - \(pair.to) (\(pair.interface)): \(pair.expected.rawValue)")
            let open = #"    <testcase classname="\#(Self.escape(report.lab))" name="\#(name)""#
            if pair.ok {
                lines.append(open + "/>")
            } else {
                lines.append(open + ">")
                lines.append(#"      <failure message="\#(Self.escape(pair.reason))"/>"#)
                lines.append("    </testcase>")
            }
        }
        for (index, problem) in report.problems.enumerated() {
            lines.append(
                #"    <testcase classname="\#(Self.escape(report.lab))" name="problem \#(index + 1)">"#)
            lines.append(#"      <failure message="\#(Self.escape(problem))"/>"#)
            lines.append("    </testcase>")
        }
        lines += ["  </testsuite>", "</testsuites>"]
        text = lines.joined(separator: "\n") + "\n"
    }

    /// Writes into what `path` is: a device, a pipe or a link stays what it is.
    func write(to path: String) throws(OperationFailure) {
        let operation = "write JUnit file"
        let file = try Files.open(path, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644, operation: operation)
        do throws(OperationFailure) { try file.writeAll(Array(text.utf8)) } catch {
            throw OperationFailure(operation, path, errno: error.errno)
        }
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
