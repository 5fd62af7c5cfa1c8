import NetAddress
import RendezvousProtocol
import Testing
import WireGuardKeys

/// The faults measured in natpunch-go's client, one test each, and what natlab's has to explain.
struct ClientFaultTests {
    private func pair(
        _ simulation: Simulation, nat: SimulatedNAT.Behaviour = .portRestricted, allowedIPs: [IPPrefix] = []
    ) -> [SimulatedHost] {
        let hosts = (0..<2).map { SimulatedHost($0, in: simulation, nat: nat) }
        hosts[0].addPeer(hosts[1], allowedIPs: allowedIPs)
        hosts[1].addPeer(hosts[0], allowedIPs: allowedIPs)
        return hosts
    }

    @Test func `empty, short, long and random datagrams are survived`() throws {
        let simulation = try Simulation(seed: 1)
        let hosts = pair(simulation)
        try hosts[0].startClient()
        simulation.run(seconds: 1)
        var generator = SeededGenerator(seed: 5)
        hosts[0].tell { client, now in
            for type in [1, 2, 3, 5, 6, 0, 255] as [UInt8] {
                for length in 0...200 {
                    var bytes = (0..<length).map { _ in UInt8.random(in: 0...255, using: &generator) }
                    if length > 0 { bytes[0] = type }
                    bytes.withUnsafeBytes { client.receive($0, from: Simulation.serverAddress, now: now) }
                    bytes.withUnsafeBytes {
                        client.receive($0, from: WireAddress(ip: 0xC633_6401, port: 9), now: now)
                    }
                }
            }
        }
        try hosts[1].startClient()
        #expect(simulation.run(seconds: 5) { hosts[0].isConnected(to: hosts[1]) })
        #expect(hosts[0].client?.standing == .registered)
    }

    /// The lookup's reply is held back until the next peer has been asked for.
    @Test func `a late or doubled reply is not taken for another peer's`() throws {
        let server = try TestServer()
        let first = TestPeer(1, server: server.key.publicKey),
            second = TestPeer(2, server: server.key.publicKey)
        try first.register(server)
        try second.register(server)
        let own = testKey(3)
        let client = RendezvousClient(
            privateKey: own, serverKey: server.key.publicKey, blake: try Blake2s(), random: seededSource(3))
        let address = WireAddress(ip: 0xCB00_71C8, port: 51820),
            home = WireAddress(ip: 0xCB00_710A, port: 1234)
        let view = DeviceView(
            publicKey: own.publicKey, listenPort: 51820,
            peers: [PeerView(publicKey: first.publicKey), PeerView(publicKey: second.publicKey)])
        var held: [[UInt8]] = []
        var resolved: [PublicKey: Endpoint] = [:]
        /// Delivers what the client sends, and the answers, of which replies are kept as well.
        func exchange(deliveringReplies: Bool) {
            while true {
                let actions = client.takeActions()
                if actions.isEmpty { return }
                for action in actions {
                    switch action {
                    case .readDevice: client.deviceRead(view, now: server.now)
                    case .event(let event) where event.kind == .resolved:
                        if let peer = event.peer { resolved[peer] = event.endpoint }
                    case .send(let bytes, let target) where target == home:
                        for answer in server.deliver(bytes, from: address) where answer.to == address {
                            if answer.bytes[0] == WireFormat.dataType {
                                held.append(answer.bytes)
                                if !deliveringReplies { continue }
                            }
                            answer.bytes.withUnsafeBytes { client.receive($0, from: home, now: server.now) }
                        }
                    default: break
                    }
                }
            }
        }
        client.serverResolved(home.endpoint, now: server.now)
        client.start(now: server.now)
        exchange(deliveringReplies: false)
        #expect(held.count == 1, "one lookup at a time")
        // It is given up; a new session begins, and the late reply arrives in it, before, between and after the answers.
        for _ in 0..<6 {
            server.advance(seconds: 0.6)
            client.advance(now: server.now)
            for reply in held { reply.withUnsafeBytes { client.receive($0, from: home, now: server.now) } }
            exchange(deliveringReplies: true)
            for reply in held { reply.withUnsafeBytes { client.receive($0, from: home, now: server.now) } }
            exchange(deliveringReplies: true)
        }
        #expect(resolved[first.publicKey] == first.address.endpoint)
        #expect(resolved[second.publicKey] == second.address.endpoint)
        #expect(client.snapshot(now: server.now).counters.refusedReplies > 0)
        #expect(client.snapshot(now: server.now).counters.sessions >= 2)
    }

