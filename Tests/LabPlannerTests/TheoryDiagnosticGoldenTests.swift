import FoundationEssentials
import LabPlanner
import Testing
import TopologyModel

/// Each file of Tests/Goldens/diagnostics/theory is a topology, a line of `=====`, and what theory makes `check` say of it,
/// to the byte.
///
/// NATLAB_WRITE_GOLDENS=1 writes them anew.
struct TheoryDiagnosticGoldenTests {
    private static let folder = PlanGoldenTests.folder.deletingLastPathComponent()
        .appending(path: "diagnostics/theory")
    private static let separator = "=====\n"

    static func names() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: folder.path).filter { $0.hasSuffix(".txt") }
            .sorted()
    }

    @Test(arguments: try names())
    func rendersAsWritten(_ name: String) throws {
        let url = Self.folder.appending(path: name)
        let golden = String(decoding: try Data(contentsOf: url), as: UTF8.self)
        let split = try #require(golden.firstRange(of: Self.separator))
        let source = String(golden[..<split.lowerBound])
        let bytes = Array(source.utf8)

        let result = TopologyFile.parse(bytes: bytes, fileName: "lab.toml")
        #expect(result.diagnostics.isEmpty)
        let warnings = theoryWarnings(try #require(result.topology), fileName: "lab.toml")
        #expect(warnings.allSatisfy { $0.severity == .warning })
        let text =
            DiagnosticRenderer(source: bytes).text(warnings) + DiagnosticRenderer.summary(warnings) + "\n"
        if ProcessInfo.processInfo.environment["NATLAB_WRITE_GOLDENS"] != nil {
            try Data((source + Self.separator + text).utf8).write(to: url)
        } else {
            #expect(text == String(golden[split.upperBound...]))
        }
    }

    @Test func thereAreCases() throws {
        #expect(try Self.names().count >= 6)
    }
}
