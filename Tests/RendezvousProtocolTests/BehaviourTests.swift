import NetAddress
import RendezvousProtocol
import Testing
import WireGuardKeys

/// Two clients behind each pair of the nine behaviours of RFC 4787.
struct BehaviourTests {
    typealias Behaviour = SimulatedNAT.Behaviour

    struct Pair: Sendable, CustomTestStringConvertible {
        var a: Behaviour
        var b: Behaviour
        var testDescription: String { "\(a) - \(b)" }

        /// Whether punching can work: one side accepts the other's first packet, after which both NATs know the conversation.
        var isDirect: Bool { Self.passes(a, b) || Self.passes(b, a) }

        /// Whether the receiver's NAT lets a packet in that comes from `sender` for the address that the server knows.
        private static func passes(_ sender: Behaviour, _ receiver: Behaviour) -> Bool {
            if receiver.filtering == .none { return true }
            guard receiver.mapping == .none else { return false }
            return receiver.filtering == .address || sender.mapping == .none
        }

        static let all = Behaviour.all.indices.flatMap { first in
            Behaviour.all[first...].map { Pair(a: Behaviour.all[first], b: $0) }
        }
    }

    /// How the second host's start follows the first's, and how far apart everything is.
    struct Start: Sendable {
        var wait: UInt64
        var delay: UInt64
        static let all = [(0, 1), (0, 30), (20, 5), (400, 20), (3000, 1)].map {
            Start(wait: $0.0 * 1_000_000, delay: $0.1 * 1_000_000)
        }
    }

    @Test func `31 of the 45 pairs can punch`() {
        #expect(Pair.all.count == 45)
        #expect(Pair.all.filter(\.isDirect).count == 31)
    }

    /// Either side first, either side with the smaller key, with Linux's rewritten ports and without.
    @Test(arguments: Pair.all, [true, false])
    func `a pair that can punch connects within a second, another never`(pair: Pair, rewrites: Bool) throws {
        for swapped in [false, true] {
            for firstIsZero in [true, false] {
                for (seed, start) in Start.all.enumerated() {
                    try connect(
                        swapped ? [pair.b, pair.a] : [pair.a, pair.b], first: firstIsZero ? 0 : 1, start,
                        rewrites: rewrites, seed: UInt64(seed), expected: pair.isDirect)
                }
            }
        }
    }

    /// Linux makes up a port for the host behind the EIM NAT.
    ///
    /// That host's answer and this one's own punch would look alike. The made-up port works, and must stay.
    @Test(arguments: [SimulatedNAT.Dependence.address, .addressAndPort])
    func `an endpoint that exists on no NAT is found and kept`(mapping: SimulatedNAT.Dependence) throws {
        let simulation = try Simulation(seed: 1)
        let hosts = [
            SimulatedHost(0, in: simulation, nat: Behaviour(mapping: mapping, filtering: .none)),
            SimulatedHost(1, in: simulation, nat: .portRestricted),
        ]
        hosts[0].addPeer(hosts[1])
        hosts[1].addPeer(hosts[0])
        for host in hosts { try host.startClient() }
        simulation.run(seconds: 60)
        #expect(hosts[0].isConnected(to: hosts[1]) && hosts[1].isConnected(to: hosts[0]))
        let endpoint = try #require(hosts[0].tunnels[0].view.endpoint.flatMap { WireAddress($0) })
        #expect(hosts[0].nat.rewritten == 1)
        #expect(endpoint.ip == hosts[1].nat.ip && !hosts[1].nat.history.contains(endpoint))
    }

    private func connect(
        _ behaviours: [Behaviour], first: Int, _ start: Start, rewrites: Bool, seed: UInt64, expected: Bool
    ) throws {
        let comment: Comment = "\(behaviours), host \(first) first, \(start)"
        let simulation = try Simulation(seed: seed, weather: .init(delay: start.delay, jitter: 1.2))
        let hosts = behaviours.enumerated().map { SimulatedHost($0.offset, in: simulation, nat: $0.element) }
        for host in hosts { host.nat.rewritesRemotePorts = rewrites }
        hosts[0].addPeer(hosts[1])
        hosts[1].addPeer(hosts[0])
        try hosts[first].startClient()
        simulation.run(seconds: Double(start.wait) / 1e9)
        try hosts[1 - first].startClient()
        let began = simulation.now.wall
        let connected = simulation.run(seconds: expected ? 7 : 17) {
            hosts[0].isConnected(to: hosts[1]) && hosts[1].isConnected(to: hosts[0])
        }
        #expect(connected == expected, comment)
        for host in hosts {
            #expect(!host.endpointsSet.contains { $0.live }, comment)
            #expect(host.client?.standing == .registered, comment)
        }
        guard expected, connected else {
            for host in hosts {
                #expect(host.snapshot(of: hosts[1 - host.number])?.phase == .handshaking, comment)
            }
            return
        }
        #expect(simulation.now.wall - began < 1_000_000_000, comment)
        #expect(hosts[0].initsSent + hosts[1].initsSent == 1, comment)
        // The session lasts: data go both ways over the endpoints that WireGuard has now.
        let received = hosts.map { $0.tunnels[0].view.receivedBytes }
        let endpoints = hosts.map { $0.tunnels[0].view.endpoint }
        simulation.run(seconds: 60)
        for host in hosts {
            #expect(host.tunnels[0].view.receivedBytes > received[host.number], comment)
            #expect(host.snapshot(of: hosts[1 - host.number])?.phase == .connected, comment)
            #expect(host.tunnels[0].view.endpoint == endpoints[host.number], comment)
        }
    }
}
