import NetAddress

// What hosts say of single tunnels and peers; the rendezvous; expectations.
extension TopologyChecker {
    func checkOverrides() {
        let byName = Dictionary(draft.networks.indices.map { (draft.networks[$0].name.value, $0) }) {
            first, _ in first
        }
        for (host, draft) in draft.hosts.enumerated() {
            for override in draft.overrides {
                guard let index = byName[override.network.value] else {
                    guard !report.lostTables else { continue }
                    report.error(
                        "unknown WireGuard network `\(override.network.value)`", at: override.network.span,
                        hint: report.didYouMean(override.network.value, byName.keys.sorted()))
                    continue
                }
                guard let number = networks[index].numbers[host] else {
                    guard !networks[index].isBroken, !draft.isPhantom else { continue }
                    report.error(
                        "`\(draft.name.value)` is not a member of \(override.network.value)",
                        at: override.network.span,
                        hint: "add it to the members of [wireguard.\(override.network.value)]")
                    continue
                }
                checkPeers(override, of: host, number: number, in: index)
            }
        }
    }

    private func checkPeers(_ override: OverrideDraft, of host: Int, number: Int, in index: Int) {
        let network = networks[index]
        let hostName = draft.hosts[host].name.value
        for peer in override.peers {
            guard let other = self.host(peer.peer) else { continue }
            guard let otherNumber = network.numbers[other], network.arePeers(number, otherNumber) else {
                guard !network.isBroken, network.peers != nil else { continue }
                report.error(
                    "`\(peer.peer.value)` is not a peer of `\(hostName)` in \(override.network.value)",
                    at: peer.peer.span)
                continue
            }
            if let key = peer.presharedKeyFile,
                !hasPresharedKey(other, for: hostName, in: override.network.value)
            {
                report.warning(
                    "`\(hostName)` has a preshared key for `\(peer.peer.value)`, but not the other way: they will not "
                        + "connect", at: key.span,
                    hint: "add preshared-key-file to "
                        + "[host.\(peer.peer.value).wireguard.\(override.network.value).peer.\(hostName)]")
            }
        }
        checkAllowedIPs(override, of: hostName, number: number, in: index)
    }

    private func hasPresharedKey(_ host: Int, for peer: String, in network: String) -> Bool {
        draft.hosts[host].overrides.contains { override in
            override.network.value == network
                && override.peers.contains { $0.peer.value == peer && $0.presharedKeyFile != nil }
        }
    }

    /// WireGuard keeps an allowed IP with the peer that got it last, silently.
    private func checkAllowedIPs(_ override: OverrideDraft, of hostName: String, number: Int, in index: Int) {
        var owners: [IPPrefix: Located<String>] = [:]
        let given = Set(override.peers.filter { $0.allowedIPs != nil }.map(\.peer.value))
        for peer in override.peers {
            for allowed in peer.allowedIPs ?? [] {
                if let other = owners[allowed.value] {
                    report.error(
                        "`\(hostName)` has \(allowed.value) for `\(other.value)` already; WireGuard keeps it for one peer",
                        at: allowed.span, notes: [.init("first given here", at: other.span)])
                } else if let other = defaultOwner(of: allowed.value, number: number, in: index),
                    other != peer.peer.value, !given.contains(other)
                {
                    report.error(
                        "\(allowed.value) is `\(other)`, a peer of `\(hostName)` itself", at: allowed.span,
                        hint: "give `\(other)` other allowed-ips as well")
                } else {
                    owners[allowed.value] = Located(peer.peer.value, allowed.span)
                }
            }
        }
    }

    /// The peer that has this /32 unless the file says otherwise.
    private func defaultOwner(of allowed: IPPrefix, number: Int, in index: Int) -> String? {
        guard allowed.length == 32, let prefix = draft.networks[index].prefix?.value,
            prefix.contains(allowed),
            let bits = allowed.address.v4Bits, let base = prefix.address.v4Bits
        else { return nil }
        let other = Int(bits - base) - 1
        let network = networks[index]
        guard network.hosts.indices.contains(other), network.arePeers(number, other) else { return nil }
        return draft.hosts[network.hosts[other]].name.value
    }

