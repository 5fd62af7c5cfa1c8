import FoundationEssentials
import SystemCalls
import TestSupport
import Testing

/// `natlab nat --json`, as its readers see it.
struct NATResult: Decodable {
    enum Value: Decodable, Equatable, ExpressibleByStringLiteral, ExpressibleByBooleanLiteral {
        case word(String)
        case flag(Bool)
        case number(Double)

        init(stringLiteral word: String) { self = .word(word) }
        init(booleanLiteral flag: Bool) { self = .flag(flag) }

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let flag = try? container.decode(Bool.self) {
                self = .flag(flag)
            } else if let number = try? container.decode(Double.self) {
                self = .number(number)
            } else {
                self = .word(try container.decode(String.self))
            }
        }
    }

    struct Router: Decodable {
        var router: String
        var nat: String
        var ok: Bool
        var declared: [String: Value?]
        var measured: [String: Value?]
        var differences: [String]
        var evidence: [String: String]

        /// Nil also where the property is null.
        func measured(_ property: String) -> Value? { measured[property] ?? nil }

        /// The properties that differ, in the words that people read.
        var changed: Set<String> { Set(differences.map { String($0.prefix { $0 != ":" }) }) }
    }

    struct Path: Decodable {
        var router: String
        var via: [String]
        var ok: Bool
        var theory: [String: Value?]
        var measured: [String: Value?]
        var differences: [String]
    }

    var lab: String
    var ok: Bool
    var routers: [Router]
    var paths: [Path]
    var problems: [String]

    func router(_ name: String) -> Router? { routers.first { $0.router == name } }
}

/// The words that natlab and coturn have for a NAT, by "eim-adf".
struct Behaviour: Hashable, CustomStringConvertible {
    private static let words = [
        "endpoint-independent", "address-dependent", "address-and-port-dependent",
    ]
    private static let letters = ["ei", "ad", "apd"]

    /// From 0 to 2, the more the more dependent.
    var mapping: Int
    var filtering: Int

    static let nine: [String] = letters.flatMap { map in letters.map { "\(map)m-\($0)f" } }

    init(mapping: Int, filtering: Int) {
        self.mapping = mapping
        self.filtering = filtering
    }

    /// A preset of the nine, `masquerade` or `symmetric`.
    init(_ name: String) throws {
        let behaviour =
            switch name {
            case "masquerade": "eim-apdf"
            case "symmetric": "apdm-apdf"
            default: name
            }
        let number = try #require(Self.nine.firstIndex(of: behaviour))
        self.init(mapping: number / 3, filtering: number % 3)
    }

    /// Behind another NAT: each is as dependent as the more dependent one.
    func behind(_ other: Behaviour) -> Behaviour {
        Behaviour(mapping: max(mapping, other.mapping), filtering: max(filtering, other.filtering))
    }

    var mappingWord: String { Self.words[mapping] }
    var filteringWord: String { Self.words[filtering] }
    var description: String { "\(mappingWord) mapping, \(filteringWord) filtering" }
}

extension Lab {
    /// `natlab nat` and how it ended.
    func nat(_ arguments: String...) throws -> (status: SystemCalls.ExitStatus, result: NATResult) {
        let output = try natlab.run(["nat", "--lab", name, "--json"] + arguments)
        guard let result = try? JSONDecoder().decode(NATResult.self, from: Data(output.output.utf8)) else {
            throw OperationFailure(
                "natlab nat", name, detail: "\(output.status): \(output.output)\(output.error)")
        }
        return (output.status, result)
    }

    /// Measures, and expects everything as declared.
    @discardableResult
    func expectAsDeclared(_ arguments: String..., sourceLocation: SourceLocation = #_sourceLocation) throws
        -> NATResult
    {
        let output = try natlab.run(["nat", "--lab", name, "--json"] + arguments)
        let result = try JSONDecoder().decode(NATResult.self, from: Data(output.output.utf8))
        let differences =
            result.routers.filter { !$0.ok }.map { "\($0.router): \($0.differences)" }
            + result.paths.filter { !$0.ok }.map { "\($0.via): \($0.differences)" } + result.problems
        #expect(
            output.status == .exited(0) && result.ok, "\(differences) \(output.error)",
            sourceLocation: sourceLocation)
        return result
    }

    /// A program in one of its nodes.
    func call(_ node: String, _ program: String, _ arguments: String...) -> ProgramCall {
        ProgramCall("ip", ["netns", "exec", namespace(node), program] + arguments)
    }

    /// A router on the internet, with a LAN that every home has, and hosts on it.
    static func home(_ name: String, _ nat: String, hosts: [String] = [], on uplink: String = "internet")
        -> String
    {
        "[router.\(name)]\nuplink = \"\(uplink)\"\nlan = \"192.168.1.0/24\"\nnat = \(nat)\n"
            + hosts.map { "[host.\($0)]\non = \"\(name)\"\n" }.joined()
    }
}
