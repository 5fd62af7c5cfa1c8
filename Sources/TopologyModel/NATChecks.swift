import NetAddress

// What a router translates beside its NAT's own mappings, and whether its NAT can.
extension TopologyChecker {
    /// Each costs a chain of rules; no home and no small carrier has more.
    static let mostWANAddresses = 16

    /// Ports that NATs give out: those from 1024 on (RFC 4787 REQ-3a keeps the ranges apart).
    private static let dynamicPorts = 65_536 - 1024

    func checkTranslations() {
        for index in draft.routers.indices where !draft.routers[index].natIsBroken {
            checkAddresses(index)
            checkForwards(index)
            checkOneToOne(index)
            checkBlocks(index)
        }
    }

    private func checkAddresses(_ index: Int) {
        let router = draft.routers[index]
        guard router.wan.count > 1, router.nat.engine != .nftables else { return }
        report.error(
            router.nat.translates
                ? "\"\(router.nat.name)\" is Linux's MASQUERADE, which uses one WAN address"
                : "`\(router.name.value)` translates nothing, so it has one WAN address",
            at: router.wan[1].span,
            hint: router.nat.translates
                ? "describe the NAT by a table, as in nat = { mapping = \"endpoint-independent\" }"
                : "give one, as in [\"\(router.wan[0].value)\"]")
    }

    private func checkForwards(_ index: Int) {
        let router = draft.routers[index]
        var taken: [String: SourceSpan] = [:]
        for forward in router.forwards {
            guard let port = forward.port else { continue }
            if !router.nat.translates {
                reportNoTranslation(router, "`forward`", at: forward.span)
            } else if forward.transport == .udp, router.nat.behaviour?.udp != .forward {
                report.error(
                    "`\(router.name.value)` lets no UDP through, so a `forward` of it does nothing",
                    at: forward.span,
                    hint: "take it out, or give the router another NAT")
            }
            let address = forward.address?.value ?? router.wan.first?.value
            if let given = forward.address, !router.wan.contains(where: { $0.value == given.value }) {
                let own = router.oneToOne.first { $0.address.value == given.value }
                report.error(
                    own.map { "\(given.value) leads to `\($0.host.value)` already" }
                        ?? "\(given.value) is not a WAN address of `\(router.name.value)`", at: given.span,
                    hint: own == nil ? "add it to `wan`, or leave `address` out" : "leave the forward out")
            }
            let key = "\(forward.transport) \(address.map(\.description) ?? "") \(port.value)"
            if let first = taken[key] {
                report.error(
                    "\(forward.transport.rawValue.uppercased()) port \(port.value) of `\(router.name.value)` is "
                        + "forwarded already", at: port.span,
                    notes: [.init("first forwarded here", at: first)])
            } else {
                taken[key] = port.span
            }
            if let host = forward.host { checkIsInside(host, of: index) }
        }
    }

    private func checkOneToOne(_ index: Int) {
        let router = draft.routers[index]
        for entry in router.oneToOne {
            guard router.nat.translates else {
                reportNoTranslation(router, "`one-to-one`", at: entry.host.span)
                continue
            }
            checkIsInside(entry.host, of: index)
        }
    }

    private func reportNoTranslation(_ router: RouterDraft, _ what: String, at span: SourceSpan) {
        report.error(
            "`\(router.name.value)` translates nothing, so \(what) has no place there", at: span,
            hint: "give it a NAT, as in nat = \"masquerade\"")
    }

    /// The host has to be one whose own address the router sees.
    private func checkIsInside(_ name: Located<String>, of router: Int) {
        guard let host = host(name), attachments[host] != nil else { return }
        let way = chain(from: .host(host))
        guard let end = way.firstIndex(of: .router(router)) else {
            report.error(
                "`\(name.value)` is not behind `\(draft.routers[router].name.value)`", at: name.span,
                hint: "name a host on its LAN")
            return
        }
        let between = way[..<end].compactMap { node -> String? in
            guard case .router(let index) = node, draft.routers[index].nat.translates else { return nil }
            return draft.routers[index].name.value
        }
        if let nat = between.last {
            report.error(
                "`\(name.value)` is behind the NAT of `\(nat)`, so `\(draft.routers[router].name.value)` does not see it",
                at: name.span, hint: "translate it at `\(nat)`")
        }
    }

    /// Room for a block of ports for each known host, and for the spare ones.
    private func checkBlocks(_ index: Int) {
        let router = draft.routers[index]
        guard let behaviour = router.nat.behaviour, behaviour.ports == .block, let span = router.natSpan
        else {
            return
        }
        let inside = insideAddresses(of: .router(index))
        let addresses = max(1, router.wan.count)
        // Paired hosts share the addresses out; else each has a block at each.
        let known = behaviour.pooling == .paired ? (inside + addresses - 1) / addresses : inside
        let perAddress = known + NATBehaviour.spareBlocks
        guard perAddress * behaviour.blockSize <= Self.dynamicPorts else {
            report.error(
                "\(perAddress) blocks of \(behaviour.blockSize) ports do not fit into the \(Self.dynamicPorts) of an address",
                at: span, hint: "make `block-size` smaller, or give the router more WAN addresses")
            return
        }
        // What a host's block gives out cannot be somebody's for ever.
        let blocks = 1024..<1024 + perAddress * behaviour.blockSize
        for forward in router.forwards where forward.transport == .udp {
            guard let port = forward.port, blocks.contains(Int(port.value)) else { continue }
            report.error(
                "port \(port.value) lies in the blocks of ports that `\(router.name.value)` gives out, "
                    + "\(blocks.lowerBound) to \(blocks.upperBound - 1)", at: port.span,
                hint: "forward another one, or make `block-size` smaller")
        }
    }

    /// How many addresses the router sees on its LAN side.
    private func insideAddresses(of node: NodeReference) -> Int {
        let hosts = attachments.count { $0 == node }
        let routers = draft.routers.indices.filter { uplinks[$0] == node && !loops.contains($0) }
        return hosts
            + routers.reduce(0) { sum, index in
                let router = draft.routers[index]
                return sum + max(1, router.wan.count) + router.oneToOne.count
                    + (router.nat.translates ? 0 : insideAddresses(of: .router(index)))
            }
    }
}
