import NetAddress
import Testing
import WireGuardKeys

@testable import RendezvousProtocol

/// Hosts that share an external address, and perhaps a network.
struct SharedNATTests {
    private static let external: UInt32 = 0xCB00_7114  // 203.0.113.20

    private func peers(_ hosts: [SimulatedHost]) {
        for host in hosts { for other in hosts where other !== host { host.addPeer(other) } }
    }

    private func areConnected(_ a: SimulatedHost, _ b: SimulatedHost) -> Bool {
        a.isConnected(to: b) && b.isConnected(to: a)
    }

    /// ```
    ///   host 0 192.168.1.2 ---+
    ///   host 1 192.168.1.3 ---+--- NAT 203.0.113.20 --- server
    /// ```
    @Test(arguments: SimulatedNAT.Behaviour.all, [0, 700, 5000] as [UInt64])
    func `two hosts behind one NAT that does not hairpin meet at their local addresses`(
        behaviour: SimulatedNAT.Behaviour, wait: UInt64
    ) throws {
        let simulation = try Simulation(seed: wait)
        let nat = SimulatedNAT(behaviour, ip: Self.external, on: simulation.internet)
        let hosts = [UInt32(2), 3].enumerated().map {
            SimulatedHost($0.offset, in: simulation, behind: nat, ip: 0xC0A8_0100 + $0.element)
        }
        peers(hosts)
        try hosts[0].startClient()
        simulation.run(seconds: Double(wait) / 1e3)
        try hosts[1].startClient()
        let start = simulation.now.wall
        #expect(simulation.run(seconds: 5) { areConnected(hosts[0], hosts[1]) })
        #expect(simulation.now.wall - start < 100_000_000)
        simulation.run(seconds: 60)
        for (host, other) in [(hosts[0], hosts[1]), (hosts[1], hosts[0])] {
            let local = WireAddress(ip: other.ip, port: other.listenPort).endpoint
            #expect(host.tunnels[0].view.endpoint == local)
            #expect(host.snapshot(of: other)?.local == local)
            #expect(host.snapshot(of: other)?.phase == .connected)
            #expect(host.endpointsSet.allSatisfy { $0.endpoint == local && !$0.live })
            #expect(host.events.filter { $0.kind == .localAddress }.count == 1)
        }
        #expect(hosts[0].initsSent + hosts[1].initsSent == 1)
    }

    /// ```
    ///   host 0 192.168.1.2 --- NAT 100.64.0.2 ---+
    ///   host 1 192.168.1.2 --- NAT 100.64.0.3 ---+--- carrier's NAT 203.0.113.20 --- server
    /// ```
    @Test(arguments: [2, 3] as [UInt32])
    func `two homes behind one carrier's NAT are not mistaken for one`(secondHost: UInt32) throws {
        let simulation = try Simulation(seed: 3)
        let carrier = SimulatedNAT(.portRestricted, ip: Self.external, on: simulation.internet)
        let homes = (UInt32(2)...3).map {
            SimulatedNAT(.portRestricted, ip: 0x6440_0000 + $0, on: carrier.inner)
        }
        let hosts = [
            SimulatedHost(0, in: simulation, behind: homes[0], ip: 0xC0A8_0102),
            SimulatedHost(1, in: simulation, behind: homes[1], ip: 0xC0A8_0100 + secondHost),
        ]
        // A stranger in the first home, where the second home's host would be.
        _ = SimulatedHost(2, in: simulation, behind: homes[0], ip: 0xC0A8_0103)
        peers(hosts)
        for host in hosts { try host.startClient() }
        simulation.run(seconds: 40)
        #expect(!areConnected(hosts[0], hosts[1]))
        for (host, other) in [(hosts[0], hosts[1]), (hosts[1], hosts[0])] {
            #expect(!host.targets.contains { $0.ip == host.ip }, "never itself")
            #expect(host.targets.contains { $0.ip == other.ip } == (secondHost != 2))
            #expect(!host.endpointsSet.isEmpty)
            #expect(host.endpointsSet.allSatisfy { $0.endpoint.address == IPAddress(v4: Self.external) })
            #expect(host.snapshot(of: other)?.phase == .handshaking)
        }
    }

