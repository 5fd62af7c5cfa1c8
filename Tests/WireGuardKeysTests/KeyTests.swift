import Glibc
import SystemCalls
import Testing
import WireGuardKeys

struct KeyTests {
    /// RFC 7748 section 6.1.
    static let alicePrivate: [UInt8] = [
        0x77, 0x07, 0x6D, 0x0A, 0x73, 0x18, 0xA5, 0x7D, 0x3C, 0x16, 0xC1, 0x72, 0x51, 0xB2, 0x66, 0x45, 0xDF,
        0x4C,
        0x2F, 0x87, 0xEB, 0xC0, 0x99, 0x2A, 0xB1, 0x77, 0xFB, 0xA5, 0x1D, 0xB9, 0x2C, 0x2A,
    ]
    static let alicePublic = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="

    @Test func `a public key follows from its private key`() throws {
        let key = try #require(Self.alicePrivate.withUnsafeBytes { PrivateKey(copying: $0) })
        #expect(key.publicKey.base64 == Self.alicePublic)
        #expect(PublicKey(base64: Self.alicePublic) == key.publicKey)
    }

    @Test(arguments: [
        "", "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo", "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo==",
        "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTm*=", "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=\n",
    ]) func `text that is no public key is refused`(text: String) { #expect(PublicKey(base64: text) == nil) }

    @Test func `new keys are clamped and differ`() {
        let keys = (0..<50).map { _ in PrivateKey.generate() }
        for key in keys {
            key.withBytes { bytes in
                #expect(bytes[0] & 7 == 0)
                #expect(bytes[31] & 0xC0 == 0x40)
            }
        }
        #expect(Set(keys.map(\.publicKey)).count == 50)
        #expect(keys[0].isEqual(to: keys[0]))
        #expect(!keys[0].isEqual(to: keys[1]))
    }

    @Test func `base64 goes there and back`() throws {
        let key = PrivateKey.generate()
        let again = key.withBase64 { text in PrivateKey(base64: text) }
        #expect(try #require(again).isEqual(to: key))
        #expect(key.withBase64 { $0.count } == 44)
    }

    @Test func `a typed error passes through`() {
        struct Refused: Error, Equatable {}
        let key = PrivateKey.generate()
        #expect(throws: Refused()) { try key.withBytes { _ throws(Refused) in throw Refused() } }
    }
}

/// Key files, in a folder that goes with the test.
struct KeyFileTests {
    private func withFolder(_ body: (String) throws -> Void) throws {
        let folder = "/tmp/natlab-keys-\(UInt64.random(in: 0 ... .max))"
        try Files.makeFolder(folder, mode: 0o700)
        let result = Result { try body(folder) }
        try Files.removeTree(folder)
        try result.get()
    }

    @Test func `a written key can be read, by its owner only, and is never overwritten`() throws {
        try withFolder { folder in
            let path = "\(folder)/key"
            let key = PrivateKey.generate()
            try KeyFile.write(key, to: path)
            var status = stat()
            #expect(stat(path, &status) == 0)
            #expect(status.st_mode & 0o777 == 0o600)
            #expect(status.st_size == 45)
            let reading = try KeyFile.readPrivateKey(path)
            #expect(reading.key.isEqual(to: key))
            #expect(reading.warning == nil)
            let failure = #expect(throws: OperationFailure.self) { try KeyFile.write(key, to: path) }
            #expect(failure?.errno == EEXIST)
        }
    }

    @Test(arguments: [0o644, 0o640, 0o602] as [mode_t])
    func `a key that others can use is read with a warning`(
        mode: mode_t
    ) throws {
        try withFolder { folder in
            let path = "\(folder)/key"
            let key = PrivateKey.generate()
            try KeyFile.write(key, to: path)
            #expect(chmod(path, mode) == 0)
            let reading = try KeyFile.readPrivateKey(path)
            #expect(reading.key.isEqual(to: key))
            #expect(try #require(reading.warning).contains("chmod 600"))
        }
    }

    /// natpunch-go runs on with a bad key.
    @Test(arguments: [
        "", "\n", "nonsense\n", String(repeating: "A", count: 43), String(repeating: "A", count: 500),
    ])
    func `a bad key is refused`(text: String) throws {
        try withFolder { folder in
            let path = "\(folder)/key"
            try Files.writeAtomically(path, Array(text.utf8), mode: 0o600)
            let failure = #expect(throws: OperationFailure.self) { try KeyFile.readPrivateKey(path) }
            #expect(failure?.errno == 0)
            #expect(failure?.mend?.contains("wg genkey") == true)
            if text.count > 20 {
                #expect(failure?.description.contains(text) == false, "its text is not repeated")
            }
        }
    }

