import FoundationEssentials
import SystemCalls
import TestSupport
import Testing

/// What docs/nat.md shows of presets, rules, theory and measurements is what natlab says and does.
///
/// Each such block stands between `<!-- NAME -->` and `<!-- /NAME -->`. NATLAB_WRITE_GOLDENS=1 writes them anew.
@Suite(.serialized) struct NATReferenceTests {
    private static let file = "\(Natlab.checkout)/docs/nat.md"

    private func compare(_ text: String, with block: String) throws {
        let document = try Files.readText(Self.file)
        let (start, end) = ("<!-- \(block) -->\n", "<!-- /\(block) -->\n")
        let head = document.split(separator: start, maxSplits: 1, omittingEmptySubsequences: false)
        try #require(head.count == 2, "docs/nat.md has a block \(block)")
        let tail = head[1].split(separator: end, maxSplits: 1, omittingEmptySubsequences: false)
        try #require(tail.count == 2, "the block \(block) of docs/nat.md ends")
        if ProcessInfo.processInfo.environment["NATLAB_WRITE_GOLDENS"] != nil {
            let whole = [String(head[0]), start, text, end, String(tail[1])].joined()
            try Files.writeAtomically(Self.file, Array(whole.utf8), mode: 0o644)
        } else {
            let (shown, found) = (lines(String(tail[0])), lines(text))
            let odd = Set(found).symmetricDifference(shown).sorted()
            // All of both would be too much to read.
            let isSame = shown == found
            #expect(isSame, "\(block) differs in \(odd)")
        }
    }

    private func lines(_ text: String) -> [String] {
        text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    }

    /// Fenced, without white space at the ends of lines.
    private func fenced(_ lines: [String], as language: String = "") -> String {
        let trimmed = lines.map { line in
            String(line.reversed().drop(while: \.isWhitespace).reversed())
        }
        return "```\(language)\n" + trimmed.joined(separator: "\n") + "\n```\n"
    }

