import NetAddress
import Testing
import WireGuardKeys

@testable import RendezvousProtocol

struct ServerTests {
    @Test func `a repeated lookup is not answered and moves nobody`() throws {
        let test = try TestServer()
        let peer = TestPeer(1, server: test.key.publicKey)
        try peer.register(test)
        let lookup = peer.lookup(peer.publicKey)
        #expect(test.deliver(lookup, from: peer.address).count == 1)
        #expect(test.deliver(lookup, from: WireAddress(ip: 0xC633_6463, port: 1)).isEmpty)
        #expect(test.server.counters.replayedLookup == 1)
        #expect(test.endpoint(of: peer.publicKey) == peer.address.endpoint)
    }

    @Test func `a lookup held back until the client went on is refused`() throws {
        let test = try TestServer()
        let peer = TestPeer(1, server: test.key.publicKey)
        try peer.register(test)
        let held = peer.lookup(peer.publicKey)
        #expect(peer.ask(test, peer.publicKey) != nil)
        #expect(test.deliver(held, from: WireAddress(ip: 0xC633_6463, port: 1)).isEmpty)
        #expect(test.endpoint(of: peer.publicKey) == peer.address.endpoint)
    }

    @Test func `a held-back lookup of an older handshake cannot displace the newer one`() throws {
        let test = try TestServer()
        let older = TestPeer(1, server: test.key.publicKey),
            newer = TestPeer(1, server: test.key.publicKey, instance: 1)
        #expect(try older.handshake(test))
        let held = older.lookup(older.publicKey)
        #expect(try newer.handshake(test))
        #expect(newer.ask(test, newer.publicKey) == bytes(of: newer.address))
        #expect(test.deliver(held, from: WireAddress(ip: 0xC633_6463, port: 1)).isEmpty)
        #expect(test.endpoint(of: newer.publicKey) == newer.address.endpoint)
    }

    @Test func `an unconfirmed handshake leaves the live session alone`() throws {
        let test = try TestServer()
        let live = TestPeer(1, server: test.key.publicKey),
            second = TestPeer(1, server: test.key.publicKey, instance: 1)
        try live.register(test)
        #expect(try second.handshake(test))
        #expect(live.ask(test, live.publicKey) == bytes(of: live.address))
        #expect(second.ask(test, second.publicKey) == bytes(of: second.address))
        #expect(live.ask(test, live.publicKey) == nil, "confirmed: the former session is gone")
    }

    @Test func `a lookup that names another sender is refused`() throws {
        let test = try TestServer()
        let peer = TestPeer(1, server: test.key.publicKey), other = TestPeer(2, server: test.key.publicKey)
        try peer.register(test)
        let lookup = peer.lookup(plaintext: other.publicKey.bytes + peer.publicKey.bytes)
        #expect(test.deliver(lookup, from: peer.address).isEmpty)
        #expect(test.server.counters.wrongSender == 1)
    }

    @Test func `the zero key is never found`() throws {
        let test = try TestServer()
        let peer = TestPeer(1, server: test.key.publicKey)
        try peer.register(test)
        #expect(peer.ask(test, PublicKey.zero) == [])
    }