    /// A routing table has one route to a prefix: `up` would find a second one there already (EEXIST).
    func checkRoutes() {
        for (host, name) in draft.hosts.indices.map({ ($0, draft.hosts[$0].name.value) }) {
            guard draft.hosts[host].overrides.contains(where: { !$0.peers.isEmpty }) else { continue }
            var routes: [IPPrefix: (what: String, notes: [Diagnostic.Note])] = [:]
            if let node = attachments[host], let prefix = prefix(of: node) {
                routes[prefix.value] = (networkName(of: node), prefixNote(of: node))
            }
            for (index, _) in memberships[host] ?? [] {
                guard let prefix = draft.networks[index].prefix else { continue }
                let network = draft.networks[index].name.value
                routes[prefix.value] = (network, [.init("\(prefix.value) is \(network)", at: prefix.span)])
            }
            for override in draft.hosts[host].overrides where override.table ?? .auto == .auto {
                let own = draft.networks.first { $0.name.value == override.network.value }?.prefix?.value
                for allowed in override.peers.flatMap({ $0.allowedIPs ?? [] })
                where isRouted(allowed.value, override) && own?.contains(allowed.value) != true {
                    guard let other = routes[allowed.value] else { continue }
                    report.error(
                        "`\(name)` has a route to \(allowed.value) already, which is \(other.what)",
                        at: allowed.span, hint: "leave it out of the allowed IPs", notes: other.notes)
                }
                for allowed in override.peers.flatMap({ $0.allowedIPs ?? [] })
                where isRouted(allowed.value, override) {
                    routes[allowed.value] =
                        routes[allowed.value] ?? (
                            "in the allowed IPs of a peer in \(override.network.value)",
                            [.init("first given here", at: allowed.span)]
                        )
                }
            }
        }
    }

    // MARK: Rendezvous

    /// Settings of clients that there are not.
    func checkClients() {
        for (host, draft) in draft.hosts.enumerated() {
            guard let client = draft.client, !draft.isPhantom, !report.lostTables else { continue }
            if self.draft.rendezvous == nil {
                report.error(
                    "`\(draft.name.value)` runs no client: there is no [rendezvous]", at: client.span,
                    hint: "add a [rendezvous], or take this table out")
            } else if memberships[host] == nil, !networks.contains(where: \.isBroken),
                !self.draft.networks.isEmpty
            {
                report.error(
                    "`\(draft.name.value)` runs no client: it is in no WireGuard network", at: client.span,
                    hint: "add it to the members of [wireguard.\(self.draft.networks[0].name.value)]")
            }
        }
    }

    func checkRendezvous() {
        guard let rendezvous = draft.rendezvous else { return }
        if draft.networks.isEmpty, !report.lostTables {
            report.error(
                "a rendezvous without a WireGuard network has no clients", at: rendezvous.span,
                hint: "add a [wireguard.wg0], or take [rendezvous] out")
        }
        guard let name = rendezvous.host, let host = host(name) else { return }
        let port = rendezvous.port?.value ?? 1234
        for (network, _) in memberships[host] ?? [] where listenPort(of: host, in: network).value == port {
            let taken = listenPort(of: host, in: network).span ?? draft.networks[network].name.span
            report.error(
                "the rendezvous port \(port) is the listen-port of \(draft.networks[network].name.value) on "
                    + "`\(name.value)`", at: rendezvous.port?.span ?? rendezvous.span,
                hint: "choose another port",
                notes: [.init("\(draft.networks[network].name.value) takes the port here", at: taken)])
        }
        warnOfNAT(before: host, name, port: port)
    }

