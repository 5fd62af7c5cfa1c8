import NetAddress
package import NetlinkWire
import WireGuardKeys

/// Requests of WireGuard's cross-platform userspace protocol: lines of `key=value`, ended by an empty line.
///
/// Source: https://www.wireguard.com/xplatform/.
package enum UAPIRequest {
    /// Asks for the interface and all its peers.
    package static func get() -> WipedBytes {
        let bytes = WipedBytes(capacity: 64)
        bytes.append("get=1\n\n")
        return bytes
    }

    /// A change, in wiped memory: keys are written as hex straight from locked memory, never as a String.
    ///
    /// A removed peer carries nothing but its removal.
    package static func set(_ change: WireGuardChange) -> WipedBytes {
        let bytes = WipedBytes(capacity: capacity(change))
        bytes.append("set=1\n")
        if let key = change.privateKey { bytes.append("private_key=", secret: key) }
        if let port = change.listenPort { bytes.append("listen_port=", "\(port)") }
        if let mark = change.firewallMark { bytes.append("fwmark=", "\(mark)") }
        if change.replacePeers { bytes.append("replace_peers=true\n") }
        for peer in keepalivesLast(change.peers) { append(peer, to: bytes) }
        bytes.append("\n")
        return bytes
    }

    /// The peers in an order in which nothing starts for one because of another.
    ///
    /// wireguard-go 0.0.20220316 remembers "a keepalive was turned on" from one peer of a request to the next, and sends the
    /// next one a keepalive too: without an endpoint that only uses up its one handshake in 5 s.
    private static func keepalivesLast(_ peers: [WireGuardPeerChange]) -> [WireGuardPeerChange] {
        let turnsOn = { (peer: WireGuardPeerChange) in peer.persistentKeepalive.map { $0 > 0 } ?? false }
        return peers.filter { !turnsOn($0) } + peers.filter(turnsOn)
    }

    private static func append(_ peer: WireGuardPeerChange, to bytes: WipedBytes) {
        bytes.append("public_key=")
        peer.publicKey.bytes.withUnsafeBytes { bytes.append(hex: $0) }
        bytes.append("\n")
        guard !peer.remove else { return bytes.append("remove=true\n") }
        // update_only comes first: wireguard-go has already made the peer at its public_key line and takes it back here.
        if peer.updateOnly { bytes.append("update_only=true\n") }
        if let key = peer.presharedKey { bytes.append("preshared_key=", secret: key) }
        if let endpoint = peer.endpoint { bytes.append("endpoint=", "\(endpoint)") }
        if let seconds = peer.persistentKeepalive {
            bytes.append("persistent_keepalive_interval=", "\(seconds)")
        }
        if peer.replaceAllowedIPs { bytes.append("replace_allowed_ips=true\n") }
        for prefix in peer.allowedIPs { bytes.append("allowed_ip=", "\(prefix)") }
    }

    /// Generous, so that the buffer need not move.
    private static func capacity(_ change: WireGuardChange) -> Int {
        change.peers.reduce(256) { $0 + 384 + $1.allowedIPs.count * 64 }
    }
}

extension WipedBytes {
    fileprivate func append(_ key: StaticString, _ value: String) {
        append(key)
        append(value.utf8)
        append("\n")
    }

    fileprivate func append(_ key: StaticString, secret: SecretBytes) {
        append(key)
        secret.withBytes { append(hex: $0) }
        append("\n")
    }

    /// Lower-case hex, without a table or a branch that would depend on a secret.
    fileprivate func append(hex bytes: UnsafeRawBufferPointer) {
        for byte in bytes {
            for nibble in [Int(byte >> 4), Int(byte & 15)] {
                append(UInt8(truncatingIfNeeded: 48 &+ nibble &+ (((9 &- nibble) >> 8) & 39)))
            }
        }
    }
}
