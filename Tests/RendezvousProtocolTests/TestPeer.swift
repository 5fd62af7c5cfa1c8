import NetAddress
import RendezvousProtocol
import Testing
import WireGuardKeys

/// Reproducible random numbers (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 ^ 0x1234_5678_9ABC_DEF0 }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return word ^ (word >> 31)
    }
}

func seededSource(_ seed: UInt64) -> RandomSource {
    var generator = SeededGenerator(seed: seed)
    return { buffer in
        for index in buffer.indices { buffer[index] = UInt8.random(in: 0...255, using: &generator) }
    }
}

/// A reproducible private key.
func testKey(_ number: UInt64) -> PrivateKey {
    let source = seededSource(number &+ 0xABCD_0000)
    return PrivateKey(fill: source)
}

/// A server with its clock, whose answers are handed back one by one.
final class TestServer {
    let key: PrivateKey
    let server: RendezvousServer
    var now = Moment(monotonic: 1_000_000_000, wall: 1_800_000_000_000_000_000)
    var events: [ServerEvent] = []

    init(key: PrivateKey = testKey(99), options: ServerOptions = ServerOptions(), seed: UInt64 = 1) throws {
        self.key = key
        server = try RendezvousServer(privateKey: key, options: options, random: seededSource(seed))
        server.onEvent = { [unowned self] in events.append($0) }
    }

    @discardableResult
    func deliver(_ datagram: [UInt8], from source: WireAddress, at local: UInt32 = 0) -> [(
        bytes: [UInt8], to: WireAddress, from: UInt32
    )] {
        let output = DatagramBatch(capacity: 2)
        datagram.withUnsafeBytes { server.receive($0, from: source, at: local, now: now, into: output) }
        return (0..<output.count).map {
            (Array(output.datagram($0)), output.target($0), output.local($0))
        }
    }

    func advance(seconds: Double) {
        now.monotonic += UInt64(seconds * 1e9)
        now.wall += UInt64(seconds * 1e9)
    }

    func endpoint(of key: PublicKey) -> Endpoint? {
        server.snapshot(now: now).entries.first { $0.publicKey == key }?.endpoint
    }
}

/// A client of the bare protocol, able to send what no honest client would.
final class TestPeer {
    let key: PrivateKey
    let publicKey: PublicKey
    let address: WireAddress
    private let server: PublicKey
    private let keys = SecretBuffer(count: 64)
    private var random: RandomSource
    private(set) var index: UInt32 = 0
    var counter: UInt64 = 0

    /// - Parameter instance: distinguishes the runs of one key's program, which have ephemeral keys of their own.
    init(_ number: UInt64, server: PublicKey, instance: UInt64 = 0) {
        key = testKey(number)
        publicKey = key.publicKey
        address = WireAddress(ip: 0xCB00_7100 + UInt32(number % 200), port: 40000 + UInt16(number % 10000))
        self.server = server
        random = seededSource(number &+ 7777 &+ instance &* 100_003)
    }

    struct Pending {
        var initiator: NoiseInitiator
        var message: [UInt8]
    }

    func makeInit(timestamp: UInt64, extra: [UInt8] = []) throws -> Pending {
        try makeInit(payload: bigEndian(timestamp) + extra)
    }

    func makeInit(payload: [UInt8]) throws -> Pending {
        let initiator = try NoiseInitiator(
            privateKey: key, publicKey: RawKey(publicKey), server: RawKey(server), blake: Blake2s())
        return Pending(
            initiator: initiator,
            message: try #require(initiator.writeInit(proposedIndex: 5, payload: payload, random: random)))
    }

    /// Reads the response; the server's payload.
    func finish(_ pending: Pending, _ response: [UInt8]) throws -> [UInt8] {
        let payload = try #require(
            response.withUnsafeBytes {
                pending.initiator.readResponse($0, sendKey: keys.pointer(0), receiveKey: keys.pointer(32))
            })
        index = response[1...4].reduce(0) { $0 << 8 | UInt32($1) }
        counter = 0
        return payload
    }

    /// A whole handshake; false when the server does not answer.
    func handshake(_ test: TestServer, timestamp: UInt64? = nil, extra: [UInt8] = []) throws -> Bool {
        test.advance(seconds: 0.001)
        let pending = try makeInit(timestamp: timestamp ?? test.now.wall, extra: extra)
        guard let answer = test.deliver(pending.message, from: address).first else { return false }
        _ = try finish(pending, answer.bytes)
        return true
    }

    func lookup(plaintext: [UInt8], counter: UInt64? = nil) -> [UInt8] {
        let counter = counter ?? self.counter
        self.counter = counter &+ 1
        var message =
            [3] + bigEndian(index) + bigEndian(counter) + plaintext + [UInt8](repeating: 0, count: 16)
        message.withUnsafeMutableBytes { buffer in
            guard let start = buffer.baseAddress else { return }
            ChaChaPoly.seal(
                UnsafeRawBufferPointer(rebasing: buffer[13..<(13 + plaintext.count)]), key: keys.pointer(0),
                counter: counter, into: start + 13)
        }
        return message
    }

    func lookup(_ target: PublicKey, counter: UInt64? = nil) -> [UInt8] {
        lookup(plaintext: publicKey.bytes + target.bytes, counter: counter)
    }

    /// The plaintext of a reply or push.
    func open(_ message: [UInt8]) -> [UInt8]? {
        guard message.count >= 25 else { return nil }
        let counter = message[1...8].reduce(0) { $0 << 8 | UInt64($1) }
        var plaintext = [UInt8](repeating: 0, count: message.count - 25 + 1)
        let genuine = message.withUnsafeBytes { bytes in
            plaintext.withUnsafeMutableBytes { target in
                target.baseAddress.map {
                    ChaChaPoly.open(
                        UnsafeRawBufferPointer(rebasing: bytes[9...]), key: keys.pointer(32),
                        counter: counter, into: $0)
                } ?? false
            }
        }
        return genuine ? Array(plaintext.dropLast()) : nil
    }

    /// Asks, and reads the answer: nil for no answer, empty for "not found".
    func ask(_ test: TestServer, _ target: PublicKey, from source: WireAddress? = nil) -> [UInt8]? {
        test.deliver(lookup(target), from: source ?? address).first.flatMap { open($0.bytes) }
    }

    /// Handshake and one lookup of the own key.
    func register(_ test: TestServer, extra: [UInt8] = []) throws {
        #expect(try handshake(test, extra: extra))
        #expect(ask(test, publicKey) == bytes(of: address))
    }
}

func bytes(of address: WireAddress) -> [UInt8] { bigEndian(address.ip) + bigEndian(address.port) }