    /// Clients outside reach a server behind a NAT only where something leads in.
    ///
    /// What comes in by a forward is answered by it, whatever the NAT's mapping is: a server never sends first.
    private func warnOfNAT(before host: Int, _ name: Located<String>, port: UInt16) {
        let nat = chain(from: .host(host)).lazy.compactMap { node -> RouterDraft? in
            guard case .router(let index) = node else { return nil }
            return draft.routers[index].nat == .none ? nil : draft.routers[index]
        }.first
        guard let nat else { return }
        guard let endpoint = draft.rendezvous?.endpoint,
            endpoint.value.address != draft.hosts[host].address?.value
        else {
            report.warning(
                "the rendezvous host `\(name.value)` is behind the NAT of `\(nat.name.value)`: hosts outside cannot "
                    + "reach it", at: name.span, hint: "put it on a segment")
            return
        }
        // An endpoint inside a tunnel has a warning of its own, and what is wrong with the NAT an error.
        guard !leads(endpoint.value, to: name.value, port: port, nat), !nat.natIsBroken,
            !draft.networks.contains(where: { $0.prefix?.value.contains(endpoint.value.address) == true })
        else { return }
        let isSymmetric = nat.nat.behaviour.map { $0.mapping != .endpointIndependent } ?? false
        report.warning(
            "the rendezvous host `\(name.value)` is behind the \(isSymmetric ? "symmetric " : "")NAT of "
                + "`\(nat.name.value)`, and no forward leads from \(endpoint.value) to its port \(port): hosts outside "
                + "cannot reach it", at: endpoint.span,
            hint:
                "give [router.\(nat.name.value)] forward = [{ port = \(endpoint.value.port), to = \"\(name.value)\""
                + (endpoint.value.port == port ? "" : ", to-port = \(port)") + " }]",
            notes: nat.natSpan.map { [.init("its NAT is described here", at: $0)] } ?? [])
    }

    /// Whether what is sent to the endpoint comes to that port of the host, as far as the file says.
    private func leads(_ endpoint: Endpoint, to host: String, port: UInt16, _ nat: RouterDraft) -> Bool {
        let isForward = nat.forwards.contains { forward in
            let address = forward.address?.value ?? nat.wan.first?.value
            return forward.transport == .udp && forward.host?.value == host
                && forward.port?.value == endpoint.port
                && (forward.innerPort?.value ?? endpoint.port) == port
                && (address == nil || address == endpoint.address)
        }
        return isForward
            || (endpoint.port == port
                && nat.oneToOne.contains {
                    $0.host.value == host && $0.address.value == endpoint.address
                })
    }

    // MARK: Expectations

    func checkExpectations() {
        var seen: [Set<Int>: SourceSpan] = [:]
        var others: SourceSpan?
        for expectation in draft.expectations {
            guard let between = expectation.between else { continue }
            guard case .pair(let first, let second) = between.value else {
                if let others {
                    report.error(
                        "there is an expectation for all other pairs already", at: between.span,
                        notes: [.init("first given here", at: others)])
                }
                others = others ?? between.span
                continue
            }
            let (a, b) = (host(first), host(second))
            guard let a, let b else { continue }
            if a == b {
                report.error("a pair has two different hosts", at: between.span)
                continue
            }
            if let earlier = seen[[a, b]] {
                report.error(
                    "`\(first.value)` and `\(second.value)` have an expectation already", at: between.span,
                    notes: [.init("first given here", at: earlier)])
                continue
            }
            seen[[a, b]] = between.span
            let arePeers = networks.contains { network in
                guard let one = network.numbers[a], let two = network.numbers[b] else { return false }
                return network.arePeers(one, two)
            }
            if !arePeers, !report.lostTables, !networks.contains(where: { $0.isBroken || $0.peers == nil }) {
                report.error(
                    "`\(first.value)` and `\(second.value)` are not peers in any WireGuard network",
                    at: between.span)
            }
        }
    }
}
