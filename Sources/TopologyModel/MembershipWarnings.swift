import NetAddress

// Hosts that no tunnel can have anything for.
extension TopologyChecker {
    func warnOfMembers() {
        // Where something is missing because it was not understood, nothing is missed.
        guard !report.hasErrors, !draft.networks.isEmpty else { return }
        for (index, network) in draft.networks.enumerated() { warnOfLonely(network, networks[index]) }
        let isOfUse = hostsOfUse()
        for (index, host) in draft.hosts.enumerated() where memberships[index] == nil && !isOfUse(index) {
            report.warning(
                "`\(host.name.value)` is in no WireGuard network, and no tunnel leads to it",
                at: host.name.span,
                hint: draft.networks.count == 1
                    ? "add it to the members of [wireguard.\(draft.networks[0].name.value)], or take it out"
                    : "add it to the members of a network, or take it out")
        }
    }

    /// Members without a peer.
    private func warnOfLonely(_ network: NetworkDraft, _ resolved: ResolvedNetwork) {
        if resolved.hosts.count == 1 {
            report.warning(
                "`\(network.members[0].value)` is the only member of \(network.name.value): it has no peer",
                at: resolved.spans[0])
            return
        }
        guard case .pairs(let pairs) = resolved.peers else { return }
        let paired = Set(pairs.flatMap { [$0.first, $0.second] })
        for number in resolved.hosts.indices where !paired.contains(number) {
            let name = draft.hosts[resolved.hosts[number]].name.value
            report.warning(
                "`\(name)` is nobody's peer in \(network.name.value)", at: resolved.spans[number],
                hint: "name it in a pair of `peers`, or take it out of the members")
        }
    }

    /// Whether the file leads somebody to a host that is in no network: clients, a forward, a tunnel to what is behind
    /// a peer.
    private func hostsOfUse() -> (_ host: Int) -> Bool {
        var names: Set<String> = []
        for router in draft.routers {
            names.formUnion(router.forwards.compactMap(\.host?.value) + router.oneToOne.map(\.host.value))
        }
        if let rendezvous = draft.rendezvous?.host { names.insert(rendezvous.value) }
        let allowed = Set(
            draft.hosts.flatMap(\.overrides).flatMap(\.peers).flatMap { $0.allowedIPs ?? [] }.map(\.value))
        return { host in
            if names.contains(draft.hosts[host].name.value) { return true }
            if let address = draft.hosts[host].address?.value {
                return allowed.contains { $0.contains(address) }
            }
            guard let network = attachments[host].flatMap(prefix)?.value else { return false }
            return allowed.contains { $0.overlaps(network) }
        }
    }
}
