import NetAddress

// Addresses on one link, and prefixes that must not overlap.
extension TopologyChecker {
    /// Each segment and LAN: the addresses asked for, and room for the others.
    func checkLinks() {
        struct Wish {
            var name: String
            var address: Located<IPAddress>?
        }
        var wishes: [NodeReference: [Wish]] = [:]
        for (index, router) in draft.routers.enumerated() {
            guard let uplink = uplinks[index] else { continue }
            let name = router.name.value
            wishes[uplink, default: []].append(Wish(name: name, address: router.wan.first))
            let further = router.wan.dropFirst() + router.oneToOne.map(\.address)
            wishes[uplink, default: []] += further.map { Wish(name: name, address: $0) }
        }
        for (index, host) in draft.hosts.enumerated() {
            guard let attachment = attachments[index] else { continue }
            wishes[attachment, default: []].append(Wish(name: host.name.value, address: host.address))
        }
        for (node, wishes) in wishes {
            guard let prefix = prefix(of: node) else { continue }
            let room = prefix.value.hostCount - 1
            if wishes.count > room {
                report.error(
                    "\(prefix.value) has room for \(room) beside the gateway, but \(wishes.count) are attached to "
                        + "`\(name(node))`", at: prefix.span, hint: "give it a larger prefix")
            }
            var taken: [IPAddress: Located<String>] = [:]
            let asked = wishes.compactMap { wish in wish.address.map { ($0, wish.name) } }
                .sorted { $0.0.span.start < $1.0.span.start }
            for (address, owner) in asked {
                if let problem = problem(of: address.value, in: prefix.value, gatewayOf: node) {
                    report.error(problem, at: address.span, notes: prefixNote(of: node))
                } else if let other = taken[address.value] {
                    report.error(
                        "\(address.value) is already the address of `\(other.value)`", at: address.span,
                        notes: [.init("first given here", at: other.span)])
                } else {
                    taken[address.value] = Located(owner, address.span)
                }
            }
        }
    }

    private func problem(of address: IPAddress, in prefix: IPPrefix, gatewayOf node: NodeReference) -> String?
    {
        guard prefix.contains(address) else {
            return "\(address) is not in \(prefix), which is \(networkName(of: node))"
        }
        return switch address {
        case prefix.address: "\(address) is the network address of \(prefix)"
        case prefix.lastAddress: "\(address) is the broadcast address of \(prefix)"
        case prefix.host(1): "\(address) is the gateway of \(networkName(of: node))"
        default: nil
        }
    }

    /// Looks for prefixes that overlap.
    ///
    /// It is an error between segments, between a LAN and its own chain of uplinks, and between LANs that are
    /// routed (nat "none") in one domain. Two homes on the same 192.168.1.0/24 are the commonest case there is.
    func checkOverlaps() {
        let segments = draft.segments.indices.map { NodeReference.segment($0) }
        for (node, other) in overlaps(among: segments) { reportOverlap(node, other, why: "") }

        for index in draft.routers.indices where !loops.contains(index) {
            let node = NodeReference.router(index)
            guard let lan = draft.routers[index].lan else { continue }
            let overlapped = chain(from: node).first { prefix(of: $0)?.value.overlaps(lan.value) == true }
            if let overlapped { reportOverlap(node, overlapped, why: ", which is above it") }
        }

        // A domain is what one router's or segment's routes must tell apart.
        var domains: [NodeReference?: [NodeReference]] = [nil: segments]
        for index in draft.routers.indices where draft.routers[index].nat == .none && !loops.contains(index) {
            let node = NodeReference.router(index)
            guard let root = domain(of: node) else { continue }
            domains[root, default: []].append(node)
        }
        for members in domains.values {
            for (node, other) in overlaps(among: members) {
                guard case .router = node, !chain(from: node).contains(other),
                    !chain(from: other).contains(node)
                else { continue }
                reportOverlap(node, other, why: ": without a NAT each needs its own")
            }
        }
    }

    private func reportOverlap(_ node: NodeReference, _ other: NodeReference, why: String) {
        guard let prefix = prefix(of: node), let otherPrefix = self.prefix(of: other) else { return }
        report.error(
            "\(networkName(of: node)), \(prefix.value), overlaps \(networkName(of: other)), \(otherPrefix.value)\(why)",
            at: prefix.span, hint: "give one of them another prefix", notes: prefixNote(of: other))
    }

    /// The NAT router in whose domain the router's LAN is routed; `.some(nil)` for the domain of the segments, nil
    /// when the chain is broken.
    private func domain(of router: NodeReference) -> NodeReference?? {
        for node in chain(from: router) {
            switch node {
            case .segment: return .some(nil)
            case .router(let index) where draft.routers[index].nat != .none: return node
            default: continue
            }
        }
        return nil
    }

    /// Each node that overlaps one before it in address order, with that one; the later in the file comes first.
    func overlaps(among nodes: [NodeReference]) -> [(NodeReference, NodeReference)] {
        let sorted = nodes.compactMap { node in prefix(of: node).map { (node: node, prefix: $0) } }.sorted {
            let (left, right) = ($0.prefix.value, $1.prefix.value)
            if left.address != right.address { return left.address < right.address }
            return left.length != right.length
                ? left.length < right.length : $0.prefix.span.start < $1.prefix.span.start
        }
        var result: [(NodeReference, NodeReference)] = []
        // Prefixes nest or are disjoint: only the last that reaches furthest can hold the next.
        var widest: (node: NodeReference, prefix: Located<IPPrefix>)?
        for item in sorted {
            if let holder = widest, holder.prefix.value.overlaps(item.prefix.value) {
                let itemIsLater = item.prefix.span.start > holder.prefix.span.start
                result.append(itemIsLater ? (item.node, holder.node) : (holder.node, item.node))
            } else {
                widest = item
            }
        }
        return result
    }
}
