import NetAddress
import TopologyModel

/// Plans WireGuard interfaces, their peers and routes, the rendezvous and the pairs.
struct TunnelPlanner {
    /// A tunnel with where it comes from.
    struct Tunnel {
        var planned: PlannedTunnel
        var table: Topology.RouteTable
        /// The routing table and mark of a tunnel that takes all traffic; nil for others.
        var defaultTable: UInt32?
        /// How many tunnels of the host before it take all traffic.
        var earlierDefaults: UInt32
        var line: Int?
    }

    let tunnels: [Tunnel]
    private let topology: Topology
    private let underlay: Underlay
    private static let allTraffic = IPPrefix.allIPv4
    /// wg-quick(8): the first free table from here on is the tunnel's, and the mark has the same number.
    private static let firstDefaultTable: UInt32 = 51820
    /// What wg(8) recommends: shorter than the timeouts of the NATs in use.
    private static let keepaliveBehindNAT: UInt16 = 25

    /// - Parameter onlyPeersOfTheFile: leaves the peers out that the file says nothing of by themselves: all that theory
    ///   asks for, and a mesh of 1,000 hosts has a million of the others.
    init(_ topology: Topology, _ underlay: Underlay, onlyPeersOfTheFile: Bool = false) {
        self.topology = topology
        self.underlay = underlay
        var defaults: [String: UInt32] = [:]
        tunnels = topology.networks.flatMap { network in
            let peers = onlyPeersOfTheFile ? Self.describedPeers(network) : Self.peerNumbers(network)
            return network.members.indices.compactMap { number in
                Self.tunnel(network, number, peers: peers[number], underlay, &defaults)
            }
        }
    }

    /// Each member's peers, in member order.
    private static func peerNumbers(_ network: Topology.WireGuardNetwork) -> [[Int]] {
        let all = network.members.indices
        switch network.peers {
        case .mesh: return all.map { number in all.filter { $0 != number } }
        case .hub(let hub): return all.map { number in number == hub ? all.filter { $0 != hub } : [hub] }
        case .pairs(let pairs):
            var peers = [[Int]](repeating: [], count: all.count)
            for pair in pairs {
                peers[pair.first].append(pair.second)
                peers[pair.second].append(pair.first)
            }
            return peers.map { $0.sorted() }
        }
    }

    private static func describedPeers(_ network: Topology.WireGuardNetwork) -> [[Int]] {
        let numbers = Dictionary(
            network.members.enumerated().map { ($0.element.host, $0.offset) },
            uniquingKeysWith: { first, _ in first })
        return network.members.map { $0.peers.keys.compactMap { numbers[$0] }.sorted() }
    }

    private static func tunnel(
        _ network: Topology.WireGuardNetwork, _ number: Int, peers: [Int], _ underlay: Underlay,
        _ defaults: inout [String: UInt32]
    ) -> Tunnel? {
        let member = network.members[number]
        guard let host = underlay[member.host], let own = address(network, number) else { return nil }
        let keepalive = member.keepalive ?? (underlay.isBehindNAT(host) ? keepaliveBehindNAT : 0)
        let planned = peers.compactMap { peer(network, number, $0, defaultKeepalive: keepalive, underlay) }

        let takesAll = member.table == .auto && planned.contains { $0.allowedIPs.contains(allTraffic) }
        let earlier = defaults[member.host, default: 0]
        if takesAll { defaults[member.host] = earlier + 1 }
        let defaultTable = takesAll ? firstDefaultTable + earlier : nil
        return Tunnel(
            planned: PlannedTunnel(
                host: member.host, namespace: host.namespace, interface: network.name,
                backend: PlannedTunnel.Backend(rawValue: network.backend.rawValue) ?? .auto,
                address: own, listenPort: member.listenPort, mtu: member.mtu, firewallMark: defaultTable ?? 0,
                privateKeyFile: member.privateKeyFile, peers: planned),
            table: member.table, defaultTable: defaultTable, earlierDefaults: earlier,
            line: member.position.line)
    }

    private static func peer(
        _ network: Topology.WireGuardNetwork, _ number: Int, _ other: Int, defaultKeepalive: UInt16,
        _ underlay: Underlay
    ) -> PlannedPeer? {
        let member = network.members[other]
        guard let host = underlay[member.host], let address = address(network, other) else { return nil }
        let given = network.members[number].peers[member.host]
        // The spokes reach each other through the hub.
        let isHub = if case .hub(other) = network.peers { true } else { false }
        // Without a NAT in front a host's address is good from the start, if its port is known.
        var endpoint: Endpoint?
        if !underlay.isBehindNAT(host), member.listenPort != 0 {
            endpoint = host.address.map { Endpoint($0, port: member.listenPort) }
        }
        return PlannedPeer(
            host: member.host,
            allowedIPs: given?.allowedIPs ?? [isHub ? network.prefix : IPPrefix(host: address.address)],
            endpoint: given?.endpoint ?? endpoint, keepalive: given?.keepalive ?? defaultKeepalive,
            presharedKeyFile: given?.presharedKeyFile)
    }

