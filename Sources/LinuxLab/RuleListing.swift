/// Rules by their handles, read from what `NetworkNamespace.nftRules` lists.
package struct RuleListing: Sendable {
    /// A chain of a table.
    private struct Place: Hashable {
        /// As nft(8) calls it: "ip", "inet", "bridge".
        var family: String
        var table: String
        var chain: String
    }

    private var rules: [Place: [UInt64: String]] = [:]
    private var hooks: [Place: String] = [:]

    package init(_ listing: String = "") {
        var table: (family: String, name: String)?
        var place: Place?
        for line in listing.split(separator: "\n") {
            let words = line.split { $0 == " " || $0 == "\t" }
            switch words.first {
            case "table" where words.count > 2: table = (String(words[1]), Self.unquoted(words[2]))
            case "chain" where words.count > 2 && words[2] == "{":
                place = table.map {
                    Place(family: $0.family, table: $0.name, chain: Self.unquoted(words[1]))
                }
            case "}": place = nil
            // "type filter hook input priority filter; policy accept;" has no handle, as a rule has.
            case "type":
                guard let place, let hook = words.firstIndex(of: "hook"), hook + 1 < words.count else {
                    continue
                }
                hooks[place] = String(words[hook + 1])
            default:
                guard let place, let (handle, text) = Self.rule(line) else { continue }
                rules[place, default: [:]][handle] = text
            }
        }
    }

    /// The rule in nft's words, without what it counts; nil where the listing has none of this handle.
    package func rule(family: String, table: String, chain: String, handle: UInt64) -> String? {
        rules[Place(family: family, table: table, chain: chain)]?[handle]
    }

    /// "input", "forward", ...; nil for a chain that others jump to, or that the listing does not have.
    package func hook(family: String, table: String, chain: String) -> String? {
        hooks[Place(family: family, table: table, chain: chain)]
    }

    /// Whether a rule tells the sender of what it drops ("reject with icmp admin-prohibited").
    package static func rejects(_ rule: String) -> Bool {
        let parts = rule.split(separator: "\"", omittingEmptySubsequences: false)
        let own = parts.enumerated().filter { $0.offset.isMultiple(of: 2) }
        return own.contains { part in
            part.element.split(separator: " ").contains { $0 == "reject" || $0 == "REJECT" }
        }
    }

    /// "udp dport 99 counter drop # handle 2": the handle, and what comes before it.
    private static func rule(_ line: Substring) -> (UInt64, String)? {
        guard let mark = line.ranges(of: " # handle ").last, let handle = UInt64(line[mark.upperBound...])
        else { return nil }
        // In quotes stands what the user has written: a comment, a name, a prefix for the log.
        let parts = line[..<mark.lowerBound].split(separator: "\"", omittingEmptySubsequences: false)
        let text = parts.enumerated().map { number, part in
            number.isMultiple(of: 2) ? withoutCounters(part) : String(part)
        }
        let whole = text.joined(separator: "\"")
        let isBlank: (Character) -> Bool = { $0 == " " || $0 == "\t" }
        let trimmed = whole.drop(while: isBlank).reversed().drop(while: isBlank).reversed()
        return (handle, String(trimmed))
    }

    /// One space between two words, and no "counter" with what it has counted ("counter name NAME" says which: it stays).
    private static func withoutCounters(_ part: Substring) -> String {
        var words = part.split { $0 == " " || $0 == "\t" }
        while let place = words.indices.first(where: {
            words[$0] == "counter" && words.dropFirst($0 + 1).first != "name"
        }) {
            // "counter packets 3 bytes 444"
            let hasCounted = words.dropFirst(place + 1).first == "packets"
            words.removeSubrange(place..<min(words.count, place + (hasCounted ? 5 : 1)))
        }
        let (before, after) = (part.first == " " ? " " : "", part.last == " " ? " " : "")
        return words.isEmpty ? before : before + words.joined(separator: " ") + after
    }

    private static func unquoted(_ word: Substring) -> String { String(word.filter { $0 != "\"" }) }
}
