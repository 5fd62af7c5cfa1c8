import NetAddress
import Testing
import WireGuardKeys

@testable import RendezvousProtocol

/// The faults measured in natpunch-go's server, one test each: none of them is here.
struct ServerFaultTests {
    /// An honest pair keeps working: the sign that nothing was harmed.
    private func expectAlive(_ test: TestServer, _ comment: Comment) throws {
        let first = TestPeer(11, server: test.key.publicKey),
            second = TestPeer(12, server: test.key.publicKey)
        try first.register(test)
        try second.register(test)
        #expect(first.ask(test, second.publicKey) == bytes(of: second.address), comment)
    }

    @Test func `an empty datagram is survived`() throws {
        let test = try TestServer()
        #expect(test.deliver([], from: WireAddress(ip: 1, port: 1)).isEmpty)
        #expect(test.server.counters.malformed == 1)
        try expectAlive(test, "after an empty datagram")
    }

    @Test(arguments: 1...4) func `an init of 1 to 4 bytes is survived`(length: Int) throws {
        let test = try TestServer()
        #expect(
            test.deliver([1] + [UInt8](repeating: 0, count: length - 1), from: WireAddress(ip: 1, port: 1))
                .isEmpty)
        #expect(test.server.counters.malformed == 1)
        try expectAlive(test, "after a short init")
    }

    @Test(arguments: 1...4) func `a lookup of 1 to 4 bytes is survived`(length: Int) throws {
        let test = try TestServer()
        #expect(
            test.deliver([3] + [UInt8](repeating: 0, count: length - 1), from: WireAddress(ip: 1, port: 1))
                .isEmpty)
        #expect(test.server.counters.malformed == 1)
        try expectAlive(test, "after a short lookup")
    }

    @Test(arguments: 5...12) func `a lookup of 5 to 12 bytes with a live index is survived`(length: Int)
        throws
    {
        let test = try TestServer()
        let peer = TestPeer(1, server: test.key.publicKey)
        try peer.register(test)
        #expect(test.deliver(Array(peer.lookup(peer.publicKey).prefix(length)), from: peer.address).isEmpty)
        #expect(test.server.counters.malformed == 1)
        try expectAlive(test, "after a cut lookup")
    }

    @Test func `a lookup for an index whose session was replaced is survived`() throws {
        let test = try TestServer()
        let peer = TestPeer(1, server: test.key.publicKey)
        try peer.register(test)
        let stale = peer.lookup(peer.publicKey)
        try peer.register(test)
        #expect(test.deliver(stale, from: peer.address).isEmpty)
        #expect(test.server.counters.unknownSession == 1)
        try expectAlive(test, "after a lookup of a replaced session")
    }

    @Test(arguments: 0...7) func `an init with a payload under 8 bytes is survived`(length: Int) throws {
        let test = try TestServer()
        let peer = TestPeer(1, server: test.key.publicKey)
        let pending = try peer.makeInit(payload: [UInt8](repeating: 1, count: length))
        #expect(test.deliver(pending.message, from: peer.address).isEmpty)
        #expect(test.server.counters.malformed == 1)
        #expect(test.server.tables.clientCount == 0)
        try expectAlive(test, "after an init without timestamp")
    }

    @Test(arguments: [0, 1, 31, 32, 33, 63]) func `a lookup plaintext of 0 to 63 bytes is survived`(
        length: Int
    ) throws {
        let test = try TestServer()
        let peer = TestPeer(1, server: test.key.publicKey)
        try peer.register(test)
        let plaintext = Array((peer.publicKey.bytes + peer.publicKey.bytes).prefix(length))
        #expect(test.deliver(peer.lookup(plaintext: plaintext), from: peer.address).isEmpty)
        #expect(test.server.counters.malformed == 1)
        try expectAlive(test, "after a short plaintext")
    }

    @Test func `longer init payloads and lookup plaintexts are accepted`() throws {
        let test = try TestServer()
        let peer = TestPeer(1, server: test.key.publicKey)
        #expect(try peer.handshake(test, extra: [UInt8](repeating: 9, count: 200)))
        let long = peer.lookup(plaintext: peer.publicKey.bytes + peer.publicKey.bytes + [1, 2, 3])
        #expect(
            test.deliver(long, from: peer.address).first.flatMap { peer.open($0.bytes) }
                == bytes(of: peer.address))
    }

    @Test func `timestamp 0 leaves no entry without an address`() throws {
        let test = try TestServer()
        let peer = TestPeer(1, server: test.key.publicKey), other = TestPeer(2, server: test.key.publicKey)
        try other.register(test)
        #expect(try peer.handshake(test, timestamp: 0))
        #expect(other.ask(test, peer.publicKey) == [])
        #expect(peer.ask(test, peer.publicKey) == bytes(of: peer.address))
        #expect(other.ask(test, peer.publicKey) == bytes(of: peer.address))
        #expect(try !peer.handshake(test, timestamp: 0), "0 is not newer than 0")
        #expect(try peer.handshake(test), "and a real clock is")
    }

    @Test func `timestamp 2^64-1 locks nobody out`() throws {
        let test = try TestServer()
        let peer = TestPeer(1, server: test.key.publicKey)
        #expect(try peer.handshake(test, timestamp: UInt64.max))
        #expect(peer.ask(test, peer.publicKey) == bytes(of: peer.address))
        test.advance(seconds: 1)
        #expect(try peer.handshake(test), "the clock is right again")
        #expect(peer.ask(test, peer.publicKey) == bytes(of: peer.address))
    }

    @Test func `an init repeated with a timestamp from the future is not answered twice`() throws {
        let test = try TestServer()
        let peer = TestPeer(1, server: test.key.publicKey)
        let pending = try peer.makeInit(timestamp: UInt64.max)
        #expect(test.deliver(pending.message, from: peer.address).count == 1)
        #expect(test.deliver(pending.message, from: peer.address).isEmpty)
        #expect(test.server.counters.staleInit == 1)
    }

    @Test func `a replayed init does not take over an address, not even after a restart`() throws {
        let before = try TestServer()
        let peer = TestPeer(1, server: before.key.publicKey),
            other = TestPeer(2, server: before.key.publicKey)
        before.advance(seconds: 1)
        let captured = try peer.makeInit(timestamp: before.now.wall)
        #expect(before.deliver(captured.message, from: peer.address).count == 1)

        let thief = WireAddress(ip: 0xC633_6463, port: 666)
        let after = try TestServer(seed: 2)
        after.advance(seconds: 60)
        try other.register(after)
        #expect(after.deliver(captured.message, from: thief).count == 1, "nothing is remembered of it")
        #expect(other.ask(after, peer.publicKey) == [], "a handshake registers nothing")
        try peer.register(after)
        #expect(other.ask(after, peer.publicKey) == bytes(of: peer.address))
        #expect(after.deliver(captured.message, from: thief).isEmpty, "now it is stale")
        #expect(other.ask(after, peer.publicKey) == bytes(of: peer.address))
        #expect(after.server.counters.staleInit == 1)
    }

    @Test func `a key outside the allow list neither registers nor is looked up`() throws {
        let peer = TestPeer(1, server: testKey(99).publicKey),
            stranger = TestPeer(2, server: testKey(99).publicKey)
        let test = try TestServer(options: ServerOptions(allowed: [peer.publicKey]))
        try peer.register(test)
        #expect(try !stranger.handshake(test))
        #expect(peer.ask(test, stranger.publicKey) == [])
        #expect(test.server.counters.notAllowed == 1)
        #expect(test.server.tables.clientCount == 1)
    }

    @Test func `an entry without lookups expires`() throws {
        let test = try TestServer()
        let peer = TestPeer(1, server: test.key.publicKey), other = TestPeer(2, server: test.key.publicKey)
        try peer.register(test)
        try other.register(test)
        test.advance(seconds: 300)
        #expect(other.ask(test, peer.publicKey) == bytes(of: peer.address))
        test.advance(seconds: 301)
        #expect(other.ask(test, peer.publicKey) == [])
        test.server.sweep(now: test.now)
        #expect(test.server.tables.client(RawKey(peer.publicKey)) == nil)
        #expect(test.server.tables.client(RawKey(other.publicKey)) != nil)
        #expect(test.events.last == .expired(peer.publicKey))
    }

    @Test func `inits that all propose one index get indices of their own`() throws {
        let test = try TestServer()
        var indices: Set<UInt32> = []
        for number in 0..<200 {
            let peer = TestPeer(UInt64(1000 + number), server: test.key.publicKey)
            try peer.register(test)
            indices.insert(peer.index)
        }
        #expect(indices.count == 200)
        #expect(!indices.contains(5))
        #expect(test.server.tables.clientCount == 200)
    }

    @Test(arguments: [0, 2, 4, 5, 6, 0x30, 0xFF] as [UInt8])
    func `unknown types are counted and nothing else`(
        type: UInt8
    ) throws {
        let test = try TestServer()
        #expect(
            test.deliver([type] + [UInt8](repeating: 7, count: 120), from: WireAddress(ip: 1, port: 1))
                .isEmpty)
        #expect(test.server.counters.unknownType == 1)
        #expect(test.events.isEmpty)
    }
}