    @Test func `a restarted rendezvous is noticed in seconds, not in five minutes`() throws {
        let simulation = try Simulation(seed: 2)
        let hosts = pair(simulation)
        try hosts[0].startClient()
        simulation.run(seconds: 100)
        try simulation.startServer()
        let start = simulation.now.monotonic
        #expect(
            simulation.run(seconds: 10) {
                !(simulation.server?.snapshot(now: simulation.now).entries.isEmpty ?? true)
            })
        #expect(simulation.now.monotonic - start < 3_000_000_000)
    }

    @Test(arguments: [0, 1, 500, 20_000_000] as [UInt64])
    func `no option makes it poll faster than the floor`(
        interval: UInt64
    ) throws {
        let simulation = try Simulation(seed: 3)
        let hosts = pair(simulation)
        var options = ClientOptions()
        options.firstPoll = interval
        options.slowestPoll = interval
        options.refresh = interval
        options.idleDevicePoll = interval
        options.sessionLifetime = interval
        try hosts[0].startClient(options: options)
        simulation.run(seconds: 6)
        #expect(simulation.serverArrivals.count < 320, "6 s at 20 ms each; natpunch-go made 75,736")
        #expect(simulation.serverArrivals.count > 10)
    }

    @Test func `polling slows down to once in two seconds, and starts fast`() throws {
        let simulation = try Simulation(seed: 4)
        let hosts = pair(simulation)
        try hosts[0].startClient()
        let start = simulation.now.monotonic
        simulation.run(seconds: 60)
        let times = simulation.serverArrivals.map { $0 - start }
        #expect(times.filter { $0 < 500_000_000 }.count >= 5)
        #expect((20...40).contains(times.filter { $0 >= 10_000_000_000 }.count))
    }

    @Test func `roaming is recovered from`() throws {
        let simulation = try Simulation(seed: 5)
        let hosts = pair(simulation)
        for host in hosts { try host.startClient() }
        simulation.run(seconds: 5)
        #expect(hosts[1].isConnected(to: hosts[0]))
        hosts[0].nat.rebind()
        hosts[0].tell { client, now in client.networkChanged(now: now) }
        let place = hosts[1].tunnels[0].view.endpoint
        #expect(simulation.run(seconds: 5) { hosts[1].tunnels[0].view.endpoint != place })
    }

    @Test func `without peers it registers itself and asks for nobody`() throws {
        let simulation = try Simulation(seed: 6)
        let host = SimulatedHost(0, in: simulation, nat: .portRestricted)
        try host.startClient()
        simulation.run(seconds: 30)
        #expect(host.client?.standing == .registered)
        #expect(
            host.client?.snapshot(now: simulation.now).observed
                == WireAddress(ip: host.nat.ip, port: 51820).endpoint)
        let counters = try #require(simulation.server?.counters)
        #expect(counters.notFound == 0, "the zero key would not be found")
        #expect((12...20).contains(counters.found))
    }

    @Test func `a changed listen port registers anew`() throws {
        let simulation = try Simulation(seed: 7)
        let hosts = pair(simulation)
        try hosts[0].startClient()
        simulation.run(seconds: 3)
        hosts[0].listenPort = 40000
        #expect(simulation.run(seconds: 8) { hosts[0].events.contains { $0.kind == .listenPortChanged } })
        simulation.run(seconds: 1)
        #expect(hosts[0].client?.snapshot(now: simulation.now).counters.sessions == 2)
    }

    @Test func `an endpoint inside the tunnel is refused, with the reason`() throws {
        let simulation = try Simulation(seed: 8)
        let inside = try #require(IPPrefix("203.0.113.96/28"))
        let hosts = pair(simulation, nat: .open, allowedIPs: [inside])
        for host in hosts { try host.startClient() }
        simulation.run(seconds: 5)
        let snapshot = try #require(hosts[0].snapshot(of: hosts[1]))
        #expect(snapshot.phase == .endpointRefused)
        #expect(snapshot.text.contains("203.0.113.101 lies inside the tunnel"))
        #expect(hosts[0].endpointsSet.isEmpty)
        #expect(hosts[0].client?.standing == .registered)
    }

    @Test func `a rendezvous inside the tunnel is refused, with the reason`() throws {
        let simulation = try Simulation(seed: 9)
        let hosts = pair(simulation, allowedIPs: [try #require(IPPrefix("203.0.113.0/28"))])
        try hosts[0].startClient()
        simulation.run(seconds: 5)
        #expect(hosts[0].client?.standing == .insideTunnel)
        #expect(hosts[0].client?.standingText.contains("203.0.113.10 lies inside the tunnel") == true)
        #expect(simulation.serverArrivals.isEmpty)
    }

    @Test func `a rendezvous whose name is resolved late is refused before anything is sent there`() throws {
        let simulation = try Simulation(seed: 13)
        let hosts = pair(simulation, allowedIPs: [try #require(IPPrefix("203.0.113.0/28"))])
        try hosts[0].startClient(server: Endpoint("203.0.113.200:1234"))
        simulation.run(seconds: 1)
        #expect(hosts[0].client?.standing == .contacting)
        hosts[0].tell { client, now in client.serverResolved(Simulation.serverAddress.endpoint, now: now) }
        #expect(hosts[0].client?.standing == .insideTunnel)
        simulation.run(seconds: 10)
        #expect(hosts[0].events.count { $0.kind == .serverRefused } == 1)
        #expect(simulation.serverArrivals.isEmpty)
    }

    @Test func `told to, a client takes what the server says untried, and asks for connected peers too`()
        throws
    {
        let simulation = try Simulation(seed: 12)
        let inside = try #require(IPPrefix("203.0.113.0/24"))
        let hosts = pair(simulation, nat: .open, allowedIPs: [inside])
        var options = ClientOptions()
        options.takesUnsafeEndpoints = true
        options.tunnelPrefixes = [inside]
        try hosts[0].startClient(options: options)
        simulation.run(seconds: 3)
        #expect(hosts[0].client?.standing == .registered)
        #expect(hosts[0].events.count { $0.kind == .unknownToServer } == 1)
        try hosts[1].startClient(options: options)
        simulation.run(seconds: 5)
        for (host, other) in [(hosts[0], hosts[1]), (hosts[1], hosts[0])] {
            #expect(host.endpointsSet.map(\.endpoint) == [Endpoint("203.0.113.10\(other.number):51820")])
            #expect(!host.events.contains { [.punched, .endpointRefused].contains($0.kind) })
            #expect(host.client?.snapshot(now: simulation.now).counters.punchesSent == 0)
        }
        let lookups = hosts[0].snapshot(of: hosts[1])?.lookups ?? 0
        #expect(simulation.run(seconds: 60) { hosts[0].isConnected(to: hosts[1]) })
        simulation.run(seconds: 10)
        #expect(hosts[0].snapshot(of: hosts[1])?.lookups ?? 0 > lookups + 2)
    }

    @Test
    func
        `a default route through the tunnel refuses nothing by itself, but a route that really goes there does`()
        throws
    {
        let simulation = try Simulation(seed: 10)
        let hosts = pair(simulation, allowedIPs: [try #require(IPPrefix("0.0.0.0/0"))])
        var options = ClientOptions()
        options.tunnelPrefixes = [try #require(IPPrefix("10.66.66.2/24"))]
        try hosts[0].startClient(options: options)
        simulation.run(seconds: 3)
        #expect(hosts[0].client?.standing == .registered)
        hosts[0].routeSource = IPAddress(v4: 0x0A42_4202)
        simulation.run(seconds: 6)
        #expect(hosts[0].client?.standing == .insideTunnel)
        #expect(hosts[0].client?.standingText.contains("would leave through the tunnel itself") == true)
    }

    @Test func `causes are told apart`() throws {
        let simulation = try Simulation(seed: 11)
        let hosts = pair(simulation)
        simulation.stopServer()
        try hosts[0].startClient()
        simulation.run(seconds: 5)
        #expect(hosts[0].client?.standing == .silent)
        #expect(hosts[0].client?.standingText.contains("does not answer") == true)

        hosts[0].tell { client, now in
            client.sendFailed("Network is unreachable [101]", to: Simulation.serverAddress, now: now)
        }
        #expect(hosts[0].client?.standing == .socketError)
        #expect(hosts[0].client?.standingText.contains("[101]") == true)

        try simulation.startServer()
        #expect(simulation.run(seconds: 5) { hosts[0].client?.standing == .registered })
        simulation.run(seconds: 1)
        #expect(hosts[0].snapshot(of: hosts[1])?.phase == .unknownToServer)
        #expect(hosts[0].snapshot(of: hosts[1])?.text.contains("does not know this key") == true)

        let nameless = RendezvousClient(
            privateKey: testKey(1), serverKey: testKey(2).publicKey, blake: try Blake2s(),
            random: seededSource(1))
        nameless.serverNotResolved(
            "resolve server name nowhere.example: Name or service not known", now: simulation.now)
        #expect(nameless.standing == .nameNotResolved)
        #expect(nameless.standingText.contains("nowhere.example"))
        nameless.deviceFailed("No such device [19]", now: simulation.now)
        #expect(nameless.standing == .interfaceFailed)
    }

    @Test func `a forged or repeated punch opens nothing`() throws {
        let blake = try Blake2s()
        let slab = SecretSlab(slotSize: PunchKey.slotSize)
        let left = testKey(1), right = testKey(2), other = testKey(3)
        let mine = try #require(
            PunchKey(
                privateKey: left, own: RawKey(left.publicKey), peer: RawKey(right.publicKey), blake: blake,
                slab: slab))
        let theirs = try #require(
            PunchKey(
                privateKey: right, own: RawKey(right.publicKey), peer: RawKey(left.publicKey), blake: blake,
                slab: slab))
        let strangers = try #require(
            PunchKey(
                privateKey: other, own: RawKey(other.publicKey), peer: RawKey(left.publicKey), blake: blake,
                slab: slab))
        let punch = PunchMessage(
            acknowledges: true, time: 1_800_000_000_000_000_000,
            observed: WireAddress(ip: 0xCB00_7101, port: 7))
        let bytes = theirs.write(punch)
        #expect(bytes.count == PunchMessage.size)
        #expect(bytes.withUnsafeBytes { mine.read($0) } == punch)
        #expect(
            mine.write(punch).withUnsafeBytes { mine.read($0) } == nil, "one's own comes from nobody else")
        #expect(strangers.write(punch).withUnsafeBytes { mine.read($0) } == nil)
        for bit in 0..<(bytes.count * 8) {
            var changed = bytes
            changed[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(changed.withUnsafeBytes { mine.read($0) } == nil, "bit \(bit)")
        }
        for length in 0..<bytes.count {
            #expect(bytes.prefix(length).withUnsafeBytes { mine.read($0) } == nil)
        }
    }
}
