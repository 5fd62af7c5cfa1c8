import NetAddress

/// A segment, router or host, by its index in the draft.
enum NodeReference: Hashable {
    case segment(Int)
    case router(Int)
    case host(Int)
}

/// Resolves a draft's names and checks what the parts say of each other.
struct TopologyChecker {
    var draft: TopologyDraft
    let report: Reporter
    var nodes: [String: NodeReference] = [:]
    /// By router and by host; nil where the name does not resolve.
    var uplinks: [NodeReference?] = []
    var attachments: [NodeReference?] = []
    /// Routers that no chain of uplinks connects with a segment.
    var loops: Set<Int> = []
    var networks: [ResolvedNetwork] = []
    /// By host index: the networks it is a member of, with its index there, in the order of the file.
    var memberships: [Int: [(network: Int, member: Int)]] = [:]

    init(_ draft: TopologyDraft, report: Reporter) {
        self.draft = draft
        self.report = report
    }

    /// Nil when there is an error.
    mutating func check() -> Topology? {
        collectNames()
        guard !draft.segments.isEmpty || !draft.routers.isEmpty || !draft.hosts.isEmpty || report.hasErrors
        else {
            report.error(
                "the file describes no host, router or segment", at: .fileStart,
                hint: "`natlab init quickstart` writes one to begin with")
            return nil
        }
        resolveUplinks()
        findLoops()
        checkLinks()
        checkOverlaps()
        checkTranslations()
        resolveNetworks()
        checkNetworks()
        checkOverrides()
        checkRendezvous()
        checkClients()
        checkExpectations()
        checkRoutes()
        warnOfTunnels()
        warnOfMembers()
        return report.hasErrors ? nil : topology()
    }

    // MARK: Names

    private mutating func collectNames() {
        var seen: [String: SourceSpan] = [:]
        func add(_ name: Located<String>, _ node: NodeReference) {
            if let first = seen[name.value] {
                report.error(
                    "the name `\(name.value)` is taken: hosts, routers and segments share one name space",
                    at: name.span, notes: [.init("first defined here", at: first)])
            } else {
                seen[name.value] = name.span
                nodes[name.value] = node
            }
        }
        addDefaultSegment()
        var named: [(Located<String>, NodeReference)] = []
        named += draft.segments.indices.filter { !draft.segments[$0].isDefault }
            .map { (draft.segments[$0].name, .segment($0)) }
        named += draft.routers.indices.map { (draft.routers[$0].name, .router($0)) }
        named += draft.hosts.indices.map { (draft.hosts[$0].name, .host($0)) }
        for (name, node) in named.sorted(by: { $0.0.span.start < $1.0.span.start }) { add(name, node) }
        if draft.segments.first?.isDefault == true { nodes["internet", default: .segment(0)] = .segment(0) }
    }

    /// `internet` exists by default: where the file refers to it, or has no segment at all, and does not define it.
    private mutating func addDefaultSegment() {
        let name = "internet"
        let references =
            draft.routers.compactMap(\.uplink?.value) + draft.hosts.compactMap(\.attachment?.value)
        guard references.contains(name) || (draft.segments.isEmpty && !references.isEmpty),
            !(draft.segments.map(\.name) + draft.routers.map(\.name) + draft.hosts.map(\.name))
                .contains(where: { $0.value == name })
        else { return }
        let prefix = IPPrefix("203.0.113.0/24").map { Located($0, .fileStart) }
        let segment = SegmentDraft(name: Located(name, .fileStart), prefix: prefix, isDefault: true)
        draft.segments.insert(segment, at: 0)
    }

    /// "alpine1 is a host" for a name that exists but is of the wrong kind.
    func kind(_ node: NodeReference) -> String {
        switch node {
        case .segment: "a segment"
        case .router: "a router"
        case .host: "a host"
        }
    }

    func name(_ node: NodeReference) -> String {
        switch node {
        case .segment(let index): draft.segments[index].name.value
        case .router(let index): draft.routers[index].name.value
        case .host(let index): draft.hosts[index].name.value
        }
    }

    /// The host of that name; reports where there is none.
    func host(_ name: Located<String>) -> Int? {
        switch nodes[name.value] {
        case .host(let index): return index
        case .some(let other):
            report.error("`\(name.value)` is \(kind(other)), not a host", at: name.span)
        case nil where !report.lostTables:
            report.error(
                "unknown host `\(name.value)`", at: name.span,
                hint: report.didYouMean(name.value, draft.hosts.lazy.map(\.name.value)))
        case nil: break
        }
        return nil
    }

