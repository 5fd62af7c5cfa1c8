import RendezvousProtocol

/// What a UDP datagram is, by its size and its first bytes: nothing is decrypted or verified.
package enum DatagramKind: String, Hashable, Sendable, Codable {
    // WireGuard's (WireGuard paper, section 5.4): 148, 92, 64, 32, and 48 or more bytes.
    case handshakeInitiation, handshakeResponse, cookie, keepalive, data
    // natpunch-go's, with natlab's additions (`WireFormat`).
    case rendezvousInit, rendezvousResponse, rendezvousLookup, rendezvousReply, rendezvousPush
    /// natlab's datagram from peer to peer (`PunchMessage`).
    case punch
    case other

    /// - Parameters:
    ///   - payload: its first four bytes, at least.
    ///   - size: of the whole payload.
    package init(payload: [UInt8], size: Int) {
        guard payload.count >= 4 else {
            self = .other
            return
        }
        // A little-endian word; natpunch-go has a byte and then an index.
        let isWireGuard = payload[1] == 0 && payload[2] == 0 && payload[3] == 0
        switch (payload[0], size) {
        case (1, 148) where isWireGuard: self = .handshakeInitiation
        case (2, 92) where isWireGuard: self = .handshakeResponse
        case (3, 64) where isWireGuard: self = .cookie
        case (4, 32) where isWireGuard: self = .keepalive
        // The paper pads plaintexts to 16 bytes; at the tunnel's MTU there is no room for it.
        case (4, 33...) where isWireGuard: self = .data
        case (WireFormat.initType, WireFormat.initSize...WireFormat.maximumSize): self = .rendezvousInit
        case (WireFormat.responseType, WireFormat.responseSize),
            (WireFormat.responseType, WireFormat.responseSize + 10):
            self = .rendezvousResponse
        case (WireFormat.dataType, WireFormat.notFoundSize), (WireFormat.dataType, WireFormat.foundSize):
            self = .rendezvousReply
        case (WireFormat.dataType, WireFormat.lookupSize...WireFormat.maximumSize): self = .rendezvousLookup
        case (WireFormat.pushType, WireFormat.pushSize): self = .rendezvousPush
        case (WireFormat.punchType, PunchMessage.size): self = .punch
        default: self = .other
        }
    }
}
