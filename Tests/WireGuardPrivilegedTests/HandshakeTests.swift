import Glibc
import NetAddress
import PathTrace
import SystemCalls
import TestSupport
import Testing
import WireGuardControl
import WireGuardKeys

/// Handshake initiations of real WireGuard, read; and written ones that real WireGuard answers.
///
///     a 10.0.0.1 eth0 ---- eth0 10.0.0.2 b
@Suite(.serialized) struct HandshakeTests {
    private func connect(_ a: NetworkNamespace, _ b: NetworkNamespace) throws {
        try tool(
            in: a.name, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", b.name)
        for (network, address) in [(a, "10.0.0.1/24"), (b, "10.0.0.2/24")] {
            try tool(in: network.name, "ip", "addr", "add", address, "dev", "eth0")
            try tool(in: network.name, "ip", "link", "set", "eth0", "up")
        }
    }

    private func socket(_ network: NetworkNamespace, port: UInt16) throws -> Descriptor {
        let socket = try network.socket(domain: AF_INET, type: Int32(SOCK_DGRAM.rawValue))
        let address = SocketAddress(Endpoint(IPAddress(v4: 0), port: port))
        try #require(address.withPointer { bind(socket.rawValue, $0, $1) } == 0, "bind: errno \(errno)")
        return socket
    }

    private func send(_ message: [UInt8], _ socket: borrowing Descriptor) throws {
        let raw = socket.rawValue
        let count = SocketAddress(try endpoint("10.0.0.2:51820")).withPointer {
            sendto(raw, message, message.count, 0, $0, $1)
        }
        try #require(count == message.count, "sendto: errno \(errno)")
    }

    private func receive(_ socket: borrowing Descriptor) -> [UInt8]? {
        var buffer = [UInt8](repeating: 0, count: 2048)
        let count = recv(socket.rawValue, &buffer, buffer.count, Int32(MSG_DONTWAIT))
        return count < 0 ? nil : Array(buffer[..<count])
    }

    /// Configures `wg0` of a host for one peer and brings it up.
    private func configure(
        _ host: Place, _ key: PrivateKey, peer: PublicKey, at place: Endpoint? = nil, keepalive: UInt16? = nil
    ) throws {
        try host.transport.apply(
            WireGuardChange(
                privateKey: key, listenPort: 51820, replacePeers: true,
                peers: [
                    WireGuardPeerChange(
                        publicKey: peer, endpoint: place, persistentKeepalive: keepalive,
                        allowedIPs: [try prefix("10.66.66.0/24")])
                ]))
        try run(host, "ip", "link", "set", "wg0", "up")
    }

    @Test(arguments: Kind.here) func `a real initiation is read with its sender's key and time`(_ kind: Kind)
        throws
    {
        try Sandbox.with { sandbox in
            let a = try sandbox.place("a", kind)
            let b = try sandbox.network("b")
            try connect(a.network, b)
            let listener = try socket(b, port: 51820)
            let keyA = PrivateKey.generate(), keyB = PrivateKey.generate()
            let before = wallClockNanoseconds()
            try configure(
                a, keyA, peer: keyB.publicKey, at: try endpoint("10.0.0.2:51820"), keepalive: 1)
            var message: [UInt8]?
            #expect(
                try waitUntil(timeout: .seconds(10)) {
                    message = receive(listener)
                    return message != nil
                })
            let bytes = try #require(message)
            #expect(DatagramKind(payload: bytes, size: bytes.count) == .handshakeInitiation)
            let read = try #require(try HandshakeInitiation(bytes, responder: keyB))
            #expect(read.initiator == keyA.publicKey)
            #expect((before - 1 << 24...wallClockNanoseconds()).contains(read.timestamp))
            #expect(read.timestamp % 1_000_000_000 & 0xFF_FFFF == 0, "the low 24 bits are left out")
            let other = PrivateKey.generate()
            #expect(try HandshakeInitiation.reading(bytes, responder: other) == .notForThisKey)
        }
    }

