import NetAddress
import RendezvousProtocol
import Testing
import WireGuardKeys

/// Server and clients together, in virtual time over a bad network.
struct SimulationTests {
    /// A mesh of hosts, with clients not yet started.
    private func mesh(
        _ count: Int, _ simulation: Simulation, nat: SimulatedNAT.Behaviour = .portRestricted
    ) -> [SimulatedHost] {
        let hosts = (0..<count).map { SimulatedHost($0, in: simulation, nat: nat) }
        for host in hosts { for other in hosts where other !== host { host.addPeer(other) } }
        return hosts
    }

    private func allConnected(_ hosts: [SimulatedHost]) -> Bool {
        hosts.allSatisfy { host in hosts.allSatisfy { $0 === host || host.isConnected(to: $0) } }
    }

    @Test(arguments: [true, false]) func `two hosts behind port-restricted NATs connect within 100 ms`(
        pushes: Bool
    ) throws {
        var options = ServerOptions()
        options.pushes = pushes
        let simulation = try Simulation(seed: 1, serverOptions: options)
        let hosts = mesh(2, simulation)
        for host in hosts { try host.startClient() }
        let start = simulation.now.wall
        #expect(simulation.run(seconds: 5) { allConnected(hosts) })
        #expect(simulation.now.wall - start < 100_000_000)
        #expect(hosts[0].initsSent + hosts[1].initsSent == 1, "one side starts, not both")
        for host in hosts { #expect(host.events.contains { $0.kind == .punched }) }
        simulation.run(seconds: 1)
        for host in hosts { #expect(host.tunnels[0].view.keepalive == 25) }
    }

    @Test(arguments: 0..<20) func `whoever comes later is met at once, by a push`(seed: UInt64) throws {
        let simulation = try Simulation(seed: seed)
        let hosts = mesh(2, simulation)
        try hosts[0].startClient()
        simulation.run(seconds: 20 + Double(seed) * 0.37)
        try hosts[1].startClient()
        let start = simulation.now.wall
        #expect(simulation.run(seconds: 5) { allConnected(hosts) })
        #expect(simulation.now.wall - start < 50_000_000, "and not at the next poll")
    }

    /// Loss, duplication and reordering, with every reply possibly late: 400 seeds.
    @Test(arguments: 0..<20) func `a bad network delays but never confuses`(block: Int) throws {
        for seed in (block * 20)..<(block * 20 + 20) {
            var weather = Simulation.Weather(loss: 0.15, duplication: 0.15, delay: 20_000_000, jitter: 8)
            if seed % 3 == 0 { weather = .init(loss: 0.05, duplication: 0.3, delay: 60_000_000, jitter: 12) }
            var options = ServerOptions()
            options.pushes = seed % 2 == 0
            let simulation = try Simulation(seed: UInt64(seed), weather: weather, serverOptions: options)
            let hosts = mesh(3, simulation)
            for host in hosts {
                let delay = UInt64.random(in: 0..<3_000_000_000, using: &simulation.generator)
                simulation.after(delay) { try? host.startClient() }
            }
            #expect(simulation.run(seconds: 60) { allConnected(hosts) }, "seed \(seed)")
            for host in hosts { expectRightAddresses(host, hosts, "seed \(seed)") }
        }
    }

    /// Every address learnt for a peer was once that peer's own.
    private func expectRightAddresses(_ host: SimulatedHost, _ hosts: [SimulatedHost], _ comment: Comment) {
        for event in host.events
        where event.kind == .resolved || event.kind == .punched || event.kind == .endpointSet {
            let owner = hosts.first { $0.key.publicKey == event.peer }
            #expect(
                event.endpoint.flatMap { WireAddress($0) }.map { owner?.nat.history.contains($0) ?? false }
                    == true, comment)
        }
    }

    @Test(arguments: [true, false]) func `a restarted server is noticed within 3 seconds`(connected: Bool)
        throws
    {
        let simulation = try Simulation(seed: 3)
        let hosts = mesh(2, simulation)
        try hosts[0].startClient()
        if connected { try hosts[1].startClient() }
        simulation.run(seconds: 30)
        #expect(allConnected(hosts) == connected)
        simulation.stopServer()
        simulation.run(seconds: 10)
        if !connected { #expect(hosts[0].client?.standing == .silent) }
        try simulation.startServer()
        #expect(
            simulation.run(seconds: 3) {
                simulation.server?.snapshot(now: simulation.now).entries.contains {
                    $0.publicKey == hosts[0].key.publicKey
                } ?? false
            })
        simulation.run(seconds: 1)
        #expect(hosts[0].client?.standing == .registered)
    }

    @Test func `symmetric against open connects to where the punches come from`() throws {
        let simulation = try Simulation(seed: 4)
        let hosts = [
            SimulatedHost(0, in: simulation, nat: .symmetric), SimulatedHost(1, in: simulation, nat: .open),
        ]
        hosts[0].addPeer(hosts[1])
        hosts[1].addPeer(hosts[0])
        for host in hosts { try host.startClient() }
        #expect(simulation.run(seconds: 2) { allConnected(hosts) })
        #expect(hosts[1].snapshot(of: hosts[0])?.resolved != hosts[1].tunnels[0].view.endpoint)
    }

    @Test func `symmetric against port-restricted fails, and says so after 3 attempts within 20 seconds`()
        throws
    {
        let simulation = try Simulation(seed: 5)
        let hosts = [
            SimulatedHost(0, in: simulation, nat: .symmetric),
            SimulatedHost(1, in: simulation, nat: .portRestricted),
        ]
        hosts[0].addPeer(hosts[1])
        hosts[1].addPeer(hosts[0])
        for host in hosts { try host.startClient() }
        simulation.run(seconds: 20)
        #expect(!allConnected(hosts))
        for (host, other) in [(hosts[0], hosts[1]), (hosts[1], hosts[0])] {
            let snapshot = try #require(host.snapshot(of: other))
            #expect(snapshot.attempts >= 3)
            #expect(snapshot.phase == .handshaking)
            #expect(snapshot.text.contains("no punch of the peer's has come through"))
        }
    }

    @Test func `a NAT that forgets everything is survived without touching the live endpoint`() throws {
        let simulation = try Simulation(seed: 6)
        let hosts = mesh(2, simulation)
        for host in hosts { try host.startClient() }
        #expect(simulation.run(seconds: 5) { allConnected(hosts) })
        simulation.run(seconds: 50)
        let before = hosts[1].tunnels[0].view.endpoint
        hosts[0].nat.rebind()
        let start = simulation.now.monotonic
        #expect(simulation.run(seconds: 60) { hosts[1].tunnels[0].view.endpoint != before })
        #expect(simulation.now.monotonic - start < 4_000_000_000, "noticed at the next lookup")
        #expect(
            hosts.allSatisfy { host in !host.endpointsSet.contains { $0.live } }, "WireGuard roamed by itself"
        )
        simulation.run(seconds: 400)
        for host in hosts {
            #expect(host.client?.snapshot(now: simulation.now).peers.first?.phase == .connected)
            #expect(!host.events.contains { $0.kind == .sessionLost })
        }
    }

