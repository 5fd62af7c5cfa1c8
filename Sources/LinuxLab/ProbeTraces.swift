package import NetAddress
package import SystemCalls

/// What a measurement has left in the maps and sets of a router's table `natlab`.
package struct ProbeTraces: Sendable {
    /// Of the measurement's hosts, on both sides.
    private let addresses: Set<IPAddress>
    /// External endpoints that its mappings had.
    private let external: Set<Endpoint>
    /// The router's external addresses: `inside0`, `used0` and `owner0` are of the first.
    private let pool: [IPAddress]

    package init(addresses: Set<IPAddress>, external: Set<Endpoint>, pool: [IPAddress]) {
        self.addresses = addresses
        self.external = external
        self.pool = pool
    }

    /// An entry that runs out between looking and deleting makes the whole transaction fail.
    private static let attempts = 5

    /// Takes the measurement's entries out; how many there were.
    ///
    /// In one transaction: each waits some milliseconds for all readers in the kernel.
    package func remove(from network: NetworkNamespace) throws(OperationFailure) -> Int {
        var attempt = 1
        while true {
            let found = keys(in: try network.nft("list table ip natlab"))
            guard !found.isEmpty else { return 0 }
            let commands = found.map { set, keys in
                "delete element ip natlab \(set) { \(keys.joined(separator: ", ")) }"
            }
            do throws(OperationFailure) {
                try network.nft(commands.joined(separator: "\n"))
                return found.reduce(0) { $0 + $1.keys.count }
            } catch {
                guard error.detail?.contains("No such file") == true, attempt < Self.attempts else {
                    throw error
                }
                attempt += 1
            }
        }
    }

    /// By set: the keys of the measurement's entries.
    package func keys(in listing: String) -> [(set: String, keys: [String])] {
        let sets = Self.sets(in: listing)
        let ports = mappings(in: sets)
        return sets.compactMap { set in
            let keys = set.entries.filter { isOwn($0, of: set, ports) }.map {
                $0.key.joined(separator: " . ")
            }
            return keys.isEmpty ? nil : (set.name, keys)
        }
    }

    // MARK: Whose an entry is

    /// The external endpoints of the measurement's mappings: those that it knows of, and those whose entries name its hosts.
    private func mappings(in sets: [ListedSet]) -> Set<Endpoint> {
        var found = external
        for set in sets {
            for entry in set.entries where entry.names(addresses) {
                if let endpoint = mapping(entry, of: set) { found.insert(endpoint) }
            }
        }
        return found
    }

    private func isOwn(_ entry: ListedSet.Entry, of set: ListedSet, _ mappings: Set<Endpoint>) -> Bool {
        guard let endpoint = mapping(entry, of: set) else { return false }
        return mappings.contains(endpoint) || entry.names(addresses)
    }

    /// The external endpoint that an entry is about; nil for sets that have no mappings.
    private func mapping(_ entry: ListedSet.Entry, of set: ListedSet) -> Endpoint? {
        switch set.name {
        case "outside": return entry.value.count == 2 ? Endpoint(entry.value.joined(separator: ":")) : nil
        case "seen": return Endpoint(entry.key.prefix(2).joined(separator: ":"))
        default:
            for kind in ["inside", "used", "owner"] where set.name.hasPrefix(kind) {
                guard let index = Int(set.name.dropFirst(kind.utf8.count)), pool.indices.contains(index),
                    let port = entry.key.first.flatMap({ UInt16($0) })
                else { return nil }
                return Endpoint(pool[index], port: port)
            }
            return nil
        }
    }

    // MARK: Reading nft's listing

    private struct ListedSet {
        struct Entry {
            var key: [String]
            /// Empty in a set.
            var value: [String]

            func names(_ addresses: Set<IPAddress>) -> Bool {
                (key + value).contains { IPAddress($0).map(addresses.contains) ?? false }
            }
        }
        var name: String
        var entries: [Entry]
    }

    // nft(8) lists "elements = { KEY timeout 5m expires 4m : VALUE, ... }" over several lines.
    private static func sets(in listing: String) -> [ListedSet] {
        var result: [ListedSet] = []
        var name: String?
        var text: String?
        for line in listing.split(separator: "\n") {
            let words = line.split { $0 == " " || $0 == "\t" }
            if words.count == 3, words[0] == "map" || words[0] == "set", words[2] == "{" {
                name = String(words[1])
            }
            if words.first == "chain" { name = nil }
            guard let set = name else { continue }
            if text == nil, words.first == "elements" { text = "" }
            text? += words.joined(separator: " ") + " "
            if let whole = text, line.contains("}") {
                result.append(ListedSet(name: set, entries: entries(in: whole)))
                text = nil
            }
        }
        return result
    }

    private static func entries(in text: String) -> [ListedSet.Entry] {
        guard let start = text.firstIndex(of: "{"), let end = text.lastIndex(of: "}") else { return [] }
        return text[text.index(after: start)..<end].split(separator: ",").map { entry in
            let words = entry.split(separator: " ")
            let colon = words.firstIndex(of: ":") ?? words.endIndex
            let key = words[..<colon].prefix { $0 != "timeout" && $0 != "expires" }
            let value = words[colon...].dropFirst()
            func parts(_ words: ArraySlice<Substring>) -> [String] {
                words.filter { $0 != "." }.map(String.init)
            }
            return ListedSet.Entry(key: parts(key), value: parts(value))
        }
    }
}