    @Test(arguments: Kind.here) func `a written initiation is answered, an older one is not`(_ kind: Kind)
        throws
    {
        try Sandbox.with { sandbox in
            let a = try sandbox.network("a")
            let b = try sandbox.place("b", kind)
            try connect(a, b.network)
            let keyA = PrivateKey.generate(), keyB = PrivateKey.generate()
            try configure(b, keyB, peer: keyA.publicKey)
            let sender = try socket(a, port: 51820)
            let now = wallClockNanoseconds()
            var answered: Set<UInt32> = []
            /// Sends initiations of rising numbers and times until one is answered, or all are sent; 50 ms apart, since
            /// WireGuard takes no more than one in 20 ms from a peer.
            func ask(_ numbers: Range<UInt32>) throws {
                for number in numbers {
                    try send(
                        handshakeInitiation(
                            from: keyA, to: keyB.publicKey, sender: number,
                            timestamp: now + Int64(number) * 1_000_000_000), sender)
                    let isAnswered = try waitUntil(timeout: .milliseconds(50)) {
                        while let answer = receive(sender) {
                            guard answer.count == 92, answer.starts(with: [2, 0, 0, 0]) else { continue }
                            answered.insert(answer[8..<12].reversed().reduce(0) { $0 << 8 | UInt32($1) })
                        }
                        return !answered.isDisjoint(with: numbers)
                    }
                    if isAnswered { return }
                }
            }
            try ask(100..<200)
            #expect(!answered.isEmpty)
            let first = answered
            try ask(0..<5)
            try ask(200..<300)
            #expect(answered.contains { $0 >= 200 })
            #expect(answered.filter { $0 < 200 } == first)
        }
    }

    @Test(arguments: Kind.here) func `who has seen a time to come answers the real initiations no more`(
        _ kind: Kind
    ) throws {
        try Sandbox.with { sandbox in
            let a = try sandbox.place("a", kind)
            let b = try sandbox.place("b", kind)
            try connect(a.network, b.network)
            let keyA = PrivateKey.generate(), keyB = PrivateKey.generate()
            try configure(b, keyB, peer: keyA.publicKey)
            let early = try socket(a.network, port: 51821)
            let watch = try PathWatch([
                WatchPoint(node: "b", namespace: b.network.name, interface: "eth0")
            ])
            func count(_ kind: DatagramKind, port: UInt16) -> Int {
                watch.collect()
                return watch.datagrams.filter { datagram in
                    datagram.kind == kind
                        && datagram.sightings.contains {
                            ($0.isOutgoing ? $0.destination.port : $0.source.port) == port
                        }
                }.count
            }
            let day: Int64 = 86_400_000_000_000
            try send(
                handshakeInitiation(
                    from: keyA, to: keyB.publicKey, sender: 7, timestamp: wallClockNanoseconds() + day),
                early)
            #expect(try waitUntil(timeout: .seconds(5)) { count(.handshakeResponse, port: 51821) == 1 })
            try configure(
                a, keyA, peer: keyB.publicKey, at: try endpoint("10.0.0.2:51820"), keepalive: 1)
            // The second comes 5 s after the first (REKEY_TIMEOUT).
            #expect(try waitUntil(timeout: .seconds(15)) { count(.handshakeInitiation, port: 51820) == 2 })
            #expect(count(.handshakeResponse, port: 51820) == 0)
            // It was that, and nothing else: a peer that is new to b has no time yet.
            try b.transport.apply(
                WireGuardChange(
                    peers: [WireGuardPeerChange(publicKey: keyA.publicKey, remove: true)]))
            try configure(b, keyB, peer: keyA.publicKey)
            #expect(try waitUntil(timeout: .seconds(15)) { count(.handshakeResponse, port: 51820) == 1 })
            #expect(
                try waitUntil(timeout: .seconds(5)) { () throws(OperationFailure) in
                    try a.transport.read().peers.first?.lastHandshake != nil
                })
        }
    }
}
