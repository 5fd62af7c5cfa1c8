import FoundationEssentials
import SystemCalls
import TestSupport
import Testing

/// Any JSON value, for looking at its keys.
private enum JSONValue: Decodable {
    case object([String: JSONValue])
    case array([JSONValue])
    case other

    init(from decoder: any Decoder) throws {
        if let object = try? [String: JSONValue](from: decoder) {
            self = .object(object)
        } else if let array = try? [JSONValue](from: decoder) {
            self = .array(array)
        } else {
            self = .other
        }
    }

    init(_ text: some StringProtocol) throws {
        self = try JSONDecoder().decode(JSONValue.self, from: Data(String(text).utf8))
    }

    /// All keys with where they are, "nodes[].link.delay_us"; keys that are the user's own names count as values.
    func keys(_ path: String = "") -> Set<String> {
        switch self {
        case .other: return []
        case .array(let values): return values.reduce(into: []) { $0.formUnion($1.keys("\(path)[]")) }
        case .object(let object):
            // The properties that have evidence are those that were measured.
            let own = [".addresses", ".backends", ".evidence"]
            if own.contains(where: { path.hasSuffix($0) }) { return [] }
            return object.reduce(into: []) { keys, entry in
                let here = "\(path).\(entry.key)"
                keys.insert(here)
                keys.formUnion(entry.value.keys(here))
            }
        }
    }
}

/// docs/json.md against what the commands print: each key it shows is there, and no other.
@Suite(.serialized) struct JSONTests {
    /// The keys of the example below `## `natlab COMMAND --json``.
    private func documented(_ command: String) throws -> Set<String> {
        let text = try Files.readText("\(Natlab.checkout)/docs/json.md")
        let section = try #require(text.split(separator: "## `natlab \(command) --json`").dropFirst().first)
        let example = try #require(section.split(separator: "```json").dropFirst().first)
        return try JSONValue(try #require(example.split(separator: "```").first)).keys()
    }

    private func compare(
        _ command: String, _ output: ProgramCall.Output, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let (wanted, found) = (try documented(command), try JSONValue(output.output).keys())
        #expect(wanted.count > 2, sourceLocation: sourceLocation)
        #expect(
            wanted.subtracting(found) == [], "documented for \(command), not printed",
            sourceLocation: sourceLocation)
        #expect(
            found.subtracting(wanted) == [], "printed by \(command), not documented",
            sourceLocation: sourceLocation)
    }

    @Test func everyKeyIsPrintedAndDocumented() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            // A rate alone goes up on every kernel.
            let lab = try natlab.writeTemplate("mobile") {
                $0.replacing("delay = \"40ms\", jitter = \"5ms\", loss = \"5%\", ", with: "")
            }
            try natlab.write(
                "twice.toml",
                "[host.a]\non = \"internet\"\n[router.a]\nuplink = \"internet\"\nlan = \"10.0.0.0/24\"\nnat = \"none\"\n"
            )
            try compare("check", natlab.run("check", "--json", "twice.toml"))
            try compare("up", natlab.run("up", "--json", lab.file))
            try compare("status", natlab.run("status", "--lab", lab.name, "--json"))
            try compare("list", natlab.run("list", "--json"))
            try compare("down", natlab.run("down", "--lab", lab.name, "--json"))
            try compare("doctor", natlab.run("doctor", "--json"))
        }
    }

    /// With a pair that cannot punch and a datagram that the rendezvous refuses, so that nothing is null for want of a reason.
    @Test func everyKeyOfReasonsIsPrintedAndDocumented() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("symmetric") {
                $0.replacing("path = \"none\"", with: "path = \"direct\"")
            }
            try lab.up()
            let verified = try natlab.run("verify", "--lab", lab.name, "--timeout", "5", "--json")
            #expect(verified.status == .exited(1), "\(verified.error)")
            try compare("verify", verified)
            try tool(
                in: lab.namespace("phone"), "bash", "-c", "echo natlab > /dev/udp/203.0.113.10/1234")
            let why = try natlab.run("why", "phone", "laptop", "--lab", lab.name, "--json")
            #expect(why.status == .exited(1), "\(why.error)")
            try compare("why", why)
        }
    }

    @Test func everyKeyOfMeasurementsIsPrintedAndDocumented() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            // Routers and a path through two of them.
            let lab = try natlab.writeTemplate("cgnat")
            try lab.up()
            try compare("nat", natlab.run("nat", "--lab", lab.name, "--json"))
            try natlab.succeed("down", "--lab", lab.name)
            try compare("matrix", natlab.run("matrix", "full-cone", "--order", "together", "--json"))
        }
    }

    /// No command without a section.
    @Test func everyCommandWithJSONHasASection() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let text = try Files.readText("\(Natlab.checkout)/docs/json.md")
            let help = try natlab.succeed("--help").split(separator: "\n").drop {
                !$0.hasPrefix("SUBCOMMANDS:")
            }
            let commands = help.dropFirst().compactMap { line -> String? in
                let word = line.split(separator: " ").first.map(String.init)
                return line.hasPrefix("  ") && !line.hasPrefix("   ") ? word : nil
            }
            #expect(commands.contains("verify"))
            for command in commands where try natlab.succeed("help", command).contains("--json") {
                #expect(text.contains("## `natlab \(command) --json`"), "\(command)")
            }
        }
    }
}
