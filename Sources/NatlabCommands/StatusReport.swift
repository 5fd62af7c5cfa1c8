import LabAgent
import LabPlanner
import LinuxLab
import NetAddress
import PeeringCheck
import RendezvousProtocol
import SystemCalls
import WireGuardControl
import WireGuardKeys

extension StatusReport {
    init(_ view: LabView) {
        let now = wallClockNanoseconds()
        lab = view.plan.lab
        age = Double(now - view.record.broughtUp) / 1e9
        nodes = view.plan.nodes.map { node in
            Node(
                name: node.name, kind: node.kind.rawValue, namespace: node.namespace, uplink: node.uplink,
                nat: node.nat,
                addresses: Dictionary(
                    node.interfaces.map { ($0.name, $0.address) }, uniquingKeysWith: { first, _ in first }),
                link: node.link.map { StatusReport.Link(shape: $0) })
        }
        let agent: Result<AgentStatus?, OperationFailure>
        do throws(OperationFailure) { agent = .success(try view.agentStatus()) } catch {
            agent = .failure(error)
        }
        let clients = (try? agent.get())?.clients ?? []
        let addresses = AddressBook(view.plan)
        var owners: [PublicKey: String] = [:]
        for tunnel in view.plan.tunnels {
            if let key = try? view.publicKey(host: tunnel.host, interface: tunnel.interface) {
                owners[key] = tunnel.host
            }
        }
        wireguard = view.plan.tunnels.map { planned in
            Self.tunnel(planned, view, clients, addresses, owners, now)
        }
        if let planned = view.plan.rendezvous {
            var shown = Rendezvous(host: planned.host, endpoint: planned.endpoint)
            switch agent {
            case .success(let status):
                shown.publicKey = status?.server.publicKey
                shown.registered = status?.server.entries.count
            case .failure(let failure): shown.problem = "\(failure)"
            }
            rendezvous = shown
        }
    }

    private static func tunnel(
        _ planned: PlannedTunnel, _ view: LabView, _ clients: [ClientStatus], _ addresses: AddressBook,
        _ owners: [PublicKey: String], _ now: Int64
    ) -> Tunnel {
        let client = clients.first { $0.host == planned.host && $0.interface == planned.interface }
        var tunnel = Tunnel(
            host: planned.host, interface: planned.interface,
            backend: view.record.backend(host: planned.host, interface: planned.interface)?.rawValue
                ?? "unknown",
            address: planned.address, client: client?.says, peers: [])
        do throws(OperationFailure) {
            let device = try view.transport(to: planned).read()
            tunnel.publicKey = device.publicKey
            tunnel.listenPort = device.listenPort
            // In the order of the topology: WireGuard has them in none.
            let order = Dictionary(
                planned.peers.enumerated().map { ($0.element.host, $0.offset) },
                uniquingKeysWith: { first, _ in first })
            let rank = { (peer: WireGuardPeer) in owners[peer.publicKey].flatMap { order[$0] } ?? Int.max }
            tunnel.peers = device.peers.sorted { rank($0) < rank($1) }.map { peer in
                let host = owners[peer.publicKey]
                let word = client?.peers.first { $0.publicKey == peer.publicKey }
                return Peer(
                    host: host, publicKey: peer.publicKey, endpoint: peer.endpoint,
                    endpointOwner: owner(of: peer.endpoint, planned.host, host, addresses),
                    allowedIPs: peer.allowedIPs,
                    keepalive: peer.persistentKeepalive,
                    handshakeAge: peer.lastHandshake.map { Double(now - $0.nanoseconds) / 1e9 },
                    firstHandshake: firstHandshake(word, client, planned, host, clients, owners),
                    receivedBytes: peer.receivedBytes, sentBytes: peer.sentBytes, client: word?.says)
            }
        } catch { tunnel.problem = "\(error)" }
        return tunnel
    }

    private static func owner(
        of endpoint: Endpoint?, _ host: String, _ peer: String?, _ addresses: AddressBook
    ) -> String? {
        guard let endpoint, let peer else { return nil }
        switch addresses.owner(of: endpoint.address, seenFrom: host, towards: peer) {
        case .onPath(let node), .elsewhere(let node): return node
        case .insideTunnel, .unknown: return nil
        }
    }

    /// Milliseconds from both sides' clients being up.
    private static func firstHandshake(
        _ word: ClientPeerStatus?, _ client: ClientStatus?, _ planned: PlannedTunnel, _ peer: String?,
        _ clients: [ClientStatus], _ owners: [PublicKey: String]
    ) -> Double? {
        guard let first = word?.firstHandshake, let client, let peer,
            let other = clients.first(where: { $0.host == peer && $0.interface == planned.interface }),
            let mine = client.up, let theirs = other.up
        else { return nil }
        return max(0, Double(first.nanoseconds - max(mine, theirs).nanoseconds) / 1e6)
    }
}
