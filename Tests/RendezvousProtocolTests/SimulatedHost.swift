import NetAddress
import RendezvousProtocol
import WireGuardKeys

/// A host with a WireGuard interface that keeps WireGuard's rules: one handshake per 5 s and peer, retries, roaming.
final class SimulatedHost {
    struct Tunnel {
        var view: PeerView
        var lastInit: UInt64?
        var retries = 0
        var responding = false
        var keepaliveDue: UInt64?
    }

    unowned let simulation: Simulation
    let number: Int
    let key: PrivateKey
    /// The NAT that it is behind.
    unowned let nat: SimulatedNAT
    /// Its address on its own network.
    let ip: UInt32
    /// What the routing table says of the way to the server.
    var routeSource: IPAddress
    private(set) var client: RendezvousClient?
    var tunnels: [Tunnel] = []
    var listenPort: UInt16 = 51820
    private(set) var events: [ClientEvent] = []
    /// Endpoints set by the client, with the session's state then.
    private(set) var endpointsSet: [(peer: PublicKey, endpoint: Endpoint, live: Bool)] = []
    private(set) var initsSent = 0
    /// Where anything was ever sent.
    private(set) var targets: Set<WireAddress> = []
    private(set) var targetsAsked = 0
    private var wake: UInt64?

    /// At 192.168.1.2 behind a NAT of its own.
    convenience init(_ number: Int, in simulation: Simulation, nat behaviour: SimulatedNAT.Behaviour) {
        let nat = SimulatedNAT(behaviour, ip: 0xCB00_7164 + UInt32(number), on: simulation.internet)
        self.init(number, in: simulation, behind: nat, ip: 0xC0A8_0102)
    }

    init(_ number: Int, in simulation: Simulation, behind nat: SimulatedNAT, ip: UInt32) {
        self.simulation = simulation
        self.number = number
        self.nat = nat
        self.ip = ip
        routeSource = IPAddress(v4: ip)
        key = testKey(UInt64(500 + number))
        simulation.add(self)
        nat.inner.add(self)
    }

    func addPeer(_ other: SimulatedHost, allowedIPs: [IPPrefix] = []) {
        tunnels.append(Tunnel(view: PeerView(publicKey: other.key.publicKey, allowedIPs: allowedIPs)))
    }

    func tunnel(to other: SimulatedHost) -> Tunnel? {
        tunnels.first { $0.view.publicKey == other.key.publicKey }
    }
    func isConnected(to other: SimulatedHost) -> Bool { tunnel(to: other)?.view.lastHandshake != nil }

    func snapshot(of other: SimulatedHost) -> ClientPeerSnapshot? {
        client?.snapshot(now: simulation.now).peers.first { $0.publicKey == other.key.publicKey }
    }

    // MARK: The client

    func startClient(options: ClientOptions = ClientOptions(), server: Endpoint? = nil) throws {
        let client = RendezvousClient(
            privateKey: key, serverKey: Simulation.serverKey.publicKey, options: options,
            blake: try Blake2s(),
            random: seededSource(simulation.generator.next()))
        self.client = client
        client.serverResolved(server ?? Simulation.serverAddress.endpoint, now: simulation.now)
        client.start(now: simulation.now)
        perform()
    }

    func stopClient() { client = nil }

    /// Hands the client something by hand.
    func tell(_ body: (RendezvousClient, Moment) -> Void) {
        guard let client else { return }
        body(client, simulation.now)
        perform()
    }

    func perform() {
        guard let client else { return }
        while true {
            let actions = client.takeActions()
            if actions.isEmpty { break }
            for action in actions { perform(action, client) }
        }
        schedule(client)
    }

    private func perform(_ action: ClientAction, _ client: RendezvousClient) {
        switch action {
        case .send(let bytes, let target): send(bytes, to: target)
        case .readDevice:
            client.serverRoute(source: routeSource)
            client.deviceRead(
                DeviceView(publicKey: key.publicKey, listenPort: listenPort, peers: tunnels.map(\.view)),
                now: simulation.now)
        case .configure(let peer, let endpoint, let keepalive, let toggle):
            guard let index = tunnels.firstIndex(where: { $0.view.publicKey == peer }) else { return }
            if let endpoint {
                let age = tunnels[index].view.lastHandshake.map { simulation.now.wall - $0 }
                endpointsSet.append((peer, endpoint, (age ?? .max) < 35_000_000_000))
                tunnels[index].view.endpoint = endpoint
            }
            if let keepalive { setKeepalive(index, keepalive, toggle: toggle) }
        case .resolveServer: break
        case .event(let event): events.append(event)
        }
    }

