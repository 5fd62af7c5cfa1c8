import Glibc
import NetAddress
import RendezvousProtocol
import RendezvousService
import SystemCalls
import TestSupport
import Testing
import WireGuardKeys

extension Privileged {
    /// A server with two addresses on one link; the first is the one that the routing table prefers.
    ///
    ///     hub 203.0.113.10 and 203.0.113.11 ---- net ---- home-a ---- a
    ///                                             |
    ///                                             +------ home-b ---- b
    struct MultiHomedTests {
        private static let second = WireAddress(ip: 0xCB00_710B, port: 1234)

        @Test func `answers and pushes come from the address that was asked`() throws {
            try withCleanup { cleanup in
                let site = try Site(cleanup)
                try tool(in: site.hub.name, "ip", "addr", "add", "203.0.113.11/24", "dev", "eth0")
                let serverKey = PrivateKey.generate(), keyA = PrivateKey.generate(),
                    keyB = PrivateKey.generate()
                let server = try site.server(key: serverKey)
                let wireguardA = try SilentWireGuard(site.a, key: keyA, peers: [keyB.publicKey])
                let wireguardB = try SilentWireGuard(site.b, key: keyB, peers: [keyA.publicKey])
                let clientA = try site.client(
                    keyA, in: site.a, server: serverKey.publicKey, transport: wireguardA)
                let clientB = try site.client(
                    keyB, in: site.b, server: serverKey.publicKey, transport: wireguardB)
                try clientA.start(Self.second)
                #expect(
                    try site.run(seconds: 10) { clientA.has(.registered) && clientA.has(.unknownToServer) },
                    "\(clientA.driver.snapshot().text)")
                #expect(clientA.driver.snapshot().counters.handshakesSent == 1, "the first was answered")
                // B asks the first address; what A hears of it comes from the second.
                try clientB.start()
                #expect(
                    try site.run(seconds: 10) { clientA.has(.punched) && clientB.has(.punched) },
                    "\(clientA.events) \(clientB.events)")
                #expect(try site.run(seconds: 2) { clientA.driver.snapshot().counters.pushes > 0 })
                #expect(clientA.driver.snapshot().counters.lostReplies == 0)
                #expect(server.sendFailures == 0)
            }
        }

        @Test func `an address that is taken away ends neither the server nor its other clients`() throws {
            try withCleanup { cleanup in
                let site = try Site(cleanup)
                try tool(in: site.hub.name, "ip", "addr", "add", "203.0.113.11/24", "dev", "eth0")
                let serverKey = PrivateKey.generate(), keyA = PrivateKey.generate(),
                    keyB = PrivateKey.generate()
                let server = try site.server(key: serverKey)
                let wireguardA = try SilentWireGuard(site.a, key: keyA, peers: [keyB.publicKey])
                let wireguardB = try SilentWireGuard(site.b, key: keyB, peers: [keyA.publicKey])
                let clientA = try site.client(
                    keyA, in: site.a, server: serverKey.publicKey, transport: wireguardA)
                let clientB = try site.client(
                    keyB, in: site.b, server: serverKey.publicKey, transport: wireguardB)
                try clientA.start(Self.second)
                #expect(try site.run(seconds: 10) { clientA.has(.registered) })
                try tool(in: site.hub.name, "ip", "addr", "del", "203.0.113.11/24", "dev", "eth0")
                // B's arrival is news to A, which can no longer be told from where it listens to.
                try clientB.start()
                #expect(try site.run(seconds: 10) { clientB.peer(keyA.publicKey)?.resolved != nil })
                #expect(clientB.driver.snapshot().counters.lostReplies == 0)
                #expect(try site.run(seconds: 5) { server.sendFailures > 0 })
                #expect([ENETUNREACH, EINVAL].contains(server.lastSendFailure), "by the kernel's version")
            }
        }
    }
}
