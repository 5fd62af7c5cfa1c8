import LabPlanner
import LinuxLab
import Logging
import NetAddress
import RendezvousProtocol
import RendezvousService
import SystemCalls
import WireGuardControl
import WireGuardKeys

/// One host's rendezvous client within the agent.
final class AgentClient {
    struct Setup {
        var tunnel: PlannedTunnel
        var state: LabState
        /// Where the client looks for the server, and what it takes for the server's key: not always what is right.
        var server: Endpoint
        var serverKey: PublicKey
        var keys: AgentKeys
        var blake: Blake2s
        var loop: EventLoop
        var log: Logger
        /// Milliseconds from the agent's start.
        var startDelay: UInt32
        /// Every tunnel network of the lab: no endpoint may lie in one.
        var networks: [IPPrefix]
    }

    private let host: String
    private let interface: String
    private let driver: ClientDriver
    private let startDelay: UInt32
    private let server: Endpoint
    private let serverKey: PublicKey
    private let peers: [PublicKey]
    private var hasStarted = false

    init(_ setup: Setup) throws(OperationFailure) {
        let tunnel = setup.tunnel
        host = tunnel.host
        interface = tunnel.interface
        startDelay = setup.startDelay
        server = setup.server
        serverKey = setup.serverKey
        peers = tunnel.peers.compactMap { setup.keys.key(host: $0.host, interface: tunnel.interface) }
        var options = ClientOptions()
        options.tunnelPrefixes = setup.networks
        for peer in tunnel.peers {
            guard let key = setup.keys.key(host: peer.host, interface: tunnel.interface) else { continue }
            options.keepalives[key] = peer.keepalive
        }
        let network = NetworkNamespace(tunnel.namespace)
        let secret = try KeyFile.readPrivateKey(
            setup.state.privateKeyFile(host: tunnel.host, interface: tunnel.interface))
        let client = RendezvousClient(
            privateKey: secret.key, serverKey: setup.serverKey, options: options, blake: setup.blake,
            random: Randomness.fill)
        let (log, names, host, interface) = (setup.log, setup.keys.names, tunnel.host, tunnel.interface)
        driver = try ClientDriver(
            client: client, sockets: try ClientSockets.open(in: network),
            transport: try WireGuardLocator.inLab(
                interface: tunnel.interface, network: network,
                folder: setup.state.wireGuardFolder(host: tunnel.host),
                // One that hangs must not hold up the others for long: all share one loop.
                timeout: .milliseconds(300)),
            loop: setup.loop,
            sink: { event in
                var metadata: Logger.Metadata = ["host": "\(host)", "interface": "\(interface)"]
                if let peer = event.peer { metadata["peer"] = "\(names[peer] ?? peer.base64)" }
                if let endpoint = event.endpoint { metadata["endpoint"] = "\(endpoint)" }
                if !event.text.isEmpty { metadata["text"] = "\(event.text)" }
                log.info("\(event.kind.rawValue)", metadata: metadata)
            })
    }

    /// Starts the client now, or with its delay; `failed` is told of what goes wrong then.
    func start(loop: EventLoop, failed: @escaping (OperationFailure) -> Void) throws(OperationFailure) {
        guard startDelay > 0 else { return try startNow() }
        loop.schedule(at: .now() + .milliseconds(Int64(startDelay))) { [unowned self] in
            do throws(OperationFailure) { try startNow() } catch { failed(error) }
        }
    }

    private func startNow() throws(OperationFailure) {
        hasStarted = true
        try driver.start(server: server)
    }

    func status() -> ClientStatus {
        guard hasStarted else { return statusBeforeStart }
        let now = driver.snapshot()
        return ClientStatus(
            host: host, interface: interface, publicKey: now.publicKey, listenPort: now.listenPort,
            server: server, serverKey: serverKey, standing: now.standing, says: now.text,
            up: now.upAt.map(WallTime.init), observed: now.observed,
            registeredAt: now.registeredAt.map(WallTime.init), counters: now.counters,
            peers: now.peers.map { ClientPeerStatus($0) })
    }

    /// A client that is to start later is well, has tried nothing yet, and will.
    private var statusBeforeStart: ClientStatus {
        let says = "starts \(startDelay) ms after the lab's agent"
        return ClientStatus(
            host: host, interface: interface, publicKey: driver.client.publicKey, listenPort: 0,
            server: server, serverKey: serverKey, standing: .starting, says: says, counters: ClientCounters(),
            peers: peers.map {
                ClientPeerStatus(
                    publicKey: $0, phase: .asking, says: says, attempts: 0, lookups: 0, punchesSent: 0,
                    punchesReceived: 0)
            })
    }
}

extension ClientPeerStatus {
    fileprivate init(_ peer: ClientPeerSnapshot) {
        self.init(
            publicKey: peer.publicKey, phase: peer.phase, says: peer.text, resolved: peer.resolved,
            local: peer.local, punchedFrom: peer.punchedFrom, endpoint: peer.endpoint,
            attempts: peer.attempts, lookups: peer.lookups, punchesSent: peer.punchesSent,
            punchesReceived: peer.punchesReceived, resolvedAt: peer.resolvedAt.map(WallTime.init),
            punchedAt: peer.punchedAt.map(WallTime.init),
            endpointSetAt: peer.endpointSetAt.map(WallTime.init),
            firstHandshake: peer.firstHandshake.map(WallTime.init),
            lastHandshake: peer.lastHandshake.map(WallTime.init))
    }
}

extension WallTime {
    /// The pure layer's times.
    fileprivate init(_ nanoseconds: UInt64) { self.init(nanoseconds: Int64(clamping: nanoseconds)) }
}
