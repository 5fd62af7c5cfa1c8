import FoundationEssentials
import Testing
import TopologyModel

/// Whatever the bytes: a topology or at least one error, every error inside the file, never a crash.
struct HostileInputTests {
    @discardableResult
    private func survive(_ bytes: [UInt8]) -> [Diagnostic] {
        let result = TopologyFile.parse(bytes: bytes, fileName: "lab.toml")
        let errors = result.diagnostics.filter { $0.severity == .error }
        #expect((result.topology == nil) == !errors.isEmpty)
        let lines = bytes.count { $0 == UInt8(ascii: "\n") } + 1
        #expect(errors.allSatisfy { (1...lines).contains($0.span.start.line) && $0.span.start.column >= 1 })
        let text = DiagnosticRenderer(source: bytes).text(result.diagnostics)
        #expect(text.isEmpty == result.diagnostics.isEmpty)
        return errors
    }

    private static func templates() throws -> [[UInt8]] {
        let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appending(path: "Templates")
        return try ["quickstart", "cgnat", "static", "carrier", "matrix"].map {
            [UInt8](try Data(contentsOf: folder.appending(path: "\($0).toml")))
        }
    }

    /// The same numbers in every run, so that a failure can be had again.
    private struct Numbers: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            // xorshift64*, Vigna 2016.
            state ^= state >> 12
            state ^= state << 25
            state ^= state >> 27
            return state &* 2_685_821_657_736_338_717
        }
    }

    @Test func tenMegabytesOfBrackets() throws {
        let errors = survive([UInt8](repeating: UInt8(ascii: "["), count: 10_000_000))
        #expect(errors.map(\.message) == ["the file has 10000000 bytes; the limit is 1048576"])
    }

    @Test func aMegabyteOfBrackets() throws {
        let errors = survive([UInt8](repeating: UInt8(ascii: "["), count: 1_000_000))
        #expect(errors.map(\.message) == ["values are nested more than 32 deep"])
    }

    @Test(arguments: [
        "[", "{a=", "x = [", "x = {a = ", "x = [\n", "a = {b = [", "[[", "x = \"", "x = '''", "x = \"\"\"\\",
        "'", "\"\\",
    ])
    func repeatedOpening(_ text: String) {
        #expect(!survive(Array(String(repeating: text, count: 5_000).utf8)).isEmpty)
    }

    @Test(arguments: ["", "[", "[[", "x = {", "x = [{ y = {", "host."])
    func fiftyThousandDottedParts(_ prefix: String) {
        let key = [String](repeating: "a", count: 50_000).joined(separator: ".")
        for text in ["\(prefix)\(key)", "\(prefix)\(key) = 1", "\(prefix)\(key)]", "\(prefix)\(key)]]\n"] {
            let errors = survive(Array(text.utf8))
            #expect(errors.map(\.message) == ["a dotted key has more than 16 parts"])
        }
        let quoted = [String](repeating: "\"a.b\" . 'c.d'", count: 25_000).joined(separator: ".")
        #expect(
            survive(Array("\(prefix)\(quoted) = 1".utf8)).map(\.message) == [
                "a dotted key has more than 16 parts"
            ])
    }

    /// Strings, comments and values have all the dots and brackets they like.
    @Test func boundsAreAboutKeysOnly() {
        let dots = String(repeating: ".", count: 1_000)
        let brackets = String(repeating: "[{", count: 1_000)
        for value in [
            "\"\(dots)\(brackets)\"", "'\(dots)\"\(brackets)'", "\"\"\"\n\(brackets)\"\"\(dots)\"\"\"\"\"",
            "'''\(brackets)'''",
        ] {
            let errors = survive(Array("# \(dots)\(brackets)\nname = \(value) # \(dots)\n".utf8))
            #expect(errors.count >= 1)
            #expect(errors.allSatisfy { !$0.message.contains("nested") && !$0.message.contains("dotted") })
        }
    }

    @Test func textThatIsNone() {
        for bytes: [UInt8] in [
            [0xFF, 0xFE], [0], [0xC3, 0x28], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xC0, 0xAF],
            [0xE2, 0x82],
            Array("name = \"a".utf8) + [0] + Array("\"".utf8), Array("# \u{7F}".utf8),
            [0x7F, 0x45, 0x4C, 0x46, 2, 1, 1, 0],
        ] {
            #expect(!survive(bytes).isEmpty)
        }
        #expect(survive([0xC3, 0x28]).map(\.message) == ["the file is not UTF-8 text"])
    }

    /// toml++'s tables of blanks and letters leave cases out and promise that they do not occur; U+00E9 is one.
    @Test func letters() {
        for value in stride(from: UInt32(0x80), to: 0x11000, by: 37) {
            guard let scalar = Unicode.Scalar(value) else { continue }
            for text in [
                "\(scalar) = 1", "[\(scalar)]", "a\(scalar) = 1", "name =\(scalar)1", "name = \"a\"\(scalar)",
                "x = [\(scalar)",
            ] {
                #expect(!survive(Array(text.utf8)).isEmpty)
            }
        }
        #expect(survive(Array("\u{E9} = 1".utf8)).map(\.span.start) == [SourcePosition(line: 1, column: 1)])
    }

    @Test func aByteOrderMarkIsSkipped() {
        #expect(survive([0xEF, 0xBB, 0xBF] + Array("[host.a]\non = \"internet\"\n".utf8)).isEmpty)
    }

    @Test func randomBytes() {
        var numbers = Numbers(state: 42)
        for _ in 0..<300 {
            let count = Int.random(in: 0..<2_000, using: &numbers)
            survive((0..<count).map { _ in UInt8.random(in: 0...255, using: &numbers) })
        }
        let alphabet = Array("[]{}=.,\"'#\\\n\r\t -_ab01u\u{e9}".utf8)
        for _ in 0..<3_000 {
            let count = Int.random(in: 0..<200, using: &numbers)
            survive((0..<count).compactMap { _ in alphabet.randomElement(using: &numbers) })
        }
    }

    @Test func truncatedTemplates() throws {
        for template in try Self.templates() {
            for end in stride(from: 0, to: template.count, by: 7) { survive(Array(template[..<end])) }
        }
    }

    @Test func templatesWithFlippedBytes() throws {
        var numbers = Numbers(state: 7)
        for template in try Self.templates() {
            for _ in 0..<700 {
                var bytes = template
                for _ in 0..<Int.random(in: 1...4, using: &numbers) {
                    let index = Int.random(in: 0..<bytes.count, using: &numbers)
                    bytes[index] =
                        Bool.random(using: &numbers)
                        ? bytes[index] ^ 1 << UInt8.random(in: 0..<8, using: &numbers)
                        : UInt8.random(in: 0...255, using: &numbers)
                }
                survive(bytes)
            }
        }
    }

    /// Lines shuffled, dropped and doubled: right words in the wrong places.
    @Test func templatesWithMovedLines() throws {
        var numbers = Numbers(state: 11)
        for template in try Self.templates() {
            let lines = template.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
            for _ in 0..<300 {
                var moved = lines
                for _ in 0..<3 {
                    let (from, to) = (
                        Int.random(in: 0..<moved.count, using: &numbers),
                        Int.random(in: 0..<moved.count, using: &numbers)
                    )
                    if Bool.random(using: &numbers) {
                        moved.swapAt(from, to)
                    } else {
                        moved.insert(moved[from], at: to)
                    }
                }
                survive(Array(moved.joined(separator: [UInt8(ascii: "\n")])))
            }
        }
    }

    @Test func aThousandErrorsAtOnce() {
        var text = ""
        for index in 0..<500 { text += "[host.h\(index)]\non = \"internt\"\nadress = \"10.0.0.\(index)\"\n" }
        let errors = survive(Array(text.utf8))
        #expect(errors.count == 1_000)
        #expect(errors.allSatisfy { $0.hint != nil })
        #expect(errors[998].message == "unknown segment or router `internt`")
        #expect(errors[998].span.start == SourcePosition(line: 1_499, column: 6))
    }

    /// A wrong name among thousands of right ones costs no seconds: suggestions stop when their budget is used up.
    @Test func aThousandUnknownNamesAmongAThousand() {
        var text = "[segment.internet]\nprefix = \"198.18.0.0/15\"\n"
        for index in 0..<1_000 { text += "[host.host-number-\(index)]\non = \"internet\"\n" }
        text += "[wireguard.wg0]\nprefix = \"10.0.0.0/16\"\nmembers = [\n"
        for index in 0..<1_000 { text += "\"hots-number-\(index)\",\n" }
        let errors = survive(Array((text + "]\n").utf8))
        #expect(errors.count == 1_000)
        #expect(errors.first?.hint == "did you mean `host-number-0`?")
    }

    @Test func aLongLineIsCutAroundItsCaret() throws {
        let names = (0..<2_000).map { "\"n\($0)\"" }.joined(separator: ", ")
        let source = Array(
            "[host.a]\non = \"internet\"\n[wireguard.wg0]\nprefix = \"10.0.0.0/16\"\nmembers = [\(names)]\n"
                .utf8)
        let result = TopologyFile.parse(bytes: source, fileName: "lab.toml")
        #expect(result.diagnostics.count == 2_000)
        let text = DiagnosticRenderer(source: source).text([result.diagnostics[1_500]])
        let lines = text.split(separator: "\n")
        #expect(lines.count == 3)
        #expect(lines[1].count == 4 + 1 + 160 + 1)
        let caret = try #require(lines[2].firstIndex(of: "^"))
        let column = lines[2].distance(from: lines[2].startIndex, to: caret)
        #expect(lines[1].dropFirst(column).hasPrefix("\"n1500\""))
    }
}
