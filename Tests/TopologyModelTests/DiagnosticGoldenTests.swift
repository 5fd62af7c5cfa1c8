import FoundationEssentials
import Testing
import TopologyModel

/// Each file of Tests/Goldens/diagnostics is a topology, a line of `=====`, and what `check` says of it, to the byte.
///
/// NATLAB_WRITE_GOLDENS=1 writes them anew.
struct DiagnosticGoldenTests {
    static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "Goldens/diagnostics")
    static let separator = "=====\n"

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
        let text =
            DiagnosticRenderer(source: bytes).text(result.diagnostics)
            + DiagnosticRenderer.summary(result.diagnostics) + "\n"
        if ProcessInfo.processInfo.environment["NATLAB_WRITE_GOLDENS"] != nil {
            try Data((source + Self.separator + text).utf8).write(to: url)
        } else {
            #expect(text == String(golden[split.upperBound...]))
        }
        #expect((result.topology == nil) == result.diagnostics.contains { $0.severity == .error })
        #expect(result.diagnostics == result.diagnostics.sorted { $0.span.start < $1.span.start })
    }

    @Test func thereAreCases() throws {
        #expect(try Self.names().count >= 40)
    }
}
