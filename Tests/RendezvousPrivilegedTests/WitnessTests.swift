import NetAddress
import RendezvousProtocol
import RendezvousService
import SystemCalls
import TestSupport
import Testing
import WireGuardControl
import WireGuardKeys

extension Privileged {
    /// Against an implementation of natpunch-go's protocol that shares no code with this one.
    struct WitnessTests {
        @Test func `the witness's client registers and asks at natlab's server, and is never pushed to`()
            throws
        {
            try withCleanup { cleanup in
                let site = try Site(cleanup)
                let serverKey = PrivateKey.generate(), keyA = PrivateKey.generate(),
                    keyB = PrivateKey.generate()
                let stranger = PrivateKey.generate().publicKey
                let server = try site.server(key: serverKey)
                let witness = try Witness(
                    site, in: site.b, key: keyB,
                    [
                        "client", "203.0.113.10:1234", Witness.hex(serverKey.publicKey.bytes), "51820", "60",
                        "plain",
                        Witness.hex(keyA.publicKey.bytes), Witness.hex(stranger.bytes),
                    ])
                #expect(
                    try site.run(seconds: 10) { witness.has { $0.event == "answer" && $0.endpoint == nil } })

                let wireguard = try SilentWireGuard(site.a, key: keyA, peers: [keyB.publicKey])
                let client = try site.client(
                    keyA, in: site.a, server: serverKey.publicKey, transport: wireguard)
                try client.start()
                let found = try site.run(seconds: 10) { witness.has { $0.endpoint == "203.0.113.20:51820" } }
                #expect(found, "\(witness.text)")
                #expect(try site.run(seconds: 5) { client.peer(keyB.publicKey)?.resolved != nil })
                #expect(client.peer(keyB.publicKey)?.resolved == Endpoint("203.0.113.21:51820"))
                let lines = try witness.lines()
                #expect(
                    !lines.contains {
                        $0.event == "surprise" || $0.event == "timeout" || $0.event == "silent"
                    })
                #expect(
                    !lines.contains { $0.target == Witness.hex(stranger.bytes) && $0.endpoint != nil })
                #expect(
                    server.snapshot().entries.contains { $0.publicKey == keyB.publicKey && !$0.takesPushes })
            }
        }

        @Test(arguments: [false, true]) func `natlab's client registers and asks at the witness's server`(
            duplicate: Bool
        ) throws {
            try withCleanup { cleanup in
                try askWitness(
                    try Site(cleanup), duplicate ? ["server", "1234", "duplicate"] : ["server", "1234"])
            }
        }

        private func askWitness(_ site: Site, _ arguments: [String]) throws {
            let serverKey = PrivateKey.generate(), keyA = PrivateKey.generate(), keyB = PrivateKey.generate()
            let stranger = PrivateKey.generate().publicKey
            let witness = try Witness(site, in: site.hub, key: serverKey, arguments)
            #expect(try site.run(seconds: 10) { witness.has { $0.event == "serving" } })
            let wireguardA = try SilentWireGuard(site.a, key: keyA, peers: [keyB.publicKey, stranger])
            let wireguardB = try SilentWireGuard(site.b, key: keyB, peers: [stranger, keyA.publicKey])
            let clientA = try site.client(
                keyA, in: site.a, server: serverKey.publicKey, transport: wireguardA)
            let clientB = try site.client(
                keyB, in: site.b, server: serverKey.publicKey, transport: wireguardB)
            try clientA.start()
            try clientB.start()
            let punched = try site.run(seconds: 10) { clientA.has(.punched) && clientB.has(.punched) }
            #expect(punched, "\(clientA.events) \(witness.text)")
            #expect(clientA.peer(keyB.publicKey)?.resolved == Endpoint("203.0.113.21:51820"))
            #expect(clientB.peer(keyA.publicKey)?.resolved == Endpoint("203.0.113.20:51820"))
            #expect(try site.run(seconds: 5) { clientA.peer(stranger)?.phase == .unknownToServer })
            #expect(clientA.driver.snapshot().takesPushes == false)
            #expect(
                witness.has { $0.event == "handshake" && $0.payload == 18 },
                "timestamp, announcement, address")
            if arguments.contains("duplicate") {
                let refused = try site.run(seconds: 5) {
                    clientA.driver.snapshot().counters.refusedReplies > 3
                }
                #expect(refused, "the copies were noticed")
            }
            #expect(clientA.peer(keyB.publicKey)?.resolved == Endpoint("203.0.113.21:51820"))
            #expect(clientA.peer(stranger)?.resolved == nil)
        }

        /// The peer is natpunch-go's kind: its endpoint is set without any punch, when it has been asked for.
        @Test func `a host with natlab's client and one with the witness's get a tunnel`() throws {
            try withCleanup { cleanup in
                let site = try Site(cleanup)
                let serverKey = PrivateKey.generate(), keyA = PrivateKey.generate(),
                    keyB = PrivateKey.generate()
                let server = try site.server(key: serverKey)
                let tunnelA = try site.tunnel(
                    site.a, key: keyA, address: "10.66.66.2", peers: [(keyB.publicKey, "10.66.66.3")])
                let tunnelB = try site.tunnel(
                    site.b, key: keyB, address: "10.66.66.3", peers: [(keyA.publicKey, "10.66.66.2")])
                let client = try site.client(
                    keyA, in: site.a, server: serverKey.publicKey, transport: tunnelA)
                try client.start()
                let witness = try Witness(
                    site, in: site.b, key: keyB,
                    [
                        "client", "203.0.113.10:1234", Witness.hex(serverKey.publicKey.bytes), "51820", "60",
                        "raw",
                        Witness.hex(keyA.publicKey.bytes),
                    ])
                let place = Endpoint("203.0.113.20:51820")
                let found = try site.run(seconds: 10) { witness.has { $0.endpoint == place?.description } }
                #expect(found, "\(witness.text)")
                // What natpunch-go's client does with an answer.
                try tunnelB.apply(
                    WireGuardChange(peers: [
                        WireGuardPeerChange(
                            publicKey: keyA.publicKey, updateOnly: true, endpoint: place,
                            persistentKeepalive: 25)
                    ]))
                #expect(try site.run(seconds: 15) { client.has(.connected) }, "\(client.events)")
                #expect(try pings(from: site.a.name, to: "10.66.66.3"))
                #expect(server.server.counters.badTag == 0)
            }
        }
    }
}