    // MARK: Uplinks

    private mutating func resolveUplinks() {
        uplinks = draft.routers.map { $0.uplink.flatMap { attachment($0, of: "a router's uplink") } }
        attachments = draft.hosts.map { $0.attachment.flatMap { attachment($0, of: "a host's `on`") } }
    }

    private func attachment(_ name: Located<String>, of what: String) -> NodeReference? {
        switch nodes[name.value] {
        case .host: report.error("`\(name.value)` is a host; \(what) is a segment or a router", at: name.span)
        case .some(let node): return node
        case nil where !report.lostTables:
            let candidates = draft.segments.map(\.name.value) + draft.routers.map(\.name.value) + ["internet"]
            report.error(
                "unknown segment or router `\(name.value)`", at: name.span,
                hint: report.didYouMean(name.value, candidates))
        case nil: break
        }
        return nil
    }

    private mutating func findLoops() {
        enum Mark { case new, open, done }
        var marks = [Mark](repeating: .new, count: draft.routers.count)
        for start in draft.routers.indices where marks[start] == .new {
            var path: [Int] = []
            var at = start
            while marks[at] == .new {
                marks[at] = .open
                path.append(at)
                guard case .router(let next) = uplinks[at] else { break }
                at = next
            }
            if marks[at] == .open, let entry = path.firstIndex(of: at), case .router = uplinks[at] {
                let loop = path[entry...]
                if case .router(let next) = uplinks[path[path.count - 1]], next == at {
                    reportLoop(Array(loop))
                }
            }
            // What hangs below a loop has no way out either.
            if case .router(let next) = uplinks[path[path.count - 1]],
                marks[next] == .open || loops.contains(next)
            {
                loops.formUnion(path)
            }
            for router in path { marks[router] = .done }
        }
    }

    private func reportLoop(_ loop: [Int]) {
        // Named from the router that the file has first.
        let first = loop.indices.min {
            draft.routers[loop[$0]].name.span.start < draft.routers[loop[$1]].name.span.start
        }
        let order = loop[(first ?? 0)...] + loop[..<(first ?? 0)]
        let names = order.map { draft.routers[$0].name.value }
        guard let top = order.first, let uplink = draft.routers[top].uplink else { return }
        let message =
            names.count == 1
            ? "`\(names[0])` is its own uplink"
            : "the uplinks go round in a loop: \((names + names.prefix(1)).joined(separator: " -> "))"
        report.error(
            message, at: uplink.span, hint: "a chain of uplinks ends at a segment",
            notes: order.dropFirst().prefix(8).compactMap { index in
                draft.routers[index].uplink.map {
                    .init("the uplink of `\(draft.routers[index].name.value)`", at: $0.span)
                }
            })
    }

    /// Where packets to the node go next and next, up to a segment; the node itself not included.
    func chain(from start: NodeReference) -> [NodeReference] {
        var chain: [NodeReference] = []
        var next: NodeReference?
        switch start {
        case .segment: next = nil
        case .router(let index): next = uplinks[index]
        case .host(let index): next = attachments[index]
        }
        while let node = next {
            chain.append(node)
            guard case .router(let index) = node, !loops.contains(index) else { break }
            next = uplinks[index]
        }
        return chain
    }

    /// The prefix that hosts attached to the node have addresses in.
    func prefix(of node: NodeReference) -> Located<IPPrefix>? {
        switch node {
        case .segment(let index): draft.segments[index].prefix
        case .router(let index): draft.routers[index].lan
        case .host: nil
        }
    }

    /// "the LAN of home-a", "the segment internet".
    func networkName(of node: NodeReference) -> String {
        if case .segment = node { "segment `\(name(node))`" } else { "the LAN of `\(name(node))`" }
    }

    /// The place of a prefix as a note; none for the default segment, which is in no file.
    func prefixNote(of node: NodeReference) -> [Diagnostic.Note] {
        if case .segment(let index) = node, draft.segments[index].isDefault { return [] }
        guard let prefix = prefix(of: node) else { return [] }
        return [.init("\(prefix.value) is \(networkName(of: node))", at: prefix.span)]
    }
}
