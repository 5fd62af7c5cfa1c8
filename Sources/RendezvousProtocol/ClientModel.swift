package import NetAddress
package import WireGuardKeys

/// How a rendezvous client behaves.
///
/// Times are nanoseconds.
package struct ClientOptions: Sendable {
    /// Between two questions for a peer that the server does not know: first, and at most (doubled if the server pushes).
    package var firstPoll: UInt64 = 50_000_000
    package var slowestPoll: UInt64 = 1_000_000_000
    /// Between two lookups of any kind: keeps the own NAT's mapping open, and notices a server that forgot everything.
    package var refresh: UInt64 = 2_000_000_000
    /// A session with the server is replaced by a new one after this time, as natpunch-go's clients do.
    package var sessionLifetime: UInt64 = 300_000_000_000
    /// How long the endpoint waits for a peer's punch, where the peer may be natpunch-go's and never send one.
    package var blindAfter: UInt64 = 300_000_000
    /// The same where the peer is known to punch.
    package var blindAfterForPunchers: UInt64 = 1_500_000_000
    /// How long the side with the larger key leaves the first handshake to the other.
    package var fallbackTrigger: UInt64 = 500_000_000
    /// Between two looks at the interface while nothing happens.
    package var idleDevicePoll: UInt64 = 5_000_000_000
    /// Seconds, for peers that have none set and are not in `keepalives`.
    package var keepalive: UInt16 = 25
    /// Seconds, for peers with a wish of their own; 0 turns it off once the peer is connected.
    package var keepalives: [PublicKey: UInt16] = [:]
    /// The tunnel's own networks: no endpoint may lie in one.
    package var tunnelPrefixes: [IPPrefix] = []
    /// Does as natpunch-go's client, to show what comes of it.
    ///
    /// Asks for every peer, a connected one too, and gives WireGuard each endpoint at once, untried, also one inside the
    /// tunnel. A server inside the tunnel will do.
    package var takesUnsafeEndpoints = false

    package init() {}

    /// No option makes a client ask faster than this.
    package static let floor: UInt64 = 20_000_000

    /// The options with every interval at least at the floor, and the refresh short enough for a NAT (RFC 4787 REQ-5: 2 min;
    /// many home routers: 30 s).
    var bounded: ClientOptions {
        var options = self
        options.firstPoll = max(firstPoll, Self.floor)
        options.slowestPoll = max(slowestPoll, options.firstPoll)
        options.refresh = min(max(refresh, 10 * Self.floor), 25_000_000_000)
        options.sessionLifetime = max(sessionLifetime, 10_000_000_000)
        options.idleDevicePoll = max(idleDevicePoll, Self.floor)
        return options
    }
}

/// The WireGuard interface as the client needs to see it.
package struct DeviceView: Hashable, Sendable {
    package var publicKey: PublicKey?
    package var listenPort: UInt16
    package var peers: [PeerView]

    package init(publicKey: PublicKey?, listenPort: UInt16, peers: [PeerView]) {
        self.publicKey = publicKey
        self.listenPort = listenPort
        self.peers = peers
    }
}

package struct PeerView: Hashable, Sendable {
    package var publicKey: PublicKey
    package var endpoint: Endpoint?
    package var allowedIPs: [IPPrefix]
    /// Seconds, 0 for off.
    package var keepalive: UInt16
    /// Wall time, nanoseconds since the epoch; nil for none yet.
    package var lastHandshake: UInt64?
    package var receivedBytes: UInt64
    package var sentBytes: UInt64

    package init(
        publicKey: PublicKey, endpoint: Endpoint? = nil, allowedIPs: [IPPrefix] = [], keepalive: UInt16 = 0,
        lastHandshake: UInt64? = nil, receivedBytes: UInt64 = 0, sentBytes: UInt64 = 0
    ) {
        self.publicKey = publicKey
        self.endpoint = endpoint
        self.allowedIPs = allowedIPs
        self.keepalive = keepalive
        self.lastHandshake = lastHandshake
        self.receivedBytes = receivedBytes
        self.sentBytes = sentBytes
    }
}

/// What the client wants done; in order.
package enum ClientAction: Hashable, Sendable {
    /// From WireGuard's port.
    case send([UInt8], to: WireAddress)
    /// Read the interface and hand it to `deviceRead` (or say `deviceFailed`), at once.
    case readDevice
    /// Set the peer's endpoint and keepalive, nil leaving each as it is. With `toggle` the keepalive is first set to 0: only
    /// a change from 0 makes WireGuard send something, and so start a handshake.
    case configure(peer: PublicKey, endpoint: Endpoint?, keepalive: UInt16?, toggle: Bool)
    /// Look the server's name up again and call `serverResolved` or `serverNotResolved`; later is fine.
    case resolveServer
    case event(ClientEvent)
}

/// Something worth a line in the log.
package struct ClientEvent: Hashable, Sendable, Codable {
    package enum Kind: String, Sendable, Codable {
        case up, registered, serverSilent = "server-silent", serverBack = "server-back"
        case serverRefused = "server-refused", nameNotResolved = "name-not-resolved", socketError =
            "socket-error"
        case ownAddressChanged = "own-address-changed", listenPortChanged = "listen-port-changed"
        case keyChanged = "key-changed", deviceFailed = "device-failed", deviceBack = "device-back"
        case peerAdded = "peer-added", peerRemoved = "peer-removed", unknownToServer = "unknown-to-server"
        case resolved, localAddress = "local-address", endpointRefused = "endpoint-refused", punched,
            endpointSet = "endpoint-set", triggered
        case connected, sessionLost = "session-lost"
    }
    package var kind: Kind
    /// When, wall time, nanoseconds since the epoch; for `connected` WireGuard's own time of the handshake.
    package var time: UInt64
    package var peer: PublicKey?
    package var endpoint: Endpoint?
    /// For people: the cause or the detail.
    package var text: String

    package init(
        _ kind: Kind, time: UInt64, peer: PublicKey? = nil, endpoint: Endpoint? = nil, _ text: String = ""
    ) {
        self.kind = kind
        self.time = time
        self.peer = peer
        self.endpoint = endpoint
        self.text = text
    }
}

/// How the client stands with the server.
package enum ServerStanding: String, Hashable, Sendable, Codable {
    /// Nothing was sent yet.
    case starting
    case nameNotResolved = "name-not-resolved"
    /// The server's address lies inside the tunnel that it is to help to set up.
    case insideTunnel = "inside-tunnel"
    case contacting
    /// A lookup was answered: the server knows the client's address.
    case registered
    /// Several handshakes in a row got no answer.
    case silent
    /// Handshakes are answered, lookups are not.
    case deaf
    case socketError = "socket-error"
    case interfaceFailed = "interface-failed"
}

/// How far a peer is.
package enum PeerPhase: String, Hashable, Sendable, Codable {
    /// The server has not been asked yet.
    case asking
    case unknownToServer = "unknown-to-server"
    /// The server gave an address inside the tunnel.
    case endpointRefused = "endpoint-refused"
    /// Both sides' datagrams are to open the way.
    case punching
    /// WireGuard has the endpoint and a reason to start.
    case handshaking
    case connected
    /// There is a session, but nothing has come from the peer for a while.
    case silent
}