    private func schedule(_ client: RendezvousClient) {
        let deadline = client.nextDeadline
        guard deadline != .max, wake.map({ deadline < $0 || $0 <= simulation.now.monotonic }) ?? true else {
            return
        }
        wake = deadline
        simulation.at(deadline) { [unowned self] in
            guard wake == deadline else { return }
            wake = nil
            guard self.client === client else { return }
            client.advance(now: simulation.now)
            perform()
        }
    }

    // MARK: Datagrams

    func send(_ datagram: [UInt8], to target: WireAddress) {
        targets.insert(target)
        simulation.send(datagram, from: WireAddress(ip: ip, port: listenPort), to: target, on: nat.inner)
    }

    func receive(_ datagram: [UInt8], from source: WireAddress) {
        // WireGuard's messages by type and size, the simulated ones with the sender's number in the fifth byte.
        if datagram.count == 148 || datagram.count == 92 || datagram.count == 32, let type = datagram.first {
            receiveWireGuard(type, from: Int(datagram[4]), source)
            return
        }
        datagram.withUnsafeBytes { client?.receive($0, from: source, now: simulation.now) }
        perform()
    }

    // MARK: WireGuard

    private func message(_ type: UInt8, _ size: Int) -> [UInt8] {
        [type, 0, 0, 0, UInt8(number)] + [UInt8](repeating: 0, count: size - 5)
    }

    func setKeepalive(_ index: Int, _ seconds: UInt16, toggle: Bool = false) {
        let before = toggle ? 0 : tunnels[index].view.keepalive
        tunnels[index].view.keepalive = seconds
        if before == 0, seconds != 0 { transmit(index) }
    }

    /// Sends a keepalive, or starts a handshake where there is no session.
    private func transmit(_ index: Int) {
        guard let target = tunnels[index].view.endpoint.flatMap({ WireAddress($0) }) else { return }
        let time = simulation.now
        let age = tunnels[index].view.lastHandshake.map { time.wall - $0 } ?? .max
        if age < 180_000_000_000 {
            tunnels[index].view.sentBytes += 32
            send(message(4, 32), to: target)
        }
        if age > 120_000_000_000 { startHandshake(index) }
        let interval = UInt64(tunnels[index].view.keepalive) * 1_000_000_000
        if interval > 0, tunnels[index].keepaliveDue.map({ $0 <= time.monotonic }) ?? true {
            let due = time.monotonic + interval
            tunnels[index].keepaliveDue = due
            simulation.at(due) { [unowned self] in
                guard index < tunnels.count, tunnels[index].keepaliveDue == due else { return }
                transmit(index)
            }
        }
    }

    private func startHandshake(_ index: Int, retry: Bool = false) {
        let time = simulation.now.monotonic
        if let last = tunnels[index].lastInit, time < last + 5_000_000_000 { return }
        guard let target = tunnels[index].view.endpoint.flatMap({ WireAddress($0) }) else { return }
        tunnels[index].lastInit = time
        tunnels[index].retries = retry ? tunnels[index].retries + 1 : 0
        initsSent += 1
        let handshake = tunnels[index].view.lastHandshake
        send(message(1, 148), to: target)
        simulation.after(5_100_000_000) { [unowned self] in
            guard index < tunnels.count, tunnels[index].lastInit == time, tunnels[index].retries < 18,
                tunnels[index].view.lastHandshake == handshake
            else { return }
            startHandshake(index, retry: true)
        }
    }

    private func receiveWireGuard(_ type: UInt8, from sender: Int, _ source: WireAddress) {
        let senderKey = simulation.hosts[sender].key.publicKey
        guard let index = tunnels.firstIndex(where: { $0.view.publicKey == senderKey }) else { return }
        tunnels[index].view.endpoint = source.endpoint
        tunnels[index].view.receivedBytes += 92
        switch type {
        case 1:
            tunnels[index].responding = true
            send(message(2, 92), to: source)
        case 2:
            tunnels[index].view.lastHandshake = simulation.now.wall
            send(message(4, 32), to: source)
        default:
            if tunnels[index].responding {
                tunnels[index].responding = false
                tunnels[index].view.lastHandshake = simulation.now.wall
            }
        }
    }
}
