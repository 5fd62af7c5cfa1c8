import NetAddress

/// A WireGuard network with its members found.
struct ResolvedNetwork {
    /// Host indices, in the order of the file; the index here is the member's number.
    var hosts: [Int] = []
    var spans: [SourceSpan] = []
    /// By host index.
    var numbers: [Int: Int] = [:]
    /// Nil where it could not be read.
    var peers: Topology.PeerLayout?
    var pairs: Set<Topology.MemberPair> = []
    /// Some member or pair is missing, so that an unknown peer is no news.
    var isBroken = false

    func arePeers(_ a: Int, _ b: Int) -> Bool {
        switch peers {
        case .mesh: a != b
        case .hub(let hub): a != b && (a == hub || b == hub)
        case .pairs: pairs.contains(Topology.MemberPair(a, b))
        case nil: false
        }
    }
}

extension TopologyChecker {
    mutating func resolveNetworks() {
        for (index, network) in draft.networks.enumerated() {
            var resolved = ResolvedNetwork(isBroken: network.membersAreBroken)
            for member in network.members {
                guard let host = host(member) else {
                    resolved.isBroken = true
                    continue
                }
                if let first = resolved.numbers[host] {
                    report.error(
                        "`\(member.value)` is already a member of \(network.name.value)", at: member.span,
                        notes: [.init("first named here", at: resolved.spans[first])])
                    continue
                }
                resolved.numbers[host] = resolved.hosts.count
                memberships[host, default: []].append((index, resolved.hosts.count))
                resolved.hosts.append(host)
                resolved.spans.append(member.span)
            }
            resolvePeers(network, &resolved)
            networks.append(resolved)
        }
    }

    private func resolvePeers(_ network: NetworkDraft, _ resolved: inout ResolvedNetwork) {
        /// The member of that name; reports where there is none.
        func number(_ name: Located<String>, _ what: String) -> Int? {
            if case .host(let host) = nodes[name.value], let number = resolved.numbers[host] { return number }
            guard !resolved.isBroken || nodes[name.value] != nil else { return nil }
            report.error(
                "\(what) `\(name.value)` is not a member of \(network.name.value)", at: name.span,
                hint: report.didYouMean(name.value, network.members.lazy.map(\.value)))
            return nil
        }
        switch network.peers {
        case .mesh: resolved.peers = .mesh
        case .hub(let name): resolved.peers = number(name, "the hub").map { .hub($0) }
        case .pairs(let pairs):
            for pair in pairs {
                let (a, b) = (number(pair.value.0, "the peer"), number(pair.value.1, "the peer"))
                guard let a, let b else { continue }
                if a == b {
                    report.error("`\(pair.value.0.value)` cannot be its own peer", at: pair.span)
                } else if !resolved.pairs.insert(Topology.MemberPair(a, b)).inserted {
                    report.error(
                        "`\(pair.value.0.value)` and `\(pair.value.1.value)` are peers already", at: pair.span
                    )
                }
            }
            resolved.peers = .pairs(resolved.pairs.sorted())
        case nil: break
        }
    }

    func checkNetworks() {
        for (index, network) in draft.networks.enumerated() {
            guard let prefix = network.prefix else { continue }
            let members = networks[index].hosts
            if members.count > prefix.value.hostCount {
                report.error(
                    "\(prefix.value) has room for \(prefix.value.hostCount) members, \(network.name.value) has "
                        + "\(members.count)", at: prefix.span, hint: "give it a larger prefix")
            }
            // Every network a member's packets pass on the way out must be told from the tunnel.
            var seen: Set<NodeReference> = []
            for host in members {
                for node in chain(from: .host(host)) where seen.insert(node).inserted {
                    guard let other = self.prefix(of: node), other.value.overlaps(prefix.value) else {
                        continue
                    }
                    report.error(
                        "the prefix of \(network.name.value), \(prefix.value), overlaps \(networkName(of: node)), "
                            + "\(other.value)", at: prefix.span, hint: "give one of them another prefix",
                        notes: prefixNote(of: node))
                }
            }
        }
        checkSharedHosts()
    }

    /// Hosts in several networks: their prefixes and ports.
    private func checkSharedHosts() {
        var reported: Set<[Int]> = []
        for host in draft.hosts.indices {
            guard let memberships = memberships[host] else { continue }
            let hostName = draft.hosts[host].name.value
            var ports: [UInt16: Located<String>] = [:]
            for (position, (index, number)) in memberships.enumerated() {
                let network = draft.networks[index]
                for (earlier, _) in memberships[..<position] {
                    guard let prefix = network.prefix, let other = draft.networks[earlier].prefix,
                        prefix.value.overlaps(other.value), reported.insert([earlier, index]).inserted
                    else { continue }
                    report.error(
                        "the prefix of \(network.name.value), \(prefix.value), overlaps that of "
                            + "\(draft.networks[earlier].name.value), and `\(hostName)` is in both",
                        at: prefix.span,
                        hint: "give one of them another prefix",
                        notes: [
                            .init("\(other.value) is \(draft.networks[earlier].name.value)", at: other.span)
                        ])
                }
                let port = listenPort(of: host, in: index)
                let span = port.span ?? networks[index].spans[number]
                guard port.value != 0 else { continue }
                if let other = ports[port.value] {
                    report.error(
                        "on `\(hostName)` both \(other.value) and \(network.name.value) listen on port \(port.value)",
                        at: span,
                        hint:
                            "give [host.\(hostName).wireguard.\(network.name.value)] another listen-port",
                        notes: [.init("\(other.value) takes the port here", at: other.span)])
                } else {
                    ports[port.value] = Located(network.name.value, span)
                }
            }
        }
    }

    /// The port of a host's tunnel, and where the file gives it.
    func listenPort(of host: Int, in network: Int) -> (value: UInt16, span: SourceSpan?) {
        let name = draft.networks[network].name.value
        let own = draft.hosts[host].overrides.first { $0.network.value == name }?.listenPort
        let given = own ?? draft.networks[network].listenPort
        return (given?.value ?? 51820, given?.span)
    }
}
