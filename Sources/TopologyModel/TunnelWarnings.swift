import NetAddress

// What is valid, and cannot do what it seems meant to do: the ways that packets for the tunnel take.
extension TopologyChecker {
    func warnOfTunnels() {
        warnOfRendezvousInTunnel()
        warnOfRendezvousForNobody()
        for host in draft.hosts.indices {
            for override in draft.hosts[host].overrides {
                for peer in override.peers { warn(of: peer, override, host) }
            }
        }
        warnOfKeepalives()
    }

    /// A client refuses a server that it would reach only by the tunnel which the server is to help to set up.
    private func warnOfRendezvousInTunnel() {
        guard let endpoint = draft.rendezvous?.endpoint,
            let network = draft.networks.first(where: {
                $0.prefix?.value.contains(endpoint.value.address) == true
            }),
            let prefix = network.prefix
        else { return }
        report.warning(
            "the rendezvous at \(endpoint.value) lies inside the tunnel \(network.name.value), which is up only after "
                + "it has served", at: endpoint.span,
            hint: "leave `endpoint` out: clients then reach the host at its own address",
            notes: [.init("\(prefix.value) is \(network.name.value)", at: prefix.span)])
    }

    /// What goes to an allowed IP goes into the tunnel, also what should carry the tunnel.
    private func warn(of peer: PeerDraft, _ override: OverrideDraft, _ host: Int) {
        let hostName = draft.hosts[host].name.value
        for allowed in peer.allowedIPs ?? [] {
            // Of all traffic the tunnel's own packets are kept outside by a mark, as wg-quick(8) does it.
            if allowed.value == .allIPv4, override.table ?? .auto == .auto { continue }
            if let endpoint = peer.endpoint, allowed.value.contains(endpoint.value.address) {
                report.warning(
                    "\(endpoint.value), the endpoint of `\(peer.peer.value)`, is one of its own allowed IPs: packets of "
                        + "the tunnel would go into the tunnel", at: endpoint.span,
                    hint: "leave it out of the allowed IPs",
                    notes: [.init("\(allowed.value) takes it in", at: allowed.span)])
            }
            if let server = rendezvousAddress, allowed.value.contains(server) {
                report.warning(
                    "\(allowed.value) takes in \(server), where the rendezvous is: `\(hostName)` would reach it only by "
                        + "the tunnel", at: allowed.span, hint: "leave it out of the allowed IPs")
            }
        }
        for (earlier, other) in pairs(peer, override) where earlier.value != other.value {
            report.warning(
                "\(other.value) of `\(peer.peer.value)` lies inside \(earlier.value), which `\(hostName)` has for another "
                    + "peer; the longer prefix wins", at: other.span,
                notes: [.init("the other one is here", at: earlier.span)])
        }
    }

    /// Prefixes of earlier peers that take in one of this peer's.
    private func pairs(
        _ peer: PeerDraft, _ override: OverrideDraft
    ) -> [(Located<IPPrefix>, Located<IPPrefix>)] {
        let earlier = override.peers.prefix { $0.peer.span.start < peer.peer.span.start }
        return earlier.flatMap { other in
            (other.allowedIPs ?? []).flatMap { wide in
                (peer.allowedIPs ?? []).filter { wide.value.overlaps($0.value) && wide.value.length > 0 }.map
                { (wide, $0) }
            }
        }
    }

    /// Where the clients reach it, as far as the file says.
    private var rendezvousAddress: IPAddress? {
        guard let rendezvous = draft.rendezvous else { return nil }
        if let endpoint = rendezvous.endpoint { return endpoint.value.address }
        guard let name = rendezvous.host, case .host(let host) = nodes[name.value] else { return nil }
        return draft.hosts[host].address?.value
    }

    // MARK: Keepalives

    /// A mapping that runs out between two keepalives is no mapping in between.
    private func warnOfKeepalives() {
        var warned: Set<SourceSpan> = []
        func warn(_ keepalive: Located<UInt16>?, _ host: Int) {
            guard let keepalive, keepalive.value > 0, let (router, seconds) = shortestMapping(of: host),
                Int(keepalive.value) >= seconds, warned.insert(keepalive.span).inserted
            else { return }
            report.warning(
                "a keepalive of \(keepalive.value) s comes too late for `\(router.name.value)`, whose mappings live "
                    + "\(seconds) s", at: keepalive.span,
                hint: "make it at most \"\(max(1, seconds - 1))s\"",
                notes: router.natSpan.map { [.init("its NAT is described here", at: $0)] } ?? [])
        }
        for (index, network) in networks.enumerated() {
            for host in network.hosts { warn(draft.networks[index].keepalive, host) }
        }
        for host in draft.hosts.indices {
            for override in draft.hosts[host].overrides {
                for peer in override.peers { warn(peer.keepalive, host) }
            }
        }
    }

    /// The NAT on the host's way out that forgets first, and after how many seconds, where the file says so.
    private func shortestMapping(of host: Int) -> (RouterDraft, Int)? {
        chain(from: .host(host)).compactMap { node -> (RouterDraft, Int)? in
            guard case .router(let index) = node, let seconds = draft.routers[index].nat.behaviour?.udpTimeout
            else { return nil }
            return (draft.routers[index], seconds)
        }.min { $0.1 < $1.1 }
    }
}
