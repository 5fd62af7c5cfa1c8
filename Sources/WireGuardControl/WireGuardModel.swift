package import NetAddress
package import SystemCalls
package import WireGuardKeys

/// What a WireGuard interface is and has now, read back from the kernel or from wireguard-go.
///
/// Source: WGDEVICE_A_* in linux/wireguard.h; https://www.wireguard.com/xplatform/.
package struct WireGuardDevice: Hashable, Sendable {
    package var interface: String
    /// Nil while no private key is set.
    package var publicKey: PublicKey?
    /// 0 while the interface has no socket.
    package var listenPort: UInt16
    /// 0 for none.
    package var firewallMark: UInt32
    package var peers: [WireGuardPeer]

    package init(
        interface: String, publicKey: PublicKey?, listenPort: UInt16, firewallMark: UInt32,
        peers: [WireGuardPeer]
    ) {
        self.interface = interface
        self.publicKey = publicKey
        self.listenPort = listenPort
        self.firewallMark = firewallMark
        self.peers = peers
    }

    package func peer(_ key: PublicKey) -> WireGuardPeer? { peers.first { $0.publicKey == key } }
}

/// One peer of an interface, read back.
package struct WireGuardPeer: Hashable, Sendable {
    package var publicKey: PublicKey
    /// Whether a preshared key other than all zeros is set; the key itself is never read back.
    package var hasPresharedKey: Bool
    package var endpoint: Endpoint?
    package var allowedIPs: [IPPrefix]
    /// Seconds; 0 is off.
    package var persistentKeepalive: UInt16
    /// Since the Unix epoch, by CLOCK_REALTIME; nil when there has been none.
    package var lastHandshake: WallTime?
    package var receivedBytes: UInt64
    package var sentBytes: UInt64

    package init(
        publicKey: PublicKey, hasPresharedKey: Bool = false, endpoint: Endpoint? = nil,
        allowedIPs: [IPPrefix] = [],
        persistentKeepalive: UInt16 = 0, lastHandshake: WallTime? = nil, receivedBytes: UInt64 = 0,
        sentBytes: UInt64 = 0
    ) {
        self.publicKey = publicKey
        self.hasPresharedKey = hasPresharedKey
        self.endpoint = endpoint
        self.allowedIPs = allowedIPs
        self.persistentKeepalive = persistentKeepalive
        self.lastHandshake = lastHandshake
        self.receivedBytes = receivedBytes
        self.sentBytes = sentBytes
    }
}

/// Nanoseconds since the Unix epoch, by CLOCK_REALTIME.
package struct WallTime: Hashable, Comparable, Sendable, Codable {
    package var nanoseconds: Int64
    package init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }
    package init(seconds: Int64, nanoseconds: Int64) {
        self.nanoseconds = seconds * 1_000_000_000 + nanoseconds
    }
    package static func < (left: Self, right: Self) -> Bool { left.nanoseconds < right.nanoseconds }
}

/// A change to an interface; nil leaves a setting as it is.
package struct WireGuardChange: Sendable {
    package var privateKey: PrivateKey?
    /// 0 asks for a free port.
    package var listenPort: UInt16?
    /// 0 takes the mark away.
    package var firewallMark: UInt32?
    /// Removes every peer that is not in `peers`.
    package var replacePeers: Bool
    package var peers: [WireGuardPeerChange]

    package init(
        privateKey: PrivateKey? = nil, listenPort: UInt16? = nil, firewallMark: UInt32? = nil,
        replacePeers: Bool = false, peers: [WireGuardPeerChange] = []
    ) {
        self.privateKey = privateKey
        self.listenPort = listenPort
        self.firewallMark = firewallMark
        self.replacePeers = replacePeers
        self.peers = peers
    }
}

/// A change to one peer; nil leaves a setting as it is.
package struct WireGuardPeerChange: Sendable {
    package var publicKey: PublicKey
    package var remove: Bool
    /// Does nothing when the peer does not exist, instead of creating it.
    package var updateOnly: Bool
    package var presharedKey: PresharedKey?
    package var endpoint: Endpoint?
    /// Seconds; 0 turns it off.
    package var persistentKeepalive: UInt16?
    package var replaceAllowedIPs: Bool
    package var allowedIPs: [IPPrefix]

    package init(
        publicKey: PublicKey, remove: Bool = false, updateOnly: Bool = false,
        presharedKey: PresharedKey? = nil,
        endpoint: Endpoint? = nil, persistentKeepalive: UInt16? = nil, replaceAllowedIPs: Bool = false,
        allowedIPs: [IPPrefix] = []
    ) {
        self.publicKey = publicKey
        self.remove = remove
        self.updateOnly = updateOnly
        self.presharedKey = presharedKey
        self.endpoint = endpoint
        self.persistentKeepalive = persistentKeepalive
        self.replaceAllowedIPs = replaceAllowedIPs
        self.allowedIPs = allowedIPs
    }
}

/// A way to one WireGuard interface: the kernel's by generic netlink, wireguard-go's by its UAPI socket.
///
/// Both block for the time of one request (under a millisecond on an idle machine).
package protocol WireGuardTransport: AnyObject {
    /// Reads the interface and all its peers.
    func read() throws(OperationFailure) -> WireGuardDevice
    /// Applies a change; with many peers over several messages.
    func apply(_ change: WireGuardChange) throws(OperationFailure)
}
