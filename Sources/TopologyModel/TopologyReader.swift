import NetAddress

/// Reads the tree into a draft: which keys there are and what type each has.
struct TopologyReader {
    let report: Reporter

    func read(_ root: [TOMLNode]) -> TopologyDraft {
        var draft = TopologyDraft()
        var name: Located<String>?
        var hasName = false
        for entry in root {
            switch entry.key {
            case "name":
                hasName = true
                name = report.string(entry)
            case "segment": draft.segments = tables(in: entry, kind: "segment").compactMap(segment)
            case "router": draft.routers = tables(in: entry, kind: "router").compactMap(router)
            case "host":
                let nodes = tables(in: entry, kind: "host")
                let real = nodes.filter { !isPhantom($0) }.map(\.key)
                draft.hosts = nodes.compactMap { host($0, others: real) }
            case "wireguard": draft.networks = tables(in: entry, kind: "wireguard").compactMap(network)
            case "rendezvous": draft.rendezvous = rendezvous(entry)
            case "expect": draft.expectations = expectations(entry)
            default:
                unknown(
                    entry, in: nil,
                    valid: ["name", "segment", "router", "host", "wireguard", "rendezvous", "expect"])
            }
        }
        if let name {
            if !Self.isName(name.value) {
                report.error("\"\(name.value)\" is not a name for a lab", at: name.span, hint: Self.nameRule)
            }
            draft.name = name.value
        } else if !hasName {
            draft.name = defaultName()
        }
        return draft
    }

    private func segment(_ node: TOMLNode) -> SegmentDraft? {
        guard let (label, entries) = nodeTable(node, kind: "segment") else { return nil }
        var draft = SegmentDraft(name: Located(node.key, node.keySpan))
        for entry in entries {
            switch entry.key {
            case "prefix": draft.prefix = report.hostNetwork(entry)
            case "link":
                report.error(
                    "a segment has no link of its own", at: entry.keySpan,
                    hint: "give the link to the hosts and routers on it")
            default: unknown(entry, in: label, valid: ["prefix"])
            }
        }
        require(["prefix"], among: ["prefix"], of: node, entries, label: label)
        return draft
    }

    private func router(_ node: TOMLNode) -> RouterDraft? {
        guard let (label, entries) = nodeTable(node, kind: "router") else { return nil }
        var draft = RouterDraft(name: Located(node.key, node.keySpan))
        let valid = ["uplink", "lan", "nat", "wan", "forward", "one-to-one", "link"]
        for entry in entries {
            switch entry.key {
            case "uplink": draft.uplink = report.string(entry, wants: "the name of a segment or router")
            case "lan": draft.lan = report.hostNetwork(entry)
            case "nat":
                draft.natSpan = entry.span
                if let nat = nat(entry) { draft.nat = nat } else { draft.natIsBroken = true }
                draft.forwards += forwards(inTable: entry, of: label)
            case "wan": draft.wan = wan(entry)
            case "forward": draft.forwards += forwards(entry, of: label)
            case "one-to-one": draft.oneToOne = oneToOne(entry)
            case "link": draft.link = link(entry, of: label)
            case let key where Self.natKeys.contains(key):
                report.error(
                    "`\(key)` belongs to the NAT of \(label)", at: entry.keySpan,
                    hint: "write it like nat = { \(key) = ... }")
            default: unknown(entry, in: label, valid: valid)
            }
        }
        require(["uplink", "lan"], among: valid, of: node, entries, label: label)
        return draft
    }

    /// Whether a host has nothing but overrides.
    private func isPhantom(_ node: TOMLNode) -> Bool {
        guard case .table(let entries) = node.value, !entries.isEmpty else { return false }
        return entries.allSatisfy { $0.key == "wireguard" || $0.key == "rendezvous" }
    }

