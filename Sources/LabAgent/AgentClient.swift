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
        var serverKey: PublicKey
        var keys: AgentKeys
        var blake: Blake2s
        var loop: EventLoop
        var log: Logger
        /// Every tunnel network of the lab: no endpoint may lie in one.
        var networks: [IPPrefix]
    }

    private let host: String
    private let interface: String
    private let driver: ClientDriver

    init(_ setup: Setup) throws(OperationFailure) {
        let tunnel = setup.tunnel
        host = tunnel.host
        interface = tunnel.interface
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

    func start(server: Endpoint) throws(OperationFailure) { try driver.start(server: server) }

    func status() -> ClientStatus {
        let now = driver.snapshot()
        return ClientStatus(
            host: host, interface: interface, standing: now.standing, says: now.text,
            up: WallTime(nanoseconds: Int64(clamping: now.upAt ?? 0)),
            peers: now.peers.map { peer in
                ClientPeerStatus(
                    publicKey: peer.publicKey, phase: peer.phase, says: peer.text, attempts: peer.attempts,
                    lookups: peer.lookups,
                    firstHandshake: peer.firstHandshake.map { WallTime(nanoseconds: Int64(clamping: $0)) })
            })
    }
}
