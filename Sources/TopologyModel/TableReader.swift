// What all tables have in common: names, required keys, unknown keys.
extension TopologyReader {
    static let nameRule = "a name has 1 to 32 of a-z, 0-9 and -, and begins with a letter or a digit"

    static func isName(_ text: String) -> Bool {
        let bytes = text.utf8
        return (1...32).contains(bytes.count) && bytes.first != UInt8(ascii: "-")
            && bytes.allSatisfy {
                (0x30...0x39).contains($0) || (0x61...0x7A).contains($0) || $0 == UInt8(ascii: "-")
            }
    }

    /// What is wrong with the name of an interface; nil when nothing is.
    ///
    /// Source: dev_valid_name in the kernel's net/core/dev.c, IFNAMSIZ in linux/if.h; stricter, so that a name needs
    /// no quoting anywhere.
    static func interfaceProblem(_ name: String) -> String? {
        let bytes = name.utf8
        guard bytes.count <= 15 else { return "it has more than 15 characters" }
        guard let first = bytes.first, isLetter(first),
            bytes.allSatisfy({ isLetter($0) || (0x30...0x39).contains($0) || $0 == 0x2D || $0 == 0x5F })
        else { return "it must be letters, digits, - and _, and begin with a letter" }
        // `all` and `default` are directories beside the interfaces' in /proc/sys/net/ipv4/conf.
        return ["lo", "eth0", "all", "default"].contains(name) ? "the name is taken" : nil
    }

    private static func isLetter(_ byte: UInt8) -> Bool {
        (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
    }

    /// The name of the lab where the file gives none.
    func defaultName() -> String {
        let base = report.fileName.split(separator: "/").last.map(String.init) ?? ""
        let name = base.hasSuffix(".toml") ? String(base.dropLast(5)) : base
        if !Self.isName(name), !report.lostKeys {
            report.error(
                "the lab has no name, and the file's name is none", at: .fileStart,
                hint: "add: name = \"\(Self.suggestedName(name))\"")
        }
        return name
    }

    private static func suggestedName(_ text: String) -> String {
        let kept = text.lowercased().unicodeScalars.map { scalar in
            ("a"..."z").contains(scalar) || ("0"..."9").contains(scalar) ? Character(scalar) : "-"
        }
        let name = String(String(kept.prefix(32)).drop { $0 == "-" })
        return isName(name) ? name : "my-lab"
    }

    /// The sub-tables of `[segment.…]` and its like.
    func tables(in node: TOMLNode, kind: some StringProtocol) -> [TOMLNode] {
        let name = kind == "wireguard" || kind.hasSuffix(".wireguard") ? "wg0" : "NAME"
        return report.table(node, hint: "begin it with [\(kind).\(name)]") ?? []
    }

    /// The entries of a node's table, with its name checked.
    func nodeTable(_ node: TOMLNode, kind: String) -> (label: String, entries: [TOMLNode])? {
        if !Self.isName(node.key) {
            report.error("\"\(node.key)\" is not a name for a \(kind)", at: node.keySpan, hint: Self.nameRule)
        }
        guard let entries = report.table(node, hint: "begin it with [\(kind).\(node.key)]") else {
            return nil
        }
        return ("[\(kind).\(node.key)]", entries)
    }

    func unknown(_ entry: TOMLNode, in label: String?, valid: [String]) {
        report.error(
            "unknown key `\(entry.key)`" + (label.map { " in \($0)" } ?? ""), at: entry.keySpan,
            hint: report.didYouMean(entry.key, valid) ?? "the keys here are \(valid.joined(separator: ", "))")
    }

    func require(
        _ keys: [String], among valid: [String], of node: TOMLNode, _ entries: [TOMLNode], label: String
    ) {
        // A key that an error of syntax made unreadable is reported already.
        guard !report.lostKeys else { return }
        for key in keys where !entries.contains(where: { $0.key == key }) {
            // A near miss is reported as an unknown key, with this one as its mend.
            var spelling = Spelling()
            let isMisspelt = entries.contains {
                !valid.contains($0.key) && spelling.nearest(to: $0.key, among: valid) == key
            }
            guard !isMisspelt else { continue }
            report.error("\(label) has no `\(key)`", at: node.key.isEmpty ? node.span : node.keySpan)
        }
    }
}
