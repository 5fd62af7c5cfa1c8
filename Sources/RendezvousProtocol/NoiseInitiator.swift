package import SystemCalls
package import WireGuardKeys

/// A client's side of one handshake: writes the init, reads the response.
package final class NoiseInitiator {
    private let state: NoiseState
    private let privateKey: PrivateKey
    private let publicKey: RawKey
    private let server: RawKey

    /// Throws where OpenSSL has no BLAKE2s.
    package init(
        privateKey: PrivateKey, publicKey: RawKey, server: RawKey, blake: Blake2s
    ) throws(OperationFailure) {
        state = try NoiseState(name: WireFormat.noiseName, prologue: WireFormat.prologue, blake: blake)
        self.privateKey = privateKey
        self.publicKey = publicKey
        self.server = server
    }

    /// The init datagram; nil when the server's key is of low order, that is no key at all.
    ///
    /// `payload` begins with the timestamp: 8 bytes, nanoseconds since the epoch, big-endian.
    package func writeInit(proposedIndex: UInt32, payload: [UInt8], random: RandomSource) -> [UInt8]? {
        server.withBytes { state.begin(responder: $0) }
        random(UnsafeMutableRawBufferPointer(start: state.ephemeralPrivate, count: 32))
        var message = [UInt8](
            repeating: 0, count: WireFormat.handshakeHeader + 32 + 48 + payload.count + WireFormat.tag)
        let written = message.withUnsafeMutableBytes { buffer in
            guard let start = buffer.baseAddress else { return false }
            start.storeBytes(of: WireFormat.initType, as: UInt8.self)
            start.storeBigEndian(proposedIndex, at: 1)
            // e
            let ephemeral = start + WireFormat.handshakeHeader
            X25519.publicKey(of: state.ephemeralPrivate, into: ephemeral)
            state.mixHash(UnsafeRawBufferPointer(start: ephemeral, count: 32))
            return withUnsafeTemporaryAllocation(byteCount: 64, alignment: 8) { keys in
                guard let serverKey = keys.baseAddress else { return false }
                server.store(to: serverKey)
                publicKey.store(to: serverKey + 32)
                // es, s, ss, payload
                guard state.mixAgreement(privateKey: state.ephemeralPrivate, publicKey: serverKey) else {
                    return false
                }
                state.encryptAndHash(
                    UnsafeRawBufferPointer(start: serverKey + 32, count: 32), into: ephemeral + 32)
                guard privateKey.withBytes({ agree($0.baseAddress, serverKey) }) else { return false }
                payload.withUnsafeBytes { state.encryptAndHash($0, into: ephemeral + 80) }
                return true
            }
        }
        return written ? message : nil
    }

    /// Reads a response datagram and writes the keys for sending and for receiving, 32 bytes each.
    ///
    /// Nil for a response that is too short or not the server's; the right one may still come.
    /// - Returns: the payload: empty from natpunch-go.
    package func readResponse(
        _ message: UnsafeRawBufferPointer, sendKey: UnsafeMutableRawPointer,
        receiveKey: UnsafeMutableRawPointer
    ) -> [UInt8]? {
        guard message.count >= WireFormat.responseSize, message.count <= WireFormat.maximumSize,
            message[0] == WireFormat.responseType, let start = message.baseAddress
        else { return nil }
        state.save()
        var genuine = false
        defer { if !genuine { state.restore() } }
        let ephemeral = start + WireFormat.handshakeHeader
        // e, ee, se, payload
        state.mixHash(UnsafeRawBufferPointer(start: ephemeral, count: 32))
        guard state.mixAgreement(privateKey: state.ephemeralPrivate, publicKey: ephemeral),
            privateKey.withBytes({ agree($0.baseAddress, ephemeral) })
        else { return nil }
        let sealed = ephemeral.bytes(32, message.count - WireFormat.handshakeHeader - 32)
        var payload = [UInt8](repeating: 0, count: sealed.count - WireFormat.tag)
        genuine = payload.withUnsafeMutableBytes { buffer in
            // An empty payload has no address; its tag is checked all the same.
            state.decryptAndHash(sealed, into: buffer.baseAddress ?? state.sharedSecret)
        }
        guard genuine else { return nil }
        state.split(into: sendKey, receiveKey)
        return payload
    }

    package var transcriptHash: [UInt8] { state.transcriptHash }

    private func agree(_ privateKey: UnsafeRawPointer?, _ publicKey: UnsafeRawPointer) -> Bool {
        guard let privateKey else { return false }
        return state.mixAgreement(privateKey: privateKey, publicKey: publicKey)
    }
}
