import FoundationEssentials
import LabPlanner
import LabTemplates
import Testing
import TopologyModel

/// The plans of the templates, to the byte: Tests/Goldens/plans.
///
/// NATLAB_WRITE_GOLDENS=1 writes them anew.
struct PlanGoldenTests {
    static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "Goldens/plans")

    private func plan(_ template: LabTemplate) throws -> LabPlan {
        let result = TopologyFile.parse(bytes: Array(template.text.utf8), fileName: "\(template.name).toml")
        // The one that is wrong on purpose; its warnings have a test of their own.
        #expect(result.diagnostics.isEmpty != (template.name == "not-found"))
        #expect(result.diagnostics.allSatisfy { $0.severity == .warning })
        return compile(try #require(result.topology))
    }

    private func compare(_ text: String, with name: String) throws {
        let url = Self.folder.appending(path: name)
        if ProcessInfo.processInfo.environment["NATLAB_WRITE_GOLDENS"] != nil {
            try Data(text.utf8).write(to: url)
        } else {
            #expect(text == String(decoding: try Data(contentsOf: url), as: UTF8.self))
        }
    }

    private func encoded(_ plan: LabPlan) throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
        return try encoder.encode(plan)
    }

    @Test func notFoundIsWarnedOf() throws {
        let template = try #require(LabTemplate.all.first { $0.name == "not-found" })
        let found = TopologyFile.parse(bytes: Array(template.text.utf8), fileName: "lab.toml").diagnostics
        #expect(
            found.map(\.message) == [
                "the rendezvous has nobody to find in wg0: `alpine1` and `alpine2`, both behind routers, are not "
                    + "each other's peers, so neither asks for the other",
                "the rendezvous at 10.66.66.1:1234 lies inside the tunnel wg0, which is up only after it has served",
            ])
    }

    @Test(arguments: LabTemplate.all.map(\.name))
    func template(_ name: String) throws {
        let template = try #require(LabTemplate.all.first { $0.name == name })
        let plan = try plan(template)
        try compare(plan.text(), with: "\(name).txt")
        let json = try encoded(plan)
        try compare(String(decoding: json, as: UTF8.self) + "\n", with: "\(name).json")
        #expect(try JSONDecoder().decode(LabPlan.self, from: json) == plan)
        #expect(try encoded(self.plan(template)) == json)
        #expect(template.summary.count > 20)
    }
}
