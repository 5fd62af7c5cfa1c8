import NetAddress

// The checked draft as a topology. Nothing is missing any more; what cannot be is left out rather than trapped on.
extension TopologyChecker {
    func topology() -> Topology {
        Topology(
            name: draft.name,
            segments: draft.segments.compactMap { segment in
                segment.prefix.map {
                    Topology.Segment(
                        name: segment.name.value, prefix: $0.value,
                        position: segment.isDefault ? nil : segment.name.span.start)
                }
            },
            routers: draft.routers.compactMap { router in
                guard let uplink = router.uplink, let lan = router.lan else { return nil }
                return Topology.Router(
                    name: router.name.value, uplink: uplink.value, lan: lan.value, nat: router.nat,
                    wan: router.wan.map(\.value), forwards: router.forwards.compactMap(forward),
                    oneToOne: router.oneToOne.map {
                        Topology.OneToOne(host: $0.host.value, address: $0.address.value)
                    },
                    link: router.link, position: router.name.span.start,
                    natSpan: router.natSpan ?? router.name.span)
            },
            hosts: draft.hosts.compactMap { host in
                host.attachment.map {
                    Topology.Host(
                        name: host.name.value, attachment: $0.value, address: host.address?.value,
                        link: host.link,
                        client: host.client.map {
                            Topology.ClientSettings(
                                serverKey: $0.serverKey, endpoint: $0.endpoint?.value,
                                startDelay: $0.startDelay ?? 0,
                                span: $0.endpoint?.span ?? $0.span)
                        },
                        position: host.name.span.start)
                }
            },
            networks: draft.networks.indices.compactMap(network),
            rendezvous: draft.rendezvous.flatMap { rendezvous in
                rendezvous.host.map {
                    Topology.Rendezvous(
                        host: $0.value, port: rendezvous.port?.value ?? 1234,
                        endpoint: rendezvous.endpoint?.value,
                        position: rendezvous.span.start)
                }
            },
            expectations: draft.expectations.compactMap { expectation in
                guard let between = expectation.between, let path = expectation.path else { return nil }
                let hosts: [String] =
                    switch between.value {
                    case .pair(let first, let second): [first.value, second.value]
                    case .others: []
                    }
                return Topology.Expectation(between: hosts, path: path.value, span: path.span)
            })
    }

    private func forward(_ draft: ForwardDraft) -> Topology.Forward? {
        guard let port = draft.port, let host = draft.host else { return nil }
        return Topology.Forward(
            transport: draft.transport, address: draft.address?.value, port: port.value, host: host.value,
            innerPort: draft.innerPort?.value ?? port.value, span: draft.span)
    }

    private func network(_ index: Int) -> Topology.WireGuardNetwork? {
        let network = draft.networks[index]
        let resolved = networks[index]
        guard let prefix = network.prefix, let peers = resolved.peers else { return nil }
        let members = zip(resolved.hosts, resolved.spans).map { host, span in
            let own = draft.hosts[host].overrides.first { $0.network.value == network.name.value }
            let peers = (own?.peers ?? []).map { peer in
                (
                    peer.peer.value,
                    Topology.PeerOverride(
                        allowedIPs: peer.allowedIPs?.map(\.value), keepalive: peer.keepalive?.value,
                        presharedKeyFile: peer.presharedKeyFile?.value, endpoint: peer.endpoint?.value,
                        position: peer.peer.span.start)
                )
            }
            return Topology.Member(
                host: draft.hosts[host].name.value, listenPort: listenPort(of: host, in: index).value,
                mtu: own?.mtu ?? network.mtu ?? 1420, privateKeyFile: own?.privateKeyFile,
                table: own?.table ?? .auto,
                keepalive: network.keepalive?.value, peers: Dictionary(peers) { first, _ in first },
                position: own?.network.span.start ?? span.start)
        }
        return Topology.WireGuardNetwork(
            name: network.name.value, prefix: prefix.value, members: members, peers: peers,
            backend: network.backend,
            position: network.name.span.start, span: network.name.span)
    }
}