    @Test func `a missing key file is told by errno`() throws {
        let failure = #expect(throws: OperationFailure.self) {
            try KeyFile.readPrivateKey("/nonexistent/key")
        }
        #expect(failure?.errno == ENOENT)
    }
}

struct PrimitiveTests {
    private func hex(_ bytes: some Sequence<UInt8>) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    /// RFC 7693 appendix B and the reference implementation's empty hash; HMAC by Python's hmac module.
    @Test func `BLAKE2s and its HMAC and HKDF give known values`() throws {
        let blake = try Blake2s()
        var output = [UInt8](repeating: 0, count: 32)
        let target = { (body: (UnsafeMutableRawPointer) -> Void) in
            output.withUnsafeMutableBytes { if let start = $0.baseAddress { body(start) } }
        }
        target { start in Array("abc".utf8).withUnsafeBytes { blake.hash($0, into: start) } }
        #expect(hex(output) == "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982")
        target { start in blake.hash(UnsafeRawBufferPointer(start: nil, count: 0), into: start) }
        #expect(hex(output) == "69217a3079908094e11121d042354a7c1f55b6482ca1a51e1b250dfd1ed0eef9")
        target { start in
            Array("key".utf8).withUnsafeBytes { key in
                Array("message".utf8).withUnsafeBytes { blake.hmac(key: key, $0, into: start) }
            }
        }
        #expect(hex(output) == "bba8fa28708ae80d249e317318c95c859f3f77512be23910d5094d9110454d6f")
    }

    @Test func `ChaCha20-Poly1305 is refused for any changed bit`() {
        let key = [UInt8](repeating: 7, count: 32)
        let plaintext = Array("a lookup".utf8)
        var sealed = [UInt8](repeating: 0, count: plaintext.count + ChaChaPoly.tagSize)
        sealed.withUnsafeMutableBytes { target in
            key.withUnsafeBytes { key in
                plaintext.withUnsafeBytes { plaintext in
                    if let key = key.baseAddress, let start = target.baseAddress {
                        ChaChaPoly.seal(plaintext, key: key, counter: 9, into: start)
                    }
                }
            }
        }
        func opens(_ message: [UInt8], counter: UInt64) -> Bool {
            var output = [UInt8](repeating: 0, count: 64)
            return key.withUnsafeBytes { key in
                message.withUnsafeBytes { message in
                    output.withUnsafeMutableBytes { output in
                        guard let key = key.baseAddress, let start = output.baseAddress else { return false }
                        return ChaChaPoly.open(message, key: key, counter: counter, into: start)
                    }
                }
            }
        }
        #expect(opens(sealed, counter: 9))
        #expect(!opens(sealed, counter: 10))
        for bit in 0..<(sealed.count * 8) {
            var changed = sealed
            changed[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(!opens(changed, counter: 9))
        }
        for length in 0..<sealed.count { #expect(!opens(Array(sealed.prefix(length)), counter: 9)) }
    }

    @Test func `a public key of low order gives no secret`() {
        let key = PrivateKey.generate()
        var secret = [UInt8](repeating: 1, count: 32)
        let agreed = key.withBytes { key in
            PublicKey.zero.bytes.withUnsafeBytes { zero in
                secret.withUnsafeMutableBytes { target in
                    guard let key = key.baseAddress, let zero = zero.baseAddress,
                        let start = target.baseAddress
                    else {
                        return true
                    }
                    return X25519.agree(privateKey: key, publicKey: zero, into: start)
                }
            }
        }
        #expect(!agreed)
        #expect(secret == [UInt8](repeating: 0, count: 32))
    }

    @Test func `a slab hands out slots of its own and wipes them`() {
        let slab = SecretSlab(slotSize: 64, slotsPerChunk: 4)
        let slots = (0..<10).map { _ in slab.take() }
        #expect(Set(slots).count == 10)
        for (number, slot) in slots.enumerated() {
            memset(slab.pointer(slot), Int32(number + 1), 64)
        }
        for (number, slot) in slots.enumerated() {
            #expect(
                UnsafeRawBufferPointer(start: slab.pointer(slot), count: 64).allSatisfy {
                    $0 == UInt8(number + 1)
                })
        }
        slab.release(slots[3])
        let again = slab.take()
        #expect(again == slots[3])
        #expect(UnsafeRawBufferPointer(start: slab.pointer(again), count: 64).allSatisfy { $0 == 0 })
    }
}
