/// The datagrams of natpunch-go's protocol, and natlab's additions to it.
///
/// Integers in headers are big-endian; nothing in a header is authenticated. The additions use message types that neither
/// natpunch-go nor WireGuard knows, so both drop them: WireGuard reads the type as a little-endian 32-bit word 1...4.
/// No message has a size that WireGuard uses (148, 92, 64).
///
/// | message | bytes | layout |
/// |---|---|---|
/// | init | 109 or more | `01`, proposed index 4, e 32, s 32+16, (timestamp 8, natlab: announcement 4, local address 4+2)+16 |
/// | response | 53 or 63 | `02`, assigned index 4, e 32, (natlab: announcement 4, observed address 4+2)+16 |
/// | lookup | 93 or more | `03`, index 4, counter 8, (own key 32, target key 32)+16 |
/// | reply | 25 or 31 | `03`, counter 8, (nothing, or address 4+2)+16 |
/// | push | 65 | `05`, counter 8, (kind 1, flags 1, address 4+2, key 32)+16 |
/// | punch | 42 | see `PunchMessage` |
///
/// An announcement is "nl", the version 1 and flags (`ClientAnnouncement`). A client without local address, and one of a
/// natlab that knew none, ends its init after the announcement.
package enum WireFormat {
    package static let prologue = "natpunch-go is the best :)"
    package static let noiseName = "Noise_IK_25519_ChaChaPoly_BLAKE2s"

    package static let initType: UInt8 = 1
    package static let responseType: UInt8 = 2
    package static let dataType: UInt8 = 3
    package static let pushType: UInt8 = 5
    package static let punchType: UInt8 = 6

    static let tag = 16
    /// Type and index.
    static let handshakeHeader = 5
    /// The shortest init: with a timestamp and nothing else.
    package static let initSize = handshakeHeader + 32 + 48 + 8 + tag
    /// The response to a client that announced nothing.
    package static let responseSize = handshakeHeader + 32 + tag
    /// Type, index and counter.
    static let lookupHeader = 13
    package static let lookupSize = lookupHeader + 64 + tag
    /// Type and counter: of replies and pushes.
    static let replyHeader = 9
    package static let notFoundSize = replyHeader + tag
    package static let foundSize = replyHeader + 6 + tag
    static let pushPlaintext = 40
    package static let pushSize = replyHeader + pushPlaintext + tag

    /// The longest datagram that is looked at.
    ///
    /// natpunch-go takes longer payloads than it needs; so do we, within a packet.
    package static let maximumSize = 1400

    /// What a natlab client appends to the timestamp and a natlab server to its response: "nl", a version, flags.
    package static let announcement: [UInt8] = [0x6E, 0x6C, 1, announcesPush]
    /// The client takes pushes and punches; the server pushes.
    static let announcesPush: UInt8 = 1
    /// The client's local address follows, and it takes those of others.
    static let announcesLocal: UInt8 = 2

    /// Whether an announcement of a version known here stands at the start of these bytes, and asks for pushes.
    static func announcesPush(_ bytes: UnsafeRawBufferPointer) -> Bool {
        bytes.count >= 4 && bytes[0] == announcement[0] && bytes[1] == announcement[1] && bytes[2] >= 1
            && bytes[3] & announcesPush != 0
    }
}

/// What a client says of itself in its init, after the timestamp; natpunch-go's says nothing.
package struct ClientAnnouncement: Hashable, Sendable {
    package var takesPushes: Bool
    /// Where WireGuard can be reached on the client's own network; nil while unknown.
    ///
    /// The address that its packets for the server leave with, before any NAT, and the listen port. A client that tells none is
    /// not told others' either.
    package var local: WireAddress?

    package init(takesPushes: Bool, local: WireAddress? = nil) {
        self.takesPushes = takesPushes
        self.local = local
    }

    /// Reads what follows the timestamp; more than is known here, or nothing, is no error.
    package init(_ bytes: UnsafeRawBufferPointer) {
        self.init(takesPushes: WireFormat.announcesPush(bytes))
        guard takesPushes, bytes.count >= 10, bytes[3] & WireFormat.announcesLocal != 0,
            let start = bytes.baseAddress
        else { return }
        let address = WireAddress(ip: start.bigEndian(at: 4), port: start.bigEndian(at: 8))
        if address.isUsable { local = address }
    }

    /// 4 bytes, or 10 with a local address.
    package var bytes: [UInt8] {
        var result = WireFormat.announcement
        guard let local else { return result }
        result[3] |= WireFormat.announcesLocal
        for shift in stride(from: 24, through: 0, by: -8) {
            result.append(UInt8(truncatingIfNeeded: local.ip >> UInt32(shift)))
        }
        return result + [UInt8(local.port >> 8), UInt8(truncatingIfNeeded: local.port)]
    }
}

/// What a server tells a natlab client without being asked again.
package struct PushMessage: Hashable, Sendable {
    package enum Kind: UInt8, Sendable {
        /// A peer that the client asked for has registered, or its address has changed.
        case moved = 1
        /// The peer has just asked for the client: it is about to punch.
        case asked = 2
        /// The peer's local address: it is registered with the same external IP address as the client, so that both may be
        /// behind one NAT, which perhaps does not hairpin. Always after one of the others, or a reply.
        case local = 3
    }
    package var kind: Kind
    /// The peer punches too (it is a natlab client), so that there is no need to try blindly.
    package var peerPunches: Bool
    package var address: WireAddress
    package var peer: RawKey

    package init(kind: Kind, peerPunches: Bool, address: WireAddress, peer: RawKey) {
        self.kind = kind
        self.peerPunches = peerPunches
        self.address = address
        self.peer = peer
    }

    /// Reads the 40 bytes of a push's plaintext; nil for anything else.
    package init?(plaintext: UnsafeRawBufferPointer) {
        guard plaintext.count == WireFormat.pushPlaintext, let start = plaintext.baseAddress,
            let kind = Kind(rawValue: plaintext[0])
        else { return nil }
        self.init(
            kind: kind, peerPunches: plaintext[1] & 1 != 0,
            address: WireAddress(ip: start.bigEndian(at: 2), port: start.bigEndian(at: 6)),
            peer: RawKey(start + 8))
    }

    /// Writes 40 bytes.
    package func store(to target: UnsafeMutableRawPointer) {
        target.storeBytes(of: kind.rawValue, as: UInt8.self)
        target.storeBytes(of: peerPunches ? 1 : 0, toByteOffset: 1, as: UInt8.self)
        target.storeBigEndian(address.ip, at: 2)
        target.storeBigEndian(address.port, at: 6)
        peer.store(to: target + 8)
    }
}
