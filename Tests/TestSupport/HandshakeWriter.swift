import SystemCalls
package import WireGuardKeys

/// A WireGuard handshake initiation with any timestamp, as its owner's WireGuard would write it at that time; without a
/// cookie (mac2).
///
/// Source: WireGuard paper, section 5.4.2.
///
/// - Parameters:
///   - sender: the index that the response is for.
///   - timestamp: nanoseconds since the Unix epoch.
package func handshakeInitiation(
    from initiator: PrivateKey, to responder: PublicKey, sender: UInt32, timestamp: Int64
) throws -> [UInt8] {
    struct NoKey: Error {}
    let ephemeral = PrivateKey.generate()
    var message = [UInt8](repeating: 0, count: HandshakeFormat.size)
    message.replaceSubrange(0..<4, with: HandshakeFormat.type)
    message.replaceSubrange(4..<8, with: (0..<4).map { UInt8(truncatingIfNeeded: sender >> (8 * $0)) })
    message.replaceSubrange(
        HandshakeFormat.ephemeral..<HandshakeFormat.initiator, with: ephemeral.publicKey.bytes)
    let state = try HandshakeFormat.newState()
    defer { state.wipe() }
    message.withUnsafeBytes { HandshakeFormat.begin(state, $0, responder: responder) }
    let sealed = [
        (ephemeral, HandshakeFormat.initiator, initiator.publicKey.bytes),
        (initiator, HandshakeFormat.time, HandshakeFormat.timestamp(timestamp)),
    ]
    for (own, offset, plaintext) in sealed {
        let agreed = own.withBytes { own in
            responder.bytes.withUnsafeBytes { peer in
                guard let own = own.baseAddress, let peer = peer.baseAddress else { return false }
                return state.mixAgreement(privateKey: own, publicKey: peer)
            }
        }
        guard agreed else { throw NoKey() }
        message.withUnsafeMutableBytes { buffer in
            plaintext.withUnsafeBytes { plaintext in
                if let start = buffer.baseAddress { state.encryptAndHash(plaintext, into: start + offset) }
            }
        }
    }
    message.replaceSubrange(
        HandshakeFormat.mac1..<HandshakeFormat.mac2,
        with: try HandshakeFormat.mac1(of: message, responder: responder))
    return message
}
