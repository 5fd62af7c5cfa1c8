// What a rendezvous is for, and is not given.
extension TopologyChecker {
    /// A client asks for its own peers only; where no two that are peers need finding, nobody is found.
    ///
    /// A host on a segment is known to its peers from the start.
    func warnOfRendezvousForNobody() {
        guard draft.rendezvous != nil else { return }
        for (index, network) in networks.enumerated() {
            let hidden = network.hosts.indices.filter { isBehindRouter(network.hosts[$0]) }
            guard !network.isBroken, network.peers != nil, hidden.count > 1,
                !hidden.contains(where: { a in hidden.contains { network.arePeers(a, $0) } })
            else { continue }
            let names = hidden.prefix(2).map { "`\(draft.hosts[network.hosts[$0]].name.value)`" }
            let name = draft.networks[index].name
            report.warning(
                "the rendezvous has nobody to find in \(name.value): \(names[0]) and \(names[1]), both behind routers, "
                    + "are not each other's peers, so neither asks for the other"
                    + (hidden.count > 2 ? "; nor does any other behind a router" : ""),
                at: peersSpan(of: index) ?? name.span,
                hint: "`peers = \"mesh\"` makes all members peers")
        }
    }

    private func isBehindRouter(_ host: Int) -> Bool {
        if case .router = attachments[host] { true } else { false }
    }

    private func peersSpan(of network: Int) -> SourceSpan? {
        switch draft.networks[network].peers {
        case .hub(let name): name.span
        case .pairs(let pairs): pairs.first?.span
        case .mesh, nil: nil
        }
    }
}