    private func host(_ node: TOMLNode, others: [String]) -> HostDraft? {
        guard let (label, entries) = nodeTable(node, kind: "host") else { return nil }
        var draft = HostDraft(name: Located(node.key, node.keySpan))
        let valid = ["on", "address", "link", "wireguard", "rendezvous"]
        for entry in entries {
            switch entry.key {
            case "on": draft.attachment = report.string(entry, wants: "the name of a segment or router")
            case "address": draft.address = report.address(entry)
            case "wireguard":
                draft.overrides = tables(in: entry, kind: "host.\(node.key).wireguard").compactMap {
                    override($0, label: "[host.\(node.key).wireguard.\($0.key)]")
                }
            case "rendezvous": draft.client = client(entry, label: "[host.\(node.key).rendezvous]")
            case "link": draft.link = link(entry, of: label)
            default: unknown(entry, in: label, valid: valid)
            }
        }
        draft.isPhantom = isPhantom(node)
        if draft.isPhantom, !report.lostKeys {
            report.error(
                "unknown host `\(node.key)`: there are only overrides for it", at: node.keySpan,
                hint: report.didYouMean(node.key, others) ?? "add \(label) with an `on`")
        } else {
            require(["on"], among: valid, of: node, entries, label: label)
        }
        return draft
    }

    private func client(_ node: TOMLNode, label: String) -> ClientDraft? {
        guard let entries = report.table(node, hint: "begin it with \(label)") else { return nil }
        var draft = ClientDraft(span: node.keySpan)
        let valid = ["server-key", "endpoint", "start-delay"]
        for entry in entries {
            switch entry.key {
            case "server-key": draft.serverKey = report.publicKey(entry)
            case "endpoint": draft.endpoint = report.endpoint(entry).map { Located($0, entry.span) }
            case "start-delay": draft.startDelay = report.seconds(entry, upTo: 86_400)
            default: unknown(entry, in: label, valid: valid)
            }
        }
        if entries.isEmpty, !report.lostKeys {
            report.error(
                "\(label) is empty", at: node.keySpan,
                hint: "the keys here are \(valid.joined(separator: ", "))")
        }
        return draft
    }

    private func override(_ node: TOMLNode, label: String) -> OverrideDraft? {
        guard let entries = report.table(node) else { return nil }
        var draft = OverrideDraft(network: Located(node.key, node.keySpan))
        for entry in entries {
            switch entry.key {
            case "listen-port": draft.listenPort = report.port(entry, zeroIsAny: true)
            case "mtu": draft.mtu = report.mtu(entry)
            case "private-key-file": draft.privateKeyFile = report.path(entry)?.value
            case "table": draft.table = report.routeTable(entry)
            case "peer":
                draft.peers = tables(in: entry, kind: label.dropFirst().dropLast() + ".peer").compactMap {
                    peer($0, label: "\(label.dropLast()).peer.\($0.key)]")
                }
            default:
                unknown(entry, in: label, valid: ["listen-port", "mtu", "private-key-file", "table", "peer"])
            }
        }
        return draft
    }

    private func peer(_ node: TOMLNode, label: String) -> PeerDraft? {
        guard let entries = report.table(node) else { return nil }
        var draft = PeerDraft(peer: Located(node.key, node.keySpan))
        for entry in entries {
            switch entry.key {
            case "allowed-ips":
                draft.allowedIPs = report.array(entry, of: "prefixes")?.compactMap {
                    report.network($0, bareIsHost: true)
                }
            case "keepalive": draft.keepalive = report.keepalive(entry).map { Located($0, entry.span) }
            case "preshared-key-file": draft.presharedKeyFile = report.path(entry)
            case "endpoint": draft.endpoint = report.endpoint(entry).map { Located($0, entry.span) }
            default:
                unknown(
                    entry, in: label, valid: ["allowed-ips", "keepalive", "preshared-key-file", "endpoint"])
            }
        }
        return draft
    }

