import NetAddress
import Testing
import WireGuardKeys

@testable import RendezvousProtocol

/// What a server can say afterwards: whom it saw and when, and what it refused.
struct ServerRefusalTests {
    private let stranger = WireAddress(ip: 0xC633_6463, port: 666)

    private func refusals(_ test: TestServer) -> [ServerRefusal] {
        test.server.snapshot(now: test.now).refusals
    }

    @Test func `an init for another server's key is refused from where it came, as nobody's`() throws {
        let test = try TestServer()
        let peer = TestPeer(1, server: testKey(98).publicKey)
        #expect(try !peer.handshake(test))
        let first = ServerRefusal(
            source: peer.address.endpoint, reason: .badTag, publicKey: nil, count: 1, last: test.now.wall)
        #expect(refusals(test) == [first])
        #expect(try !peer.handshake(test))
        #expect(refusals(test).map(\.count) == [2])
        #expect(refusals(test).map(\.last) == [test.now.wall])
        #expect(test.now.wall > first.last)
    }

    @Test func `every reason is told with the key that could be read`() throws {
        var options = ServerOptions(allowed: Set([UInt64(1), 2, 3].map { testKey($0).publicKey }))
        options.maximumClients = 2
        let test = try TestServer(options: options)
        let peer = TestPeer(1, server: test.key.publicKey), other = TestPeer(2, server: test.key.publicKey)
        try peer.register(test)
        try other.register(test)
        func expect(
            _ reason: ServerRefusal.Reason, _ key: PublicKey?, _ comment: Comment,
            _ send: () throws -> [UInt8]
        ) throws {
            test.advance(seconds: 1)
            let datagram = try send()
            #expect(test.deliver(datagram, from: stranger).isEmpty, comment)
            let last = ServerRefusal(
                source: stranger.endpoint, reason: reason, publicKey: key, count: 1, last: test.now.wall)
            #expect(refusals(test).last == last, comment)
        }
        try expect(.malformed, nil, "of a type that clients do not send") { [9] }
        try expect(.unknownSession, nil, "of no session") {
            [3] + [UInt8](repeating: 0, count: WireFormat.lookupSize - 1)
        }
        let lookup = peer.lookup(peer.publicKey)
        try expect(.badTag, peer.publicKey, "changed on the way") {
            lookup.dropLast() + [lookup[lookup.count - 1] ^ 1]
        }
        try expect(.wrongSender, peer.publicKey, "in another's name") {
            peer.lookup(plaintext: other.publicKey.bytes + peer.publicKey.bytes)
        }
        #expect(test.deliver(lookup, from: peer.address).count == 1)
        try expect(.replayedLookup, peer.publicKey, "sent again") { lookup }
        let foreign = TestPeer(4, server: test.key.publicKey)
        try expect(.notAllowed, foreign.publicKey, "of a key that is not served") {
            try foreign.makeInit(timestamp: test.now.wall).message
        }
        let third = TestPeer(3, server: test.key.publicKey)
        try expect(.full, third.publicKey, "of one more than fit") {
            try third.makeInit(timestamp: test.now.wall).message
        }
        try expect(.staleInit, peer.publicKey, "of an older time") {
            try peer.makeInit(timestamp: test.now.wall - 3_600_000_000_000).message
        }
        #expect(Set(refusals(test).map(\.reason)) == Set(ServerRefusal.Reason.allCases))
        let counters = test.server.counters
        #expect(
            UInt64(refusals(test).count)
                == counters.datagrams - counters.handshakes - counters.found - counters.notFound)
    }

    @Test func `what was silent for longest gives way, and no flood holds more than 64`() throws {
        let test = try TestServer()
        let steady = WireAddress(ip: 0xC000_0201, port: 1)
        for number in 0..<UInt32(10_000) {
            if number % 50 == 0 { test.deliver([], from: steady) }
            test.deliver([], from: WireAddress(ip: 0x0A00_0000 + number, port: UInt16(number % 7)))
        }
        let held = refusals(test)
        #expect(held.count == 64)
        #expect(held.first { $0.source == steady.endpoint }?.count == 200)
        #expect(held.last?.source == WireAddress(ip: 0x0A00_0000 + 9_999, port: 9_999 % 7).endpoint)
        let others = Set(held.map(\.source)).subtracting([steady.endpoint])
        let newest = (10_000 - 63..<10_000).map {
            WireAddress(ip: 0x0A00_0000 + UInt32($0), port: UInt16($0 % 7)).endpoint
        }
        #expect(others == Set(newest))
        #expect(test.server.counters.malformed == 10_200, "the counters take all")
    }

    @Test func `one place is told apart by its port and by the reason`() {
        var refusals = ServerRefusals()
        for reason in ServerRefusal.Reason.allCases {
            for port in [UInt16(1), 2, .max] {
                refusals.note(reason, from: WireAddress(ip: .max, port: port), key: nil, wall: 5)
            }
        }
        #expect(refusals.list.count == 24)
        #expect(refusals.list.allSatisfy { $0.count == 1 })
    }

    @Test func `an entry says when its client was first and last seen`() throws {
        let test = try TestServer()
        let peer = TestPeer(1, server: test.key.publicKey)
        func entry() throws -> ServerEntry {
            try #require(test.server.snapshot(now: test.now).entries.first)
        }
        try peer.register(test)
        let first = test.now.wall
        #expect(try entry().firstSeen == first)
        #expect(try entry().lastSeen == first)
        test.advance(seconds: 7)
        _ = peer.ask(test, peer.publicKey)
        #expect(try entry().firstSeen == first)
        #expect(try entry().lastSeen == first + 7_000_000_000)
        // A new session of the same key is the same registration; a refused lookup is no sign of life.
        let again = TestPeer(1, server: test.key.publicKey, instance: 1)
        try again.register(test)
        let last = test.now.wall
        test.advance(seconds: 1)
        #expect(peer.ask(test, peer.publicKey) == nil)
        #expect(try entry().firstSeen == first)
        #expect(try entry().lastSeen == last)
        // One that was forgotten begins anew.
        test.advance(seconds: 700)
        test.server.sweep(now: test.now)
        try TestPeer(1, server: test.key.publicKey, instance: 2).register(test)
        #expect(try entry().firstSeen == test.now.wall)
    }
}
