import NetAddress
import RendezvousProtocol
import Testing
import WireGuardKeys

/// What WireGuard has learnt by itself stays.
struct KeptEndpointTests {
    /// A client with one peer that the server knows, whose interface the test plays.
    private final class Bench {
        let server: TestServer
        let peer: TestPeer
        let client: RendezvousClient
        var view: DeviceView
        var configured: [(endpoint: Endpoint?, keepalive: UInt16?)] = []
        private let home = Simulation.serverAddress
        private let own = WireAddress(ip: 0xCB00_71C8, port: 51820)

        init(announcing extra: [UInt8]) throws {
            server = try TestServer()
            peer = TestPeer(1, server: server.key.publicKey)
            try peer.register(server, extra: extra)
            let key = testKey(3)
            client = RendezvousClient(
                privateKey: key, serverKey: server.key.publicKey, blake: try Blake2s(),
                random: seededSource(3))
            view = DeviceView(
                publicKey: key.publicKey, listenPort: 51820, peers: [PeerView(publicKey: peer.publicKey)])
            client.serverResolved(home.endpoint, now: server.now)
            client.start(now: server.now)
            perform()
        }

        func run(seconds: Double) {
            let end = server.now.monotonic + UInt64(seconds * 1e9)
            while server.now.monotonic < end {
                server.advance(seconds: 0.005)
                client.advance(now: server.now)
                perform()
            }
        }

        private func perform() {
            while true {
                let actions = client.takeActions()
                if actions.isEmpty { return }
                for action in actions {
                    switch action {
                    case .readDevice: client.deviceRead(view, now: server.now)
                    case .configure(_, let endpoint, let keepalive, _):
                        configured.append((endpoint, keepalive))
                        if let endpoint { view.peers[0].endpoint = endpoint }
                        if let keepalive { view.peers[0].keepalive = keepalive }
                    case .send(let bytes, let target) where target == home:
                        for answer in server.deliver(bytes, from: own) where answer.to == own {
                            answer.bytes.withUnsafeBytes { client.receive($0, from: home, now: server.now) }
                        }
                    default: break
                    }
                }
            }
        }
    }

    /// An endpoint that exists on no NAT: Linux rewrote the remote's source port (nf_nat_core.c, get_unique_tuple).
    private static let phantom = Endpoint(IPAddress(v4: 0xCB00_7101), port: 52504)

    @Test(arguments: [[], WireFormat.announcement])
    func `a handshake from an unexpected port is not overwritten before its session shows`(extra: [UInt8])
        throws
    {
        let bench = try Bench(announcing: extra)
        // In before the blind attempt; the responder's session shows only with the first data, a round trip later.
        bench.run(seconds: 0.1)
        bench.view.peers[0].endpoint = Self.phantom
        bench.view.peers[0].receivedBytes = 148
        bench.run(seconds: 4)
        #expect(bench.configured.isEmpty, "\(bench.configured)")
        #expect(bench.view.peers[0].endpoint == Self.phantom)
        bench.view.peers[0].lastHandshake = bench.server.now.wall
        bench.view.peers[0].receivedBytes += 32
        bench.run(seconds: 30)
        #expect(bench.configured.allSatisfy { $0.endpoint == nil }, "\(bench.configured)")
        #expect(bench.client.snapshot(now: bench.server.now).peers.first?.phase == .connected)
    }

    @Test func `one that comes to nothing is followed by an attempt of the own, there`() throws {
        let bench = try Bench(announcing: [])
        bench.run(seconds: 0.1)
        bench.view.peers[0].endpoint = Self.phantom
        bench.view.peers[0].receivedBytes = 148
        bench.run(seconds: 7)
        #expect(bench.configured.count == 1 && bench.configured[0].keepalive == 25, "\(bench.configured)")
        #expect(bench.view.peers[0].endpoint == Self.phantom)
    }

    @Test func `a handshake after the blind attempt stays, through all of WireGuard's tries`() throws {
        let bench = try Bench(announcing: [])
        bench.run(seconds: 1)
        #expect(bench.configured.map(\.endpoint) == [bench.peer.address.endpoint], "blindly")
        bench.run(seconds: 2)
        bench.view.peers[0].endpoint = Self.phantom
        bench.view.peers[0].receivedBytes = 148
        bench.run(seconds: 20)
        #expect(bench.configured.count == 1, "\(bench.configured)")
        #expect(bench.view.peers[0].endpoint == Self.phantom)
    }
}
