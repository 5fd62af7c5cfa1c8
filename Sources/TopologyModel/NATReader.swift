import NetAddress

// `nat = "full-cone"`, `nat = { mapping = "address-dependent", udp-timeout = "30s" }`, and the translations that stand
// beside it: `forward`, `one-to-one`, `wan`.
extension TopologyReader {
    static let natKeys = [
        "preset", "mapping", "filtering", "ports", "hairpin", "udp", "udp-timeout", "pooling", "block-size",
        "forward",
    ]

    /// Nil when something is wrong with it.
    func nat(_ node: TOMLNode) -> Topology.NAT? {
        guard node.isTable else { return preset(node, orTable: true)?.nat }
        guard let entries = report.table(node) else { return nil }
        var base: NATPreset?
        if let name = entries.first(where: { $0.key == "preset" }) {
            base = preset(name, orTable: false)
            if base == nil { return nil }
        }
        return behaviour(node, entries, from: base)
    }

    private func preset(_ node: TOMLNode, orTable: Bool) -> NATPreset? {
        let wants =
            "the name of a NAT such as \"masquerade\""
            + (orTable ? ", or a table such as { mapping = \"endpoint-independent\" }" : "")
        guard let text = report.string(node, wants: wants) else { return nil }
        guard let preset = NATPreset.named(text.value) else {
            let names = NATPreset.all.map(\.name)
            report.error(
                "unknown NAT \"\(text.value)\"", at: node.span,
                hint: report.didYouMean(text.value, names) ?? "there are \(names.joined(separator: ", "))")
            return nil
        }
        return preset
    }

    private func behaviour(_ node: TOMLNode, _ entries: [TOMLNode], from preset: NATPreset?) -> Topology.NAT?
    {
        let before = report.errorCount
        var mapping: NATDependence?
        var filtering: NATDependence?
        var ports: NATPorts?
        var result = preset?.nat.behaviour ?? NATBehaviour()
        for entry in entries {
            switch entry.key {
            case "preset", "forward": break
            case "mapping": mapping = report.word(entry, NATDependence.allCases)
            case "filtering": filtering = report.word(entry, NATDependence.allCases)
            case "ports": ports = report.word(entry, NATPorts.allCases)
            case "hairpin": result.hairpin = report.boolean(entry) ?? false
            case "udp": result.udp = report.word(entry, NATUDP.allCases) ?? .forward
            case "udp-timeout": result.udpTimeout = report.seconds(entry, upTo: 86_400)
            case "pooling": result.pooling = report.word(entry, NATPooling.allCases) ?? .paired
            case "block-size":
                result.blockSize = report.integer(entry, in: 1...32_768).map { Int($0.value) } ?? 1
            default: unknown(entry, in: "the table of `nat`", valid: Self.natKeys)
            }
        }
        if let mapping {
            result.mapping = mapping
            // A preset's ports go with its mapping.
            result.ports = NATBehaviour.usualPorts(mapping)
        }
        result.filtering = filtering ?? result.filtering
        result.ports = ports ?? result.ports
        guard report.errorCount == before else { return nil }
        check(result, node, entries, preset)
        guard report.errorCount == before else { return nil }
        if let preset, !preset.nat.translates { return preset.nat }
        return Topology.NAT(
            name: preset?.name ?? result.shortName, engine: preset?.nat.engine ?? .nftables, behaviour: result
        )
    }

    /// What goes together, and what a preset leaves open.
    private func check(
        _ behaviour: NATBehaviour, _ node: TOMLNode, _ entries: [TOMLNode], _ preset: NATPreset?
    ) {
        if entries.isEmpty {
            report.error(
                "the table of `nat` is empty", at: node.span,
                hint: "the keys here are \(Self.natKeys.joined(separator: ", "))")
        }
        let open: [String] =
            switch preset?.nat.engine {
            case .routing: ["preset"]
            case .masquerade: ["preset", "udp", "udp-timeout", "forward"]
            case .nftables, nil: Self.natKeys
            }
        for entry in entries where !open.contains(entry.key) {
            let name = preset?.name ?? ""
            report.error(
                preset?.nat.engine == .routing
                    ? "the NAT \"\(name)\" translates nothing, so it has no `\(entry.key)`"
                    : "`\(entry.key)` cannot be changed for \"\(name)\", which is Linux's MASQUERADE",
                at: entry.keySpan, hint: "leave `preset` out and describe the whole behaviour")
        }
        if let size = entries.first(where: { $0.key == "block-size" }), behaviour.ports != .block {
            report.error(
                "`block-size` has an effect only with ports = \"block\"", at: size.keySpan,
                hint: "add ports = \"block\", or leave it out")
        }
    }

    /// `wan = ["203.0.113.20", "203.0.113.21"]`: the first is the router's own.
    func wan(_ node: TOMLNode) -> [Located<IPAddress>] {
        var hint: String?
        if case .string(let text) = node.value { hint = "did you mean [\"\(text)\"]?" }
        guard let elements = report.array(node, of: "addresses", hint: hint) else { return [] }
        if elements.isEmpty {
            report.error("`wan` is empty", at: node.span, hint: "leave it out to have an address chosen")
        } else if elements.count > TopologyChecker.mostWANAddresses {
            report.error(
                "`wan` has \(elements.count) addresses; a router has at most \(TopologyChecker.mostWANAddresses)",
                at: node.span)
        }
        return elements.compactMap(report.address)
    }

    /// The forwards in the table of `nat`, where they mean the same as beside it.
    func forwards(inTable node: TOMLNode, of label: String) -> [ForwardDraft] {
        guard case .table(let entries) = node.value else { return [] }
        return entries.filter { $0.key == "forward" }.flatMap { forwards($0, of: label) }
    }

    /// The ports that lead to hosts: `forward = [{ port = 51820, to = "alpine1" }]`.
    func forwards(_ node: TOMLNode, of label: String) -> [ForwardDraft] {
        let hint = "write it like forward = [{ port = 51820, to = \"alpine1\" }]"
        guard case .array(let elements) = node.value, elements.allSatisfy(\.isTable) else {
            report.wrongType(node, wants: "an array of tables", hint: hint)
            return []
        }
        let valid = ["port", "to", "to-port", "protocol", "address"]
        return elements.map { element in
            var draft = ForwardDraft(span: element.span)
            guard let entries = report.table(element) else { return draft }
            for entry in entries {
                switch entry.key {
                case "port": draft.port = report.port(entry, zeroIsAny: false)
                case "to": draft.host = report.string(entry, wants: "a host's name")
                case "to-port": draft.innerPort = report.port(entry, zeroIsAny: false)
                case "protocol": draft.transport = report.word(entry, Topology.Transport.allCases) ?? .udp
                case "address": draft.address = report.address(entry)
                default: unknown(entry, in: "a `forward` of \(label)", valid: valid)
                }
            }
            require(["port", "to"], among: valid, of: element, entries, label: "the `forward`")
            return draft
        }
    }

    /// The hosts with addresses of their own: `one-to-one = { alpine1 = "203.0.113.21" }`.
    func oneToOne(_ node: TOMLNode) -> [OneToOneDraft] {
        let hint = "write it like one-to-one = { alpine1 = \"203.0.113.21\" }"
        guard let entries = report.table(node, hint: hint) else { return [] }
        if entries.isEmpty { report.error("`one-to-one` is empty", at: node.span, hint: hint) }
        return entries.compactMap { entry in
            report.address(entry).map {
                OneToOneDraft(host: Located(entry.key, entry.keySpan), address: $0)
            }
        }
    }
}
