import SystemCalls
import TestSupport
import Testing
import WireGuardKeys

struct HandshakeInitiationTests {
    /// Bytes first, first + 1, ...
    private func key(_ first: UInt8) throws -> PrivateKey {
        try #require((first..<first + 32).map { $0 }.withUnsafeBytes { PrivateKey(copying: $0) })
    }

    /// Made by Python's hashlib and cryptography.
    ///
    /// The keys begin with 1, 65 (the responder's) and 129 (the ephemeral one); the sender is 0x12345678, the time
    /// 1,800,000,000 s and 0x17000000 ns.
    private static let vector = """
        0100000078563412883186b800b41d5cf0429695da9b3cc4f328ebcd184a6e48
        2fa578c103f06c77fa6ff1a71203eaf305dc6260f1911ba7d914db25d127ce39
        ef62f6c6467fb8a777377a28376c744882e58802dabbe0882d2440df1a7a848f
        58929ae0afb87301a816c785127a2426d96ee6003e66d7e251195d2b1f1d0bff
        896f7f2e00000000000000000000000000000000
        """

    private var message: [UInt8] {
        let digits = Self.vector.utf8.filter { $0 != 0x0A }
        return stride(from: 0, to: digits.count, by: 2).compactMap {
            UInt8(String(decoding: digits[$0..<$0 + 2], as: UTF8.self), radix: 16)
        }
    }

    @Test func `an initiation that another implementation made is read`() throws {
        let read = try #require(try HandshakeInitiation(message, responder: try key(65)))
        #expect(read.sender == 0x1234_5678)
        #expect(read.initiator.base64 == "B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw=")
        #expect(try read.initiator == key(1).publicKey)
        #expect(read.timestamp == 1_800_000_000_385_875_968)
    }

    @Test func `what cannot be read is told apart`() throws {
        let responder = try key(65)
        func reading(_ bytes: [UInt8]) throws -> HandshakeInitiation.Reading {
            try HandshakeInitiation.reading(bytes, responder: responder)
        }
        #expect(try HandshakeInitiation.reading(message, responder: try key(66)) == .notForThisKey)
        #expect(try HandshakeInitiation(message, responder: try key(66)) == nil)
        for spoilt in [[], Array(message.dropLast()), message + [0], [2] + message.dropFirst()] {
            #expect(try reading(spoilt) == .notAnInitiation)
        }
        // Each byte that mac1 covers, and mac1 itself.
        for position in 4..<132 {
            var spoilt = message
            spoilt[position] ^= 1
            #expect(try reading(spoilt) == .notForThisKey, "byte \(position)")
        }
        // Under a valid mac1: the sender's index is not sealed, the static key and then the timestamp are.
        for (position, wanted) in [(8, "notForThisKey"), (40, "notForThisKey"), (88, "forged"), (4, "read")] {
            var spoilt = message
            spoilt[position] ^= 1
            spoilt.replaceSubrange(
                116..<132, with: try HandshakeFormat.mac1(of: spoilt, responder: responder.publicKey))
            #expect("\(try reading(spoilt))".hasPrefix(wanted), "byte \(position)")
        }
    }

    @Test(
        arguments: [0, 1_800_000_000_385_875_968, -1, -1_000_000_001, 4_000_000_000_123_456_789, .max]
            as [Int64])
    func `what the tests' writer writes is read, with any timestamp`(time: Int64) throws {
        let initiator = PrivateKey.generate(), responder = PrivateKey.generate()
        let message = try handshakeInitiation(
            from: initiator, to: responder.publicKey, sender: 0xFEDC_BA98, timestamp: time)
        let read = try #require(try HandshakeInitiation(message, responder: responder))
        #expect(read.initiator == initiator.publicKey && read.sender == 0xFEDC_BA98)
        #expect(read.timestamp == time)
    }
}