    private func network(_ node: TOMLNode) -> NetworkDraft? {
        let label = "[wireguard.\(node.key)]"
        guard let entries = report.table(node) else { return nil }
        if let problem = Self.interfaceProblem(node.key) {
            report.error(
                "\"\(node.key)\" is not a name for a WireGuard interface: \(problem)", at: node.keySpan,
                hint: "call it wg0")
        }
        var draft = NetworkDraft(name: Located(node.key, node.keySpan))
        let valid = ["prefix", "members", "peers", "listen-port", "backend", "mtu", "keepalive"]
        for entry in entries {
            switch entry.key {
            case "prefix": draft.prefix = report.hostNetwork(entry)
            case "members":
                let elements = report.array(entry, of: "host names")
                draft.members = elements?.compactMap { report.string($0, wants: "a host's name") } ?? []
                draft.membersAreBroken = draft.members.count != elements?.count
                if elements?.isEmpty == true { report.error("`members` is empty", at: entry.span) }
            case "peers": draft.peers = peers(entry)
            case "listen-port": draft.listenPort = report.port(entry, zeroIsAny: true)
            case "backend": draft.backend = report.word(entry, [.auto, .kernel, .userspace]) ?? .auto
            case "mtu": draft.mtu = report.mtu(entry)
            case "keepalive": draft.keepalive = report.keepalive(entry).map { Located($0, entry.span) }
            default: unknown(entry, in: label, valid: valid)
            }
        }
        if !entries.contains(where: { $0.key == "members" }) { draft.membersAreBroken = true }
        require(["prefix", "members"], among: valid, of: node, entries, label: label)
        return draft
    }

    private func peers(_ node: TOMLNode) -> NetworkDraft.Peers? {
        let hint = "\"mesh\", \"hub:NAME\" or pairs such as [[\"alpine1\", \"alpine2\"]]"
        switch node.value {
        case .string("mesh"): return .mesh
        case .string(let text) where text.hasPrefix("hub:"):
            return .hub(Located(String(text.dropFirst(4)), node.span))
        case .string(let text):
            report.error(
                "`peers` cannot be \"\(text)\"", at: node.span,
                hint: report.didYouMean(text, ["mesh", "hub:NAME"]) ?? "it is \(hint)")
            return nil
        case .array(let elements):
            if elements.isEmpty { report.error("`peers` is empty", at: node.span, hint: "it is \(hint)") }
            return .pairs(elements.compactMap(report.pair))
        default:
            report.wrongType(node, wants: hint)
            return nil
        }
    }

    private func rendezvous(_ node: TOMLNode) -> RendezvousDraft? {
        guard let entries = report.table(node) else { return nil }
        var draft = RendezvousDraft(span: node.keySpan)
        let valid = ["host", "port", "endpoint"]
        for entry in entries {
            switch entry.key {
            case "host": draft.host = report.string(entry, wants: "a host's name")
            case "port": draft.port = report.port(entry, zeroIsAny: false)
            case "endpoint": draft.endpoint = report.endpoint(entry).map { Located($0, entry.span) }
            default: unknown(entry, in: "[rendezvous]", valid: valid)
            }
        }
        require(["host"], among: valid, of: node, entries, label: "[rendezvous]")
        return draft
    }

    private func expectations(_ node: TOMLNode) -> [ExpectationDraft] {
        guard case .array(let elements) = node.value, elements.allSatisfy(\.isTable) else {
            report.wrongType(node, wants: "an array of tables", hint: "begin it with [[expect]]")
            return []
        }
        return elements.map { element in
            var draft = ExpectationDraft(span: element.span)
            guard let entries = report.table(element) else { return draft }
            for entry in entries {
                switch entry.key {
                case "between":
                    if case .string("*") = entry.value {
                        draft.between = Located(.others, entry.span)
                    } else {
                        draft.between = report.pair(entry).map { $0.map { .pair($0.0, $0.1) } }
                    }
                case "path":
                    draft.path = report.word(entry, [.direct, .none, .theory]).map {
                        Located($0, entry.span)
                    }
                default: unknown(entry, in: "[[expect]]", valid: ["between", "path"])
                }
            }
            require(
                ["between", "path"], among: ["between", "path"], of: element, entries, label: "[[expect]]")
            return draft
        }
    }
}