    /// ```
    ///   host 0 192.168.1.2 --- NAT 100.64.0.2 ---+
    ///   host 1 100.64.0.3 -----------------------+--- carrier's NAT 203.0.113.20 --- server
    /// ```
    @Test func `a host on the carrier's own network is met from a home behind it`() throws {
        let simulation = try Simulation(seed: 4)
        let carrier = SimulatedNAT(.symmetric, ip: Self.external, on: simulation.internet)
        let home = SimulatedNAT(.portRestricted, ip: 0x6440_0002, on: carrier.inner)
        let hosts = [
            SimulatedHost(0, in: simulation, behind: home, ip: 0xC0A8_0102),
            SimulatedHost(1, in: simulation, behind: carrier, ip: 0x6440_0003),
        ]
        peers(hosts)
        for host in hosts { try host.startClient() }
        #expect(simulation.run(seconds: 1) { areConnected(hosts[0], hosts[1]) })
        #expect(hosts[1].tunnels[0].view.endpoint?.address == IPAddress(v4: 0x6440_0002))
    }

    /// Both addresses are open: the local one and, over the hairpin, the external one.
    @Test(arguments: SimulatedNAT.Behaviour.all, [1, 30] as [UInt64])
    func `of two ways that are open the first stays`(behaviour: SimulatedNAT.Behaviour, delay: UInt64) throws
    {
        let weather = Simulation.Weather(delay: delay * 1_000_000, jitter: 3)
        let simulation = try Simulation(seed: 8, weather: weather)
        let nat = SimulatedNAT(behaviour, ip: Self.external, on: simulation.internet)
        nat.hairpins = true
        let hosts = [UInt32(2), 3].enumerated().map {
            SimulatedHost($0.offset, in: simulation, behind: nat, ip: 0xC0A8_0100 + $0.element)
        }
        peers(hosts)
        for host in hosts { try host.startClient() }
        #expect(simulation.run(seconds: 2) { areConnected(hosts[0], hosts[1]) })
        let endpoints = hosts.map { $0.tunnels[0].view.endpoint }
        simulation.run(seconds: 400)
        #expect(hosts.map { $0.tunnels[0].view.endpoint } == endpoints)
        #expect(hosts.reduce(0) { $0 + $1.endpointsSet.count } == 1, "by the side that starts")
        for host in hosts { #expect(!host.events.contains { $0.kind == .sessionLost }) }
    }

    @Test func `with a server that pushes nothing, as natpunch-go's, nothing local is tried`() throws {
        var options = ServerOptions()
        options.pushes = false
        let simulation = try Simulation(seed: 5, serverOptions: options)
        let nat = SimulatedNAT(.portRestricted, ip: Self.external, on: simulation.internet)
        let hosts = [UInt32(2), 3].enumerated().map {
            SimulatedHost($0.offset, in: simulation, behind: nat, ip: 0xC0A8_0100 + $0.element)
        }
        peers(hosts)
        for host in hosts { try host.startClient() }
        simulation.run(seconds: 20)
        #expect(!areConnected(hosts[0], hosts[1]))
        for host in hosts {
            #expect(host.client?.standing == .registered)
            #expect(!host.targets.contains { $0.ip & 0xFFFF_0000 == 0xC0A8_0000 })
            #expect(!host.endpointsSet.isEmpty, "blindly, as ever")
        }
    }

    @Test func `a local address inside the tunnel is refused`() throws {
        let simulation = try Simulation(seed: 6)
        let nat = SimulatedNAT(.portRestricted, ip: Self.external, on: simulation.internet)
        let hosts = [UInt32(2), 3].enumerated().map {
            SimulatedHost($0.offset, in: simulation, behind: nat, ip: 0xC0A8_0100 + $0.element)
        }
        let own = try #require(IPPrefix("192.168.1.0/24"))
        hosts[0].addPeer(hosts[1], allowedIPs: [own])
        hosts[1].addPeer(hosts[0], allowedIPs: [own])
        for host in hosts { try host.startClient() }
        simulation.run(seconds: 10)
        for host in hosts {
            #expect(!host.targets.contains { own.contains(IPAddress(v4: $0.ip)) })
            #expect(host.client?.standing == .registered)
        }
    }

    @Test func `a host whose own address changes tells the server, and its peer hears of it`() throws {
        let simulation = try Simulation(seed: 7)
        let nat = SimulatedNAT(.portRestricted, ip: Self.external, on: simulation.internet)
        let hosts = [UInt32(2), 3].enumerated().map {
            SimulatedHost($0.offset, in: simulation, behind: nat, ip: 0xC0A8_0100 + $0.element)
        }
        peers(hosts)
        for host in hosts { host.routeSource = IPAddress(v4: host.ip + 90) }
        for host in hosts { try host.startClient() }
        simulation.run(seconds: 6)
        #expect(!areConnected(hosts[0], hosts[1]), "nobody is at 192.168.1.92 or .93")
        hosts[1].routeSource = IPAddress(v4: hosts[1].ip)
        #expect(simulation.run(seconds: 12) { areConnected(hosts[0], hosts[1]) })
        #expect(hosts[0].snapshot(of: hosts[1])?.local == Endpoint(IPAddress(v4: hosts[1].ip), port: 51820))
    }

    // MARK: The server

    private static let lan = WireAddress(ip: 0xC0A8_0102, port: 51820)
    private static let otherLAN = WireAddress(ip: 0xC0A8_0103, port: 51820)

    /// The pushes to each, after one has registered and the other asked for it, both from the addresses given.
    private func pushes(
        _ first: (announcement: [UInt8], from: WireAddress),
        _ second: (announcement: [UInt8], from: WireAddress)
    ) throws -> [[PushMessage]] {
        let test = try TestServer()
        let one = TestPeer(1, server: test.key.publicKey), two = TestPeer(2, server: test.key.publicKey)
        var result: [[PushMessage]] = [[], []]
        func deliver(_ datagram: [UInt8], from source: WireAddress) {
            for output in test.deliver(datagram, from: source) where output.bytes[0] == WireFormat.pushType {
                #expect(output.bytes.count == WireFormat.pushSize)
                let isFirst = output.to == first.from
                let plain = (isFirst ? one : two).open(output.bytes)
                if let push = plain?.withUnsafeBytes({ PushMessage(plaintext: $0) }) {
                    #expect(push.peer == RawKey((isFirst ? two : one).publicKey))
                    result[isFirst ? 0 : 1].append(push)
                }
            }
        }
        #expect(try one.handshake(test, extra: first.announcement))
        deliver(one.lookup(one.publicKey), from: first.from)
        #expect(try two.handshake(test, extra: second.announcement))
        deliver(two.lookup(one.publicKey), from: second.from)
        return result
    }

    private func natlab(_ local: WireAddress) -> [UInt8] {
        ClientAnnouncement(takesPushes: true, local: local).bytes
    }

    @Test func `local addresses go only to natlab's clients with the same external address`() throws {
        let one = WireAddress(ip: Self.external, port: 1000), two = WireAddress(ip: Self.external, port: 2000)
        let elsewhere = WireAddress(ip: Self.external + 1, port: 2000)
        let both = try pushes((natlab(Self.lan), one), (natlab(Self.otherLAN), two))
        #expect(both[0].map(\.kind) == [.asked, .local])
        #expect(both[0].last?.address == Self.otherLAN)
        #expect(both[1].map(\.kind) == [.local])
        #expect(both[1].last?.address == Self.lan)

        let apart = try pushes((natlab(Self.lan), one), (natlab(Self.otherLAN), elsewhere))
        #expect(apart.map { $0.map(\.kind) } == [[.asked], []])
        // A natlab that tells none hears none, and natpunch-go's gets no push at all.
        let older = try pushes((natlab(Self.lan), one), (WireFormat.announcement, two))
        #expect(older.map { $0.map(\.kind) } == [[.asked], []])
        let plain = try pushes((natlab(Self.lan), one), ([], two))
        #expect(plain.map { $0.map(\.kind) } == [[], []])
        // Not behind a NAT: the address seen is the local one.
        let open = try pushes((natlab(one), one), (natlab(Self.otherLAN), two))
        #expect(open.map { $0.map(\.kind) } == [[.asked, .local], []])
    }

    @Test func `a replayed init does not change the local address`() throws {
        let test = try TestServer()
        let peer = TestPeer(1, server: test.key.publicKey)
        try peer.register(test, extra: natlab(Self.lan))
        let number = try #require(test.server.tables.client(RawKey(peer.publicKey)))
        #expect(test.server.tables[client: number].inside == Self.lan)
        let second = TestPeer(1, server: test.key.publicKey, instance: 1)
        #expect(try second.handshake(test, extra: natlab(Self.otherLAN)))
        #expect(test.server.tables[client: number].inside == Self.lan, "no lookup has confirmed it yet")
        #expect(second.ask(test, second.publicKey) != nil)
        #expect(test.server.tables[client: number].inside == Self.otherLAN)
    }

    @Test func `an announcement of any length is read without harm`() {
        let whole = natlab(Self.lan)
        #expect(whole.count == 10)
        for length in 0..<10 {
            let read = whole.prefix(length).withUnsafeBytes { ClientAnnouncement($0) }
            #expect(read == ClientAnnouncement(takesPushes: length >= 4))
        }
        #expect((whole + [1, 2, 3]).withUnsafeBytes { ClientAnnouncement($0) }.local == Self.lan)
        let multicast = natlab(WireAddress(ip: 0xE000_0001, port: 1))
        #expect(multicast.withUnsafeBytes { ClientAnnouncement($0) }.local == nil)
    }
}