    /// The first member has the prefix's first address.
    private static func address(_ network: Topology.WireGuardNetwork, _ number: Int) -> IPPrefix? {
        network.prefix.host(UInt64(number) + 1).flatMap { IPPrefix($0, length: network.prefix.length) }
    }

    // MARK: Steps

    /// All interfaces first: those of wireguard-go take a moment each to come up, and do so side by side.
    func steps() -> [PlanStep] {
        tunnels.map { tunnel in
            let planned = tunnel.planned
            return PlanStep(
                .makeWireGuard(
                    namespace: planned.namespace, host: planned.host, interface: planned.interface),
                inverse: .removeWireGuard(
                    namespace: planned.namespace, host: planned.host, interface: planned.interface),
                line: tunnel.line)
        } + tunnels.flatMap(configurationSteps)
    }

    private func configurationSteps(_ tunnel: Tunnel) -> [PlanStep] {
        let planned = tunnel.planned
        let (namespace, interface) = (planned.namespace, planned.interface)
        var effects: [Effect] = [
            .configureWireGuard(namespace: namespace, host: planned.host, interface: interface),
            .addAddress(namespace: namespace, interface: interface, address: planned.address),
            .bringUp(namespace: namespace, interface: interface),
        ]
        effects += routes(tunnel).map { .addRoute(namespace: namespace, route: $0) }
        effects += rules(tunnel).map { .addRule(namespace: namespace, rule: $0) }
        return effects.map { PlanStep($0, inverse: .goesWith(namespace: namespace), line: tunnel.line) }
    }

    /// What wg-quick(8) does with `Table`: "auto" routes in the main table what the interface's own network does not
    /// cover, and all traffic in a table of its own; a number puts every route there; "off" none anywhere.
    private func routes(_ tunnel: Tunnel) -> [Route] {
        let own = tunnel.planned.address.network
        var seen: Set<IPPrefix> = []
        return tunnel.planned.peers.flatMap(\.allowedIPs).compactMap { prefix in
            switch tunnel.table {
            case .off: return nil
            case .number(let table):
                return seen.insert(prefix).inserted
                    ? Route(to: prefix, interface: tunnel.planned.interface, table: table) : nil
            case .auto:
                guard !own.contains(prefix), seen.insert(prefix).inserted else { return nil }
                let table = prefix == Self.allTraffic ? tunnel.defaultTable : nil
                return Route(to: prefix, interface: tunnel.planned.interface, table: table)
            }
        }
    }

    /// wg-quick(8) for a peer that takes all traffic: whatever the tunnel did not send itself goes into it, except
    /// where the main table knows better than by its default route.
    private func rules(_ tunnel: Tunnel) -> [RoutingRule] {
        guard let table = tunnel.defaultTable else { return [] }
        // The kernel gives these numbers to rules without one; given here so that the plan says them.
        let priority = 32765 - 2 * tunnel.earlierDefaults
        return [
            RoutingRule(family: .ipv4, priority: priority, firewallMark: table, invert: true, table: table),
            RoutingRule(family: .ipv4, priority: priority - 1, table: 254, suppressPrefixLength: 0),
        ]
    }

    // MARK: Rendezvous and pairs

    func rendezvous() -> PlannedRendezvous? {
        guard let wish = topology.rendezvous, let host = underlay[wish.host], let address = host.address
        else { return nil }
        let settings = Dictionary(
            topology.hosts.compactMap { host in host.client.map { (host.name, $0) } },
            uniquingKeysWith: { first, _ in first })
        return PlannedRendezvous(
            host: wish.host, namespace: host.namespace, port: wish.port,
            endpoint: wish.endpoint ?? Endpoint(address, port: wish.port),
            clients: tunnels.map { tunnel in
                let own = settings[tunnel.planned.host]
                return PlannedClient(
                    host: tunnel.planned.host, interface: tunnel.planned.interface,
                    startDelay: UInt32(clamping: (own?.startDelay ?? 0) * 1000), serverKey: own?.serverKey,
                    endpoint: own?.endpoint)
            })
    }

    /// - Parameter theory: what is expected of a pair that the file does not name.
    func pairs(_ theory: TraversalTheory) -> [PlannedPair] {
        let named = topology.expectations.filter { !$0.between.isEmpty }
        let expectations = Dictionary(named.map { (Set($0.between), $0.path) }) { first, _ in first }
        let others = topology.expectations.first { $0.between.isEmpty }?.path
        return topology.networks.flatMap { network in
            let theory = theory.paths(among: network.members.map(\.host), interface: network.name)
            return network.pairs.map { pair in
                let (from, to) = (network.members[pair.first].host, network.members[pair.second].host)
                // Hashing a set of two names costs more than all else; most files expect nothing.
                let wish = expectations.isEmpty ? nil : expectations[[from, to]]
                let expected: PlannedPair.Path =
                    switch wish ?? others {
                    case .some(.direct): .direct
                    case .some(.none): .none
                    case .some(.theory), nil: theory(pair.first, pair.second)
                    }
                return PlannedPair(from: from, to: to, interface: network.name, expected: expected)
            }
        }
    }
}
