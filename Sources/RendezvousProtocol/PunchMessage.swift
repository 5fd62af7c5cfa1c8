package import WireGuardKeys

/// The datagram that opens a NAT for its answer: 42 bytes from WireGuard's port to the peer's, which WireGuard drops.
///
/// `06`, flags 1 (bit 0: a punch of yours arrived here, lately, from the address that this one goes to), 0 0, sender's id 8, time 8, where your last punch came from 4+2
/// (zeros: none yet), MAC 16. The MAC is HMAC-BLAKE2s over the bytes before it, under a key made of the static-static secret
/// of the two WireGuard keys: a stray or forged datagram is no punch. The time rises, so that a repeated one is none either.
package struct PunchMessage: Hashable, Sendable {
    package static let size = 42
    static let macOffset = 26

    /// A punch of the receiver's has arrived at the sender, from where this one goes to: that way is open in both directions
    /// if this arrives too.
    package var acknowledges: Bool
    /// The sender's wall time, nanoseconds; rising.
    package var time: UInt64
    /// Where the receiver's last punch came from, as the sender saw it.
    package var observed: WireAddress?

    package init(acknowledges: Bool, time: UInt64, observed: WireAddress?) {
        self.acknowledges = acknowledges
        self.time = time
        self.observed = observed
    }

    /// The sender's id of a datagram that may be a punch; nil for others.
    package static func sender(of datagram: UnsafeRawBufferPointer) -> UInt64? {
        guard datagram.count == size, datagram[0] == WireFormat.punchType, let start = datagram.baseAddress
        else {
            return nil
        }
        return start.bigEndian(at: 4)
    }
}

/// What two peers need to recognise each other's punches.
///
/// Not Sendable.
package final class PunchKey {
    /// The key, and room for a MAC.
    private let key: UnsafeMutableRawPointer
    private let slot: SecretSlab.Slot
    private let slab: SecretSlab
    private let blake: Blake2s
    /// Names this side to that peer, and that peer to this side; nobody else can tell whose they are.
    package let ownID: UInt64
    package let peerID: UInt64

    /// Bytes of a slot in the slab.
    ///
    /// A secret in pages of its own for each peer would exceed the kernel's limit of mappings.
    package static let slotSize = 64

    /// Nil for a peer's key of low order.
    ///
    /// - Parameter slab: of `slotSize`; shared by the keys of a client.
    package init?(privateKey: PrivateKey, own: RawKey, peer: RawKey, blake: Blake2s, slab: SecretSlab) {
        self.blake = blake
        self.slab = slab
        slot = slab.take()
        key = slab.pointer(slot)
        let memory = key
        let peerKey = memory + 32
        peer.store(to: peerKey)
        let agreed = privateKey.withBytes { bytes in
            guard let start = bytes.baseAddress else { return false }
            return X25519.agree(privateKey: start, publicKey: peerKey, into: memory)
        }
        guard agreed else {
            ownID = 0
            peerID = 0
            return nil
        }
        let secret = UnsafeRawBufferPointer(start: memory, count: 32)
        // Its own label: the same secret goes into the Noise handshake between the two.
        Array("natlab punch 1".utf8).withUnsafeBytes { blake.hmac(key: secret, $0, into: memory) }
        func id(_ subject: RawKey) -> UInt64 {
            subject.store(to: peerKey)
            blake.hmac(key: secret, UnsafeRawBufferPointer(start: peerKey, count: 32), into: peerKey)
            return UnsafeRawPointer(peerKey).bigEndian(at: 0)
        }
        ownID = id(own)
        peerID = id(peer)
    }

    deinit { slab.release(slot) }

    package func write(_ punch: PunchMessage) -> [UInt8] {
        var message = [UInt8](repeating: 0, count: PunchMessage.size)
        message.withUnsafeMutableBytes { buffer in
            guard let start = buffer.baseAddress else { return }
            start.storeBytes(of: WireFormat.punchType, as: UInt8.self)
            start.storeBytes(of: punch.acknowledges ? 1 : 0, toByteOffset: 1, as: UInt8.self)
            start.storeBigEndian(ownID, at: 4)
            start.storeBigEndian(punch.time, at: 12)
            start.storeBigEndian(punch.observed?.ip ?? 0, at: 20)
            start.storeBigEndian(punch.observed?.port ?? 0, at: 24)
            mac(start)
            (start + PunchMessage.macOffset).copyMemory(from: (key + 32), byteCount: 16)
        }
        return message
    }

    /// Nil for anything but a punch that this peer made for this side.
    package func read(_ datagram: UnsafeRawBufferPointer) -> PunchMessage? {
        guard PunchMessage.sender(of: datagram) == peerID, let start = datagram.baseAddress else {
            return nil
        }
        mac(start)
        guard Randomness.equal((key + 32), start + PunchMessage.macOffset, count: 16) else { return nil }
        let observed = WireAddress(ip: start.bigEndian(at: 20), port: start.bigEndian(at: 24))
        return PunchMessage(
            acknowledges: datagram[1] & 1 != 0, time: start.bigEndian(at: 12),
            observed: observed.isUsable ? observed : nil)
    }

    private func mac(_ message: UnsafeRawPointer) {
        blake.hmac(
            key: UnsafeRawBufferPointer(start: key, count: 32),
            message.bytes(0, PunchMessage.macOffset), into: (key + 32))
    }
}
