import NetAddress
import RendezvousProtocol
import RendezvousService
import SystemCalls
import TestSupport
import Testing
import WireGuardControl
import WireGuardKeys

extension Privileged {
    /// The raw client behind a real MASQUERADE, the real server, and real WireGuard.
    struct MasqueradeTests {
        @Test func `the raw client registers and resolves through a NAT, 20 times of 20`() throws {
            try withCleanup { cleanup in
                let site = try Site(cleanup)
                let serverKey = PrivateKey.generate()
                let server = try site.server(key: serverKey)
                for round in 0..<20 {
                    let keyA = PrivateKey.generate(), keyB = PrivateKey.generate()
                    let wireguardA = try SilentWireGuard(site.a, key: keyA, peers: [keyB.publicKey])
                    let wireguardB = try SilentWireGuard(site.b, key: keyB, peers: [keyA.publicKey])
                    let clientA = try site.client(
                        keyA, in: site.a, server: serverKey.publicKey, transport: wireguardA)
                    let clientB = try site.client(
                        keyB, in: site.b, server: serverKey.publicKey, transport: wireguardB)
                    try clientA.start()
                    try clientB.start()
                    let punched = try site.run(seconds: 5) { clientA.has(.punched) && clientB.has(.punched) }
                    #expect(punched, "round \(round): \(clientA.events) \(clientB.events)")
                    #expect(clientA.driver.snapshot().counters.handshakesSent == 1, "no retry was needed")
                    #expect(clientA.driver.snapshot().observed == Endpoint("203.0.113.20:51820"))
                    #expect(clientA.peer(keyB.publicKey)?.punchedFrom == Endpoint("203.0.113.21:51820"))
                    #expect(try site.run(seconds: 1) { wireguardA.device.peers[0].endpoint != nil })
                    clientA.driver.stop()
                    clientB.driver.stop()
                    // The next round begins with NATs that know nothing.
                    for home in [site.homeA, site.homeB] { try tool(in: home.name, "conntrack", "-F") }
                }
                #expect(server.server.counters.badTag == 0)
                #expect(server.server.counters.malformed == 0)
            }
        }

        @Test func `two WireGuard hosts behind two NATs get a tunnel and data through it`() throws {
            try withCleanup { cleanup in
                let site = try Site(cleanup)
                let serverKey = PrivateKey.generate(), keyA = PrivateKey.generate(),
                    keyB = PrivateKey.generate()
                let server = try site.server(key: serverKey, allowed: [keyA.publicKey, keyB.publicKey])
                let tunnelA = try site.tunnel(
                    site.a, key: keyA, address: "10.66.66.2", peers: [(keyB.publicKey, "10.66.66.3")])
                let tunnelB = try site.tunnel(
                    site.b, key: keyB, address: "10.66.66.3", peers: [(keyA.publicKey, "10.66.66.2")])
                let clientA = try site.client(
                    keyA, in: site.a, server: serverKey.publicKey, transport: tunnelA)
                let clientB = try site.client(
                    keyB, in: site.b, server: serverKey.publicKey, transport: tunnelB)
                try clientA.start()
                #expect(try site.run(seconds: 5) { clientA.has(.unknownToServer) })
                try clientB.start()
                let up = UInt64(wallClockNanoseconds())
                #expect(
                    try site.run(seconds: 10) { clientA.has(.connected) && clientB.has(.connected) },
                    "\(clientA.events) \(clientB.events)")
                let first = try #require(clientA.peer(keyB.publicKey)?.firstHandshake)
                print("first handshake \(Double(first &- up) / 1e6) ms after the second client started")
                #expect(clientA.peer(keyB.publicKey)?.endpoint == Endpoint("203.0.113.21:51820"))
                #expect(clientB.peer(keyA.publicKey)?.endpoint == Endpoint("203.0.113.20:51820"))
                #expect(try pings(from: site.a.name, to: "10.66.66.3"))
                #expect(
                    try site.run(seconds: 2) {
                        (try? tunnelA.read().peers.first?.persistentKeepalive) == 25
                            && (try? tunnelB.read().peers.first?.persistentKeepalive) == 25
                    })
                #expect(server.server.counters.pushes > 0)
                #expect(clientA.peer(keyB.publicKey)?.attempts ?? 0 <= 1)
                #expect(clientB.peer(keyA.publicKey)?.attempts ?? 0 <= 1)
            }
        }

        @Test func `a restarted server is found again, and the tunnel does not notice`() throws {
            try withCleanup { cleanup in
                let site = try Site(cleanup)
                let serverKey = PrivateKey.generate(), keyA = PrivateKey.generate(),
                    keyB = PrivateKey.generate()
                var server: ServerDriver? = try site.server(key: serverKey)
                let wireguard = try SilentWireGuard(site.a, key: keyA, peers: [keyB.publicKey])
                let client = try site.client(
                    keyA, in: site.a, server: serverKey.publicKey, transport: wireguard)
                try client.start()
                #expect(try site.run(seconds: 5) { client.standing == .registered })
                #expect(server != nil)
                server = nil
                #expect(try site.run(seconds: 10) { client.standing == .silent })
                #expect(client.driver.snapshot().text.contains("does not answer"))
                let second = try site.server(key: serverKey)
                let registered = try site.run(seconds: 3) {
                    second.snapshot().entries.contains { $0.publicKey == keyA.publicKey }
                }
                #expect(registered)
                #expect(try site.run(seconds: 1) { client.standing == .registered })
            }
        }

        @Test func `a server inside the tunnel is refused with the reason`() throws {
            try withCleanup { cleanup in
                let site = try Site(cleanup)
                let serverKey = PrivateKey.generate(), keyA = PrivateKey.generate(),
                    keyB = PrivateKey.generate()
                let wireguard = try SilentWireGuard(site.a, key: keyA, peers: [keyB.publicKey])
                wireguard.device.peers[0].allowedIPs = [try #require(IPPrefix("10.66.66.0/24"))]
                let client = try site.client(
                    keyA, in: site.a, server: serverKey.publicKey, transport: wireguard)
                try client.start(WireAddress(ip: 0x0A42_4201, port: 1234))
                #expect(try site.run(seconds: 5) { client.standing == .insideTunnel })
                #expect(client.driver.snapshot().text.contains("10.66.66.1 lies inside the tunnel"))
                #expect(client.driver.snapshot().counters.handshakesSent == 0)
            }
        }

        @Test func `a host without a route says so`() throws {
            try withCleanup { cleanup in
                let site = try Site(cleanup)
                let serverKey = PrivateKey.generate(), keyA = PrivateKey.generate()
                try tool(in: site.a.name, "ip", "route", "del", "default")
                let wireguard = try SilentWireGuard(site.a, key: keyA, peers: [])
                let client = try site.client(
                    keyA, in: site.a, server: serverKey.publicKey, transport: wireguard)
                try client.start()
                #expect(try site.run(seconds: 5) { client.standing == .socketError })
                #expect(client.driver.snapshot().text.contains("Network is unreachable"))
            }
        }
    }
}
