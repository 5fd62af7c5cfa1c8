import WireGuardKeys

/// A client's session with a server after the handshake: makes lookups, reads replies and pushes.
///
/// A reply names no request. So there is at most one lookup outstanding, counters must rise, and whoever gives a lookup up
/// abandons the whole session: its late reply then fits no key any more and cannot be taken for another peer's.
package final class ClientSession {
    package enum Answer: Hashable, Sendable {
        case notFound
        case found(WireAddress)
    }

    package let index: UInt32
    /// The server announced that it pushes: it is natlab's.
    package let takesPushes: Bool
    /// Where the server saw the handshake come from; only natlab's says so.
    package let observed: WireAddress?

    /// Send key, receive key.
    private let keys = SecretBuffer(count: 64)
    private var nextSend: UInt64 = 0
    private var nextReply: UInt64 = 0
    private var nextPush: UInt64 = 0
    private let ownKey: RawKey

    /// Nil for a response that is not the server's answer to this initiator's init.
    package init?(response: UnsafeRawBufferPointer, to initiator: NoiseInitiator, ownKey: RawKey) {
        guard
            let payload = initiator.readResponse(
                response, sendKey: keys.pointer(0), receiveKey: keys.pointer(32)),
            let start = response.baseAddress
        else { return nil }
        self.ownKey = ownKey
        index = start.bigEndian(at: 1)
        takesPushes = payload.withUnsafeBytes { WireFormat.announcesPush($0) }
        observed = payload.withUnsafeBytes { bytes in
            guard WireFormat.announcesPush(bytes), bytes.count >= 10, let start = bytes.baseAddress else {
                return nil
            }
            return WireAddress(ip: start.bigEndian(at: 4), port: start.bigEndian(at: 8))
        }
    }

    /// The next lookup datagram, 93 bytes.
    package func lookup(_ target: RawKey) -> [UInt8] {
        var message = [UInt8](repeating: 0, count: WireFormat.lookupSize)
        message.withUnsafeMutableBytes { buffer in
            guard let start = buffer.baseAddress else { return }
            start.storeBytes(of: WireFormat.dataType, as: UInt8.self)
            start.storeBigEndian(index, at: 1)
            start.storeBigEndian(nextSend, at: 5)
            let body = start + WireFormat.lookupHeader
            ownKey.store(to: body)
            target.store(to: body + 32)
            ChaChaPoly.seal(
                UnsafeRawBufferPointer(start: body, count: 64), key: keys.pointer(0), counter: nextSend,
                into: body)
        }
        nextSend += 1
        return message
    }

    /// Reads a reply; nil for one that is short, repeated, older than the last or not under this session's key.
    package func readReply(_ message: UnsafeRawBufferPointer) -> Answer? {
        guard message.count == WireFormat.notFoundSize || message.count == WireFormat.foundSize,
            message[0] == WireFormat.dataType, let start = message.baseAddress
        else { return nil }
        let counter: UInt64 = start.bigEndian(at: 1)
        guard counter >= nextReply, counter < UInt64.max else { return nil }
        var plaintext: (UInt32, UInt16) = (0, 0)
        let genuine = withUnsafeMutableBytes(of: &plaintext) { target in
            target.baseAddress.map { open(message, counter, into: $0) } ?? false
        }
        guard genuine else { return nil }
        nextReply = counter + 1
        guard message.count == WireFormat.foundSize else { return .notFound }
        return .found(WireAddress(ip: UInt32(bigEndian: plaintext.0), port: UInt16(bigEndian: plaintext.1)))
    }

    /// Reads a push; nil for one that is short, repeated, older than the last or not under this session's key.
    package func readPush(_ message: UnsafeRawBufferPointer) -> PushMessage? {
        guard message.count == WireFormat.pushSize, message[0] == WireFormat.pushType,
            let start = message.baseAddress
        else { return nil }
        let counter: UInt64 = start.bigEndian(at: 1)
        guard counter >= nextPush, counter < UInt64.max else { return nil }
        return withUnsafeTemporaryAllocation(byteCount: WireFormat.pushPlaintext, alignment: 8) { plaintext in
            guard let target = plaintext.baseAddress, open(message, counter, into: target) else { return nil }
            nextPush = counter + 1
            return PushMessage(plaintext: UnsafeRawBufferPointer(plaintext))
        }
    }

    private func open(
        _ message: UnsafeRawBufferPointer, _ counter: UInt64, into target: UnsafeMutableRawPointer
    ) -> Bool {
        let sealed = UnsafeRawBufferPointer(rebasing: message[WireFormat.replyHeader...])
        return ChaChaPoly.open(sealed, key: keys.pointer(32), counter: counter, into: target)
    }
}
