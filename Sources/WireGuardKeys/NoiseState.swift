package import SystemCalls

/// The symmetric state of one Noise_IK or Noise_IKpsk2 handshake, in wiped memory (Noise rev 34, sections 5.2, 7.5, 9).
///
/// One object serves any number of handshakes one after the other. Not Sendable.
package final class NoiseState {
    private let memory = SecretBuffer(count: 256)
    private let blake: Blake2s
    /// The next nonce of the current key.
    private var counter: UInt64 = 0
    private var savedCounter: UInt64 = 0
    /// The hash after the protocol's name and the prologue: the same for every handshake.
    private let prologueHash: [UInt8]
    private let nameHash: [UInt8]

    private var chainingKey: UnsafeMutableRawPointer { memory.pointer(0) }
    private var cipherKey: UnsafeMutableRawPointer { memory.pointer(32) }
    private var handshakeHash: UnsafeMutableRawPointer { memory.pointer(64) }
    /// 32 bytes for a Diffie-Hellman result.
    package var sharedSecret: UnsafeMutableRawPointer { memory.pointer(96) }
    /// 32 bytes for the own ephemeral private key.
    package var ephemeralPrivate: UnsafeMutableRawPointer { memory.pointer(128) }

    /// Throws where OpenSSL has no BLAKE2s.
    /// - Parameter name: the protocol's, of more bytes than a hash has (32).
    package init(name: String, prologue: String, blake: Blake2s? = nil) throws(OperationFailure) {
        let hasher: Blake2s
        if let blake { hasher = blake } else { hasher = try Blake2s() }
        self.blake = hasher
        func hashed(_ first: [UInt8], _ second: [UInt8]) -> [UInt8] {
            var result = [UInt8](repeating: 0, count: 32)
            result.withUnsafeMutableBytes { target in
                first.withUnsafeBytes { first in
                    second.withUnsafeBytes { second in
                        if let start = target.baseAddress { hasher.hash(first, second, into: start) }
                    }
                }
            }
            return result
        }
        // More bytes than a hash has: section 5.2 has it hashed.
        precondition(name.utf8.count > Blake2s.hashSize, "a short name would be padded")
        nameHash = hashed(Array(name.utf8), [])
        prologueHash = hashed(nameHash, Array(prologue.utf8))
    }

    /// Begins a handshake with a responder of this static key (32 bytes), known to both (the `<- s` before the dots in IK).
    package func begin(responder: UnsafeRawPointer) {
        chainingKey.copyMemory(from: nameHash, byteCount: 32)
        handshakeHash.copyMemory(from: prologueHash, byteCount: 32)
        counter = 0
        mixHash(UnsafeRawBufferPointer(start: responder, count: 32))
    }

    package func mixHash(_ data: UnsafeRawBufferPointer) {
        blake.hash(UnsafeRawBufferPointer(start: handshakeHash, count: 32), data, into: handshakeHash)
    }

    /// Mixes in 32 bytes of a Diffie-Hellman result.
    package func mixKey(_ secret: UnsafeRawPointer) {
        blake.hkdf(
            chainingKey: UnsafeRawBufferPointer(start: chainingKey, count: 32),
            UnsafeRawBufferPointer(start: secret, count: 32), into: chainingKey, cipherKey)
        counter = 0
    }

    /// Mixes in the Diffie-Hellman result of two keys; false for a public key of low order.
    package func mixAgreement(privateKey: UnsafeRawPointer, publicKey: UnsafeRawPointer) -> Bool {
        guard X25519.agree(privateKey: privateKey, publicKey: publicKey, into: sharedSecret) else {
            return false
        }
        mixKey(sharedSecret)
        return true
    }

    /// Writes 16 bytes more than the plaintext has.
    package func encryptAndHash(_ plaintext: UnsafeRawBufferPointer, into target: UnsafeMutableRawPointer) {
        ChaChaPoly.seal(
            plaintext, key: cipherKey, counter: counter,
            authenticating: UnsafeRawBufferPointer(start: handshakeHash, count: 32), into: target)
        counter += 1
        mixHash(UnsafeRawBufferPointer(start: target, count: plaintext.count + ChaChaPoly.tagSize))
    }

    /// Writes 16 bytes less than the ciphertext has; false for a wrong tag.
    package func decryptAndHash(_ ciphertext: UnsafeRawBufferPointer, into target: UnsafeMutableRawPointer)
        -> Bool
    {
        guard
            ChaChaPoly.open(
                ciphertext, key: cipherKey, counter: counter,
                authenticating: UnsafeRawBufferPointer(start: handshakeHash, count: 32), into: target)
        else { return false }
        counter += 1
        mixHash(ciphertext)
        return true
    }

    /// Writes the two transport keys of 32 bytes: initiator to responder, then the other way.
    package func split(into forward: UnsafeMutableRawPointer, _ backward: UnsafeMutableRawPointer) {
        blake.hkdf(
            chainingKey: UnsafeRawBufferPointer(start: chainingKey, count: 32),
            UnsafeRawBufferPointer(start: nil, count: 0), into: forward, backward)
    }

    /// The hash of the whole handshake, 32 bytes: both sides have the same one.
    package var transcriptHash: [UInt8] { Array(UnsafeRawBufferPointer(start: handshakeHash, count: 32)) }

    /// Notes the state, so that a forged message can be undone with `restore`.
    package func save() {
        memory.pointer(160).copyMemory(from: memory.pointer(), byteCount: 96)
        savedCounter = counter
    }

    package func restore() {
        memory.pointer().copyMemory(from: memory.pointer(160), byteCount: 96)
        counter = savedCounter
    }

    /// Forgets the handshake.
    package func wipe() {
        memory.wipe()
        blake.wipe()
    }
}
