package import SystemCalls
package import WireGuardKeys

/// The server's side of any number of handshakes, one after the other.
///
/// A handshake goes through three calls, so that the server can look the client up in between: `readStatic`, `readPayload`,
/// `writeResponse`. Source: Noise rev 34, section 7.5 (IK).
package final class NoiseResponder {
    private let state: NoiseState
    private let privateKey: PrivateKey
    package let publicKey: RawKey
    /// The client's ephemeral and static public keys and this server's ephemeral one.
    private let keys = SecretBuffer(count: 96)

    /// Throws where OpenSSL has no BLAKE2s.
    package init(privateKey: PrivateKey) throws(OperationFailure) {
        state = try NoiseState(name: WireFormat.noiseName, prologue: WireFormat.prologue)
        self.privateKey = privateKey
        publicKey = RawKey(privateKey.publicKey)
    }

    /// Reads who claims to send this init; nil for one that was not made for this server.
    ///
    /// The claim is proved by `readPayload`.
    func readStatic(_ message: UnsafeRawBufferPointer) -> RawKey? {
        guard message.count >= WireFormat.initSize, let start = message.baseAddress else { return nil }
        publicKey.withBytes { state.begin(responder: $0) }
        let ephemeral = start + WireFormat.handshakeHeader
        keys.pointer().copyMemory(from: ephemeral, byteCount: 32)
        state.mixHash(UnsafeRawBufferPointer(start: ephemeral, count: 32))
        guard agree(with: ephemeral), state.decryptAndHash(ephemeral.bytes(32, 48), into: keys.pointer(32))
        else {
            return nil
        }
        return RawKey(keys.pointer(32))
    }

    /// Writes the static-static secret of the client that `readStatic` read, 32 bytes; false for a key of low order.
    func staticAgreement(into secret: UnsafeMutableRawPointer) -> Bool {
        privateKey.withBytes { bytes in
            guard let start = bytes.baseAddress else { return false }
            return X25519.agree(privateKey: start, publicKey: keys.pointer(32), into: secret)
        }
    }

    /// Decrypts the payload into `target` (as long as the message is); nil unless the sender has the private key.
    /// - Returns: the payload's length.
    func readPayload(
        _ message: UnsafeRawBufferPointer, staticSecret: UnsafeRawPointer,
        into target: UnsafeMutableRawPointer
    ) -> Int? {
        guard message.count >= WireFormat.initSize, let start = message.baseAddress else { return nil }
        state.mixKey(staticSecret)
        let offset = WireFormat.handshakeHeader + 80
        let sealed = start.bytes(offset, message.count - offset)
        return state.decryptAndHash(sealed, into: target) ? sealed.count - WireFormat.tag : nil
    }

    /// Writes the response and both transport keys; nil when the client's keys are of low order.
    /// - Returns: the response's length: 53 bytes and the payload's.
    func writeResponse(
        index: UInt32, payload: UnsafeRawBufferPointer, random: RandomSource,
        into target: UnsafeMutableRawPointer,
        receiveKey: UnsafeMutableRawPointer, sendKey: UnsafeMutableRawPointer
    ) -> Int? {
        random(UnsafeMutableRawBufferPointer(start: state.ephemeralPrivate, count: 32))
        target.storeBytes(of: WireFormat.responseType, as: UInt8.self)
        target.storeBigEndian(index, at: 1)
        let ephemeral = target + WireFormat.handshakeHeader
        X25519.publicKey(of: state.ephemeralPrivate, into: ephemeral)
        state.mixHash(UnsafeRawBufferPointer(start: ephemeral, count: 32))
        guard state.mixAgreement(privateKey: state.ephemeralPrivate, publicKey: keys.pointer(0)),
            state.mixAgreement(privateKey: state.ephemeralPrivate, publicKey: keys.pointer(32))
        else { return nil }
        state.encryptAndHash(payload, into: ephemeral + 32)
        state.split(into: receiveKey, sendKey)
        return WireFormat.responseSize + payload.count
    }

    package var transcriptHash: [UInt8] { state.transcriptHash }

    /// Forgets the handshake.
    func wipe() { state.wipe() }

    private func agree(with publicKey: UnsafeRawPointer) -> Bool {
        privateKey.withBytes { bytes in
            guard let start = bytes.baseAddress else { return false }
            return state.mixAgreement(privateKey: start, publicKey: publicKey)
        }
    }
}