    @Test func `a moved client is found at its new address`() throws {
        let test = try TestServer()
        let peer = TestPeer(1, server: test.key.publicKey), other = TestPeer(2, server: test.key.publicKey)
        try peer.register(test)
        try other.register(test)
        let elsewhere = WireAddress(ip: 0xC633_6410, port: 2000)
        #expect(peer.ask(test, peer.publicKey, from: elsewhere) == bytes(of: elsewhere))
        #expect(other.ask(test, peer.publicKey) == bytes(of: elsewhere))
        #expect(
            test.events.contains(.moved(peer.publicKey, from: peer.address.endpoint, to: elsewhere.endpoint)))
    }

    @Test func `pending handshakes are bounded and expire, and take unregistered keys with them`() throws {
        var options = ServerOptions()
        options.maximumPending = 10
        let test = try TestServer(options: options)
        for number in 0..<50 {
            #expect(try TestPeer(UInt64(2000 + number), server: test.key.publicKey).handshake(test))
        }
        #expect(test.server.tables.pendingCount == 10)
        #expect(test.server.tables.clientCount == 10)
        test.advance(seconds: 11)
        test.server.sweep(now: test.now)
        #expect(test.server.tables.pendingCount == 0)
        #expect(test.server.tables.clientCount == 0)
    }

    @Test func `one key holds at most four pending handshakes`() throws {
        let test = try TestServer()
        for run in UInt64(0)..<20 {
            #expect(try TestPeer(1, server: test.key.publicKey, instance: run).handshake(test))
        }
        #expect(test.server.tables.pendingCount == 4)
        #expect(test.server.tables.clientCount == 1)
    }

    @Test func `no more keys are held than allowed`() throws {
        var options = ServerOptions()
        options.maximumClients = 3
        let test = try TestServer(options: options)
        for number in 0..<3 { try TestPeer(UInt64(number), server: test.key.publicKey).register(test) }
        #expect(try !TestPeer(9, server: test.key.publicKey).handshake(test))
        #expect(test.server.counters.full == 1)
        #expect(
            try TestPeer(1, server: test.key.publicKey, instance: 1).handshake(test),
            "known keys are still served")
    }

    @Test func `a client without the announcement gets plain answers and no pushes`() throws {
        let test = try TestServer()
        let plain = TestPeer(1, server: test.key.publicKey), other = TestPeer(2, server: test.key.publicKey)
        let pending = try plain.makeInit(timestamp: test.now.wall)
        let response = try #require(test.deliver(pending.message, from: plain.address).first?.bytes)
        #expect(response.count == WireFormat.responseSize)
        #expect(try plain.finish(pending, response) == [])
        #expect(plain.ask(test, other.publicKey) == [])
        try other.register(test, extra: WireFormat.announcement)
        let output = test.deliver(other.lookup(plain.publicKey), from: other.address)
        #expect(output.count == 1)
        #expect(output.first.map { $0.to } == other.address)
        #expect(test.server.counters.pushes == 0)
    }

    /// Each client listens to the one address of the server's that it asks.
    @Test func `responses, replies and pushes leave from the address that their client asked`() throws {
        let test = try TestServer()
        let waiter = TestPeer(1, server: test.server.publicKey)
        let peer = TestPeer(2, server: test.server.publicKey)
        func greet(_ client: TestPeer, at local: UInt32) throws {
            test.advance(seconds: 0.001)
            let pending = try client.makeInit(timestamp: test.now.wall, extra: WireFormat.announcement)
            let answer = try #require(
                test.deliver(pending.message, from: client.address, at: local).first)
            #expect(answer.from == local)
            _ = try client.finish(pending, answer.bytes)
        }
        try greet(waiter, at: 11)
        let reply = test.deliver(waiter.lookup(peer.publicKey), from: waiter.address, at: 11)
        #expect(reply.map(\.from) == [11])
        try greet(peer, at: 10)
        var output = test.deliver(peer.lookup(peer.publicKey), from: peer.address, at: 10)
        #expect(output.first { $0.to == peer.address }?.from == 10)
        #expect(output.first { $0.to == waiter.address }?.from == 11, "the push")
        // The waiter turns to another address of the same server: that is no news to others, but where pushes leave from.
        output = test.deliver(waiter.lookup(waiter.publicKey), from: waiter.address, at: 12)
        #expect(output.map(\.from) == [12])
        output = test.deliver(peer.lookup(waiter.publicKey), from: peer.address, at: 10)
        #expect(output.first { $0.to == waiter.address }?.from == 12)
    }

    @Test func `an awaited peer's registration and its moves are pushed`() throws {
        let test = try TestServer()
        let waiter = TestPeer(1, server: test.key.publicKey), late = TestPeer(2, server: test.key.publicKey)
        #expect(try waiter.handshake(test, extra: WireFormat.announcement))
        #expect(waiter.ask(test, late.publicKey) == [])

        #expect(try late.handshake(test, extra: WireFormat.announcement))
        var output = test.deliver(late.lookup(late.publicKey), from: late.address)
        var push = try #require(output.first { $0.to == waiter.address }?.bytes)
        #expect(push.count == WireFormat.pushSize)
        #expect(push[0] == WireFormat.pushType)
        var message = try #require(waiter.open(push)?.withUnsafeBytes { PushMessage(plaintext: $0) })
        #expect(
            message
                == PushMessage(
                    kind: .moved, peerPunches: true, address: late.address, peer: RawKey(late.publicKey)))

        let elsewhere = WireAddress(ip: 0xC633_6410, port: 2000)
        output = test.deliver(late.lookup(late.publicKey), from: elsewhere)
        push = try #require(output.first { $0.to == waiter.address }?.bytes)
        message = try #require(waiter.open(push)?.withUnsafeBytes { PushMessage(plaintext: $0) })
        #expect(message.address == elsewhere)

        output = test.deliver(late.lookup(late.publicKey), from: elsewhere)
        #expect(output.count == 1, "no news, no push")
    }

    @Test func `a looked-up peer learns who asked and from where`() throws {
        let test = try TestServer()
        let asked = TestPeer(1, server: test.key.publicKey), asker = TestPeer(2, server: test.key.publicKey)
        try asked.register(test, extra: WireFormat.announcement)
        try asker.register(test, extra: WireFormat.announcement)
        let output = test.deliver(asker.lookup(asked.publicKey), from: asker.address)
        let push = try #require(output.first { $0.to == asked.address }?.bytes)
        let message = try #require(asked.open(push)?.withUnsafeBytes { PushMessage(plaintext: $0) })
        #expect(
            message
                == PushMessage(
                    kind: .asked, peerPunches: true, address: asker.address, peer: RawKey(asker.publicKey)))
    }

    @Test func `awaited peers are bounded for each client`() throws {
        var options = ServerOptions()
        options.maximumAwaited = 5
        let test = try TestServer(options: options)
        let waiter = TestPeer(1, server: test.key.publicKey)
        #expect(try waiter.handshake(test, extra: WireFormat.announcement))
        for number in UInt64(100)..<150 { #expect(waiter.ask(test, testKey(number).publicKey) == []) }
        #expect(test.server.tables.waiters.count == 5)
        test.advance(seconds: 700)
        test.server.sweep(now: test.now)
        #expect(test.server.tables.waiters.isEmpty, "and go with it")
    }

    /// Random datagrams of all lengths, truncations and bit flips of honest ones: no answer that matters, no harm.
    @Test(arguments: 0..<8) func `every datagram is survived`(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let test = try TestServer(seed: seed)
        let peer = TestPeer(1, server: test.key.publicKey)
        try peer.register(test)
        let attacker = WireAddress(ip: 0xC633_6463, port: 666)
        for length in 0...1500 {
            var bytes = (0..<length).map { _ in UInt8.random(in: 0...255, using: &generator) }
            if length > 0, Bool.random(using: &generator) {
                bytes[0] = UInt8.random(in: 1...3, using: &generator)
            }
            if length > 5, Bool.random(using: &generator) {
                bytes.replaceSubrange(1...4, with: bigEndian(peer.index))
            }
            #expect(test.deliver(bytes, from: attacker).isEmpty)
        }
        let lookup = peer.lookup(peer.publicKey)
        let greeting = try peer.makeInit(timestamp: test.now.wall + 1).message
        for honest in [lookup, greeting] {
            for length in 0..<honest.count {
                #expect(test.deliver(Array(honest.prefix(length)), from: attacker).isEmpty)
            }
        }
        for bit in 0..<(lookup.count * 8) {
            var flipped = lookup
            flipped[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(test.deliver(flipped, from: attacker).isEmpty)
        }
        for _ in 0..<40 {
            var flipped = greeting
            let bit = Int.random(in: 40..<(greeting.count * 8), using: &generator)
            flipped[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(test.deliver(flipped, from: attacker).isEmpty)
        }
        #expect(test.deliver(lookup, from: peer.address).count == 1)
        #expect(test.endpoint(of: peer.publicKey) == peer.address.endpoint)
        let counters = test.server.counters
        let outcomes =
            counters.handshakes + counters.found + counters.notFound + counters.malformed
            + counters.unknownType
            + counters.unknownSession + counters.badTag + counters.staleInit + counters.replayedLookup
            + counters.notAllowed + counters.wrongSender + counters.full
        #expect(outcomes == counters.datagrams, "each datagram is counted once, by its outcome")
    }
}