    /// The names that natlab itself lists.
    private func presets(_ natlab: Natlab) throws -> [String] {
        try natlab.write("names.toml", router("a", "\"0123456789\"", 1))
        let refused = try natlab.run("check", "names.toml")
        #expect(refused.status == .exited(2))
        let list = try #require(
            refused.error.split(separator: "there are ").last?.split(separator: "\n").first)
        let names = list.split(separator: ", ").map(String.init)
        try #require(names.count > 20 && names.first == "masquerade", "\(refused.error)")
        return names
    }

    /// A LAN that is only routed has to have a prefix of its own.
    private func router(_ name: String, _ nat: String, _ lan: Int, with more: String = "") -> String {
        "[router.\(name)]\nuplink = \"internet\"\nlan = \"192.168.\(lan).0/24\"\nnat = \(nat)\n\(more)"
    }

    // MARK: Without a lab

    private struct Plan: Decodable {
        struct Node: Decodable {
            var name: String
            var nat: String?
            var translation: Translation?
        }
        struct Translation: Decodable {
            var engine: String
            var behaviour: Behaviour
        }
        struct Behaviour: Decodable, Hashable {
            var mapping: String
            var filtering: String
            var ports: String
            var hairpin: Bool
            var udp: String
            var udp_timeout_s: Int?
            var pooling: String
            var block_size: Int

            /// As a user writes it; what is not said is the default.
            var table: String {
                var words = [
                    "mapping = \"\(mapping)\"", "filtering = \"\(filtering)\"", "ports = \"\(ports)\"",
                ]
                if ports == "block" { words.append("block-size = \(block_size)") }
                if hairpin { words.append("hairpin = true") }
                if udp != "forward" { words.append("udp = \"\(udp)\"") }
                if let seconds = udp_timeout_s { words.append("udp-timeout = \"\(seconds)s\"") }
                return "{ \(words.joined(separator: ", ")) }"
            }
        }
        struct Pair: Decodable {
            var from: String
            var to: String
            var expected: String
        }
        var nodes: [Node]
        var pairs: [Pair]
    }

    private func plan(_ natlab: Natlab, _ text: String) throws -> Plan {
        try natlab.write("reference.toml", text)
        let output = try natlab.succeed("plan", "reference.toml", "--format", "json")
        return try JSONDecoder().decode(Plan.self, from: Data(output.utf8))
    }

    @Test func presetsAreTheirTables() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let names = try presets(natlab)
            let named = try plan(natlab, names.enumerated().map { router($1, "\"\($1)\"", $0) }.joined())
            let translated = named.nodes.filter { $0.translation != nil }
            let width = names.map(\.count).max() ?? 0
            let shown = translated.compactMap { node in
                node.translation.map { nat in
                    node.name + String(repeating: " ", count: width - node.name.count)
                        + " = \(nat.behaviour.table)" + (nat.engine == "masquerade" ? "  # MASQUERADE" : "")
                }
            }
            try compare(fenced(shown, as: "toml"), with: "presets")
            // Written out as a table it is the same behaviour.
            let tables = translated.enumerated().map { number, node in
                router(node.name, node.translation?.behaviour.table ?? "", number)
            }
            let written = try plan(natlab, tables.joined()).nodes.filter { $0.translation != nil }
            #expect(written.map(\.translation?.behaviour) == translated.map(\.translation?.behaviour))
            #expect(written.allSatisfy { $0.translation?.engine == "nftables" })
        }
    }

    @Test func theoryOfTheNine() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let nine = ["eim", "adm", "apdm"].flatMap { mapping in
                ["eif", "adf", "apdf"].map { "\(mapping)-\($0)" }
            }
            var text = "[host.hub]\non = \"internet\"\n[rendezvous]\nhost = \"hub\"\n"
            var members: [String] = []
            for side in ["a", "b"] {
                for name in nine {
                    text += router("n\(side)-\(name)", "\"\(name)\"", 1)
                    text += "[host.\(side)-\(name)]\non = \"n\(side)-\(name)\"\n"
                    members.append("\"\(side)-\(name)\"")
                }
            }
            let peers = nine.enumerated().flatMap { row, a in
                nine[row...].map { "[\"a-\(a)\", \"b-\($0)\"]" }
            }
            text +=
                "[wireguard.wg0]\nprefix = \"10.66.66.0/24\"\npeers = [\(peers.joined(separator: ", "))]\n"
            text += "members = [\(members.joined(separator: ", "))]\n"
            let pairs = try plan(natlab, text).pairs
            try #require(pairs.count == 45)
            var rows = ["              " + nine.indices.map { "\($0 + 1)" }.joined(separator: "  ")]
            for (row, a) in nine.enumerated() {
                let marks = nine.indices.map { column in
                    guard column >= row else { return " " }
                    let pair = pairs.first { $0.from == "a-\(a)" && $0.to == "b-\(nine[column])" }
                    return pair?.expected == "direct" ? "●" : "·"
                }
                rows.append(
                    "\(row + 1)  \(a)" + String(repeating: " ", count: 11 - a.count)
                        + marks.joined(separator: "  "))
            }
            let direct = pairs.count { $0.expected == "direct" }
            rows += ["", "● direct (\(direct))   · none (\(pairs.count - direct))"]
            try compare(fenced(rows), with: "nine")
        }
    }

    // MARK: With labs

    @Test func rulesAreThoseOfARouter() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let name = uniqueName("e2e")
            let text =
                "name = \"\(name)\"\n"
                + router("home", "\"masquerade\"", 1, with: "wan = [\"203.0.113.8\"]\n")
                + router("office", "\"eim-adf\"", 1, with: "wan = [\"203.0.113.9\"]\n")
            try natlab.write("\(name).toml", text)
            let lab = natlab.adopt(name)
            try lab.up()
            let shown = try [["iptables", "-t", "nat", "-S"], ["iptables", "-S"]].flatMap { command in
                let rules = try tool("ip", ["netns", "exec", lab.namespace("home")] + command)
                return ["# " + command.joined(separator: " ")] + lines(rules).filter { $0.hasPrefix("-A") }
            }
            try compare(fenced(shown), with: "masquerade")
            let listing = try tool(in: lab.namespace("office"), "nft", "list", "table", "ip", "natlab")
            let table = lines(listing.trimmed).map { line in
                line.replacing("\t", with: "    ").replacing(
                    #/ 1 : 203\.0\.113\.9 \. 2032-3039, .*, (63 : )/#, with: { " ..., " + $0.output.1 })
            }
            try compare(fenced(table), with: "eim-adf")
            try natlab.succeed("down", "--lab", name)
        }
    }

    /// ```
    ///   ───┬──────────┬───────── internet
    ///      │          │
    ///   masquerade  none  ...    a router of each name, nobody behind it
    /// ```
    ///
    /// Lifetimes of minutes are not waited for. How many of sixteen random ports happen to have a parity is chance, so
    /// only shares of all sixteen are in the cards.
    @Test func cardsAreMeasured() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let name = uniqueName("e2e")
            let names = try presets(natlab)
            let behaviours = try plan(natlab, names.enumerated().map { router($1, "\"\($1)\"", $0) }.joined())
            let routers = behaviours.nodes.filter { names.contains($0.name) }.enumerated().map {
                number, node in
                let behaviour = node.translation?.behaviour
                var words = ["preset = \"\(node.name)\""]
                if behaviour?.udp_timeout_s != nil { words.append("udp-timeout = \"300s\"") }
                // The measurement needs a good part of 64 ports, and where they run out it sees just that.
                if behaviour?.ports == "block" { words.append("block-size = 1024") }
                return router(node.name, "{ \(words.joined(separator: ", ")) }", number)
            }
            try natlab.write("\(name).toml", "name = \"\(name)\"\n" + routers.joined())
            let lab = natlab.adopt(name)
            try lab.up()
            let output = try natlab.succeed("nat", "--card", "--lab", name)
            var cards: [(names: [String], body: [String])] = []
            for part in output.trimmed.split(separator: "\n\n") {
                let all = lines(String(part))
                let router = try #require(all.first?.split(separator: " ").first.map(String.init))
                let body = all.dropFirst().filter { line in
                    !line.hasPrefix("udp timeout ")
                        && (!line.hasPrefix("port p") || line.contains("16 of 16"))
                }
                if let same = cards.firstIndex(where: { $0.body == body }) {
                    cards[same].names.append(router)
                } else {
                    cards.append(([router], body))
                }
            }
            #expect(cards.flatMap(\.names).sorted() == names.sorted())
            let text = cards.map { card in
                card.names.map { "`\($0)`" }.joined(separator: ", ") + ":\n\n" + fenced(card.body)
            }
            try compare(text.joined(separator: "\n"), with: "cards")
            try natlab.succeed("down", "--lab", name)
        }
    }
}