    @Test func `a dead session is looked up and punched again`() throws {
        let simulation = try Simulation(seed: 7)
        let hosts = mesh(2, simulation)
        for host in hosts { try host.startClient() }
        #expect(simulation.run(seconds: 5) { allConnected(hosts) })
        hosts[1].nat.isBlocked = true
        simulation.run(seconds: 260)
        #expect(hosts[0].events.contains { $0.kind == .sessionLost })
        hosts[1].nat.isBlocked = false
        hosts[1].nat.rebind()
        let start = simulation.now.wall
        #expect(
            simulation.run(seconds: 60) {
                hosts.allSatisfy { ($0.tunnels[0].view.lastHandshake ?? 0) > start }
            })
    }

    @Test func `a session that is already live is left alone`() throws {
        let simulation = try Simulation(seed: 8)
        let hosts = mesh(2, simulation)
        for (host, other) in [(hosts[0], hosts[1]), (hosts[1], hosts[0])] {
            host.tunnels[0].view.lastHandshake = simulation.now.wall - 10_000_000_000
            host.tunnels[0].view.endpoint = WireAddress(ip: other.nat.ip, port: 40000).endpoint
            host.tunnels[0].view.keepalive = 25
        }
        for host in hosts { try host.startClient() }
        simulation.run(seconds: 20)
        for host in hosts {
            #expect(host.endpointsSet.isEmpty)
            #expect(host.tunnels[0].view.endpoint?.port == 40000)
            #expect(host.client?.standing == .registered, "registered all the same")
        }
    }
}
