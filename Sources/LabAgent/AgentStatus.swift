package import NetAddress
package import RendezvousProtocol
package import WireGuardControl
package import WireGuardKeys

/// What the lab's agent says of itself when asked over its socket: one JSON document.
package struct AgentStatus: Codable, Hashable, Sendable {
    package var pid: Int32
    package var server: ServerSnapshot
    package var clients: [ClientStatus]
}

/// One rendezvous client.
package struct ClientStatus: Codable, Hashable, Sendable {
    package var host: String
    package var interface: String
    package var publicKey: PublicKey
    /// The interface's port as the client last read it; 0 before.
    package var listenPort: UInt16
    /// Where the client looks for the server.
    package var server: Endpoint?
    /// What the client takes for the server's key.
    package var serverKey: PublicKey
    package var standing: ServerStanding
    /// The standing as a sentence.
    package var says: String
    /// When the client began; nil for one that is to start later.
    package var up: WallTime?
    /// How the server said it sees this host; nil while unknown.
    package var observed: Endpoint?
    /// When the server first answered a lookup.
    package var registeredAt: WallTime?
    package var counters: ClientCounters
    package var peers: [ClientPeerStatus]

    /// Whether the client does its work: registered, or on the way there.
    package var isHealthy: Bool {
        switch standing {
        case .starting, .contacting, .registered: true
        case .nameNotResolved, .insideTunnel, .silent, .deaf, .socketError, .interfaceFailed: false
        }
    }
}

/// How a client stands with one of its peers.
package struct ClientPeerStatus: Codable, Hashable, Sendable {
    package var publicKey: PublicKey
    package var phase: PeerPhase
    package var says: String
    /// Where the server last said that the peer is; nil while it does not know the peer.
    package var resolved: Endpoint?
    /// Where it is on the network that both share, as the server says; nil where they share none.
    package var local: Endpoint?
    /// Where its punches come from.
    package var punchedFrom: Endpoint?
    /// The one WireGuard has.
    package var endpoint: Endpoint?
    /// Attempts at reaching it since the client was up.
    package var attempts: Int
    /// Questions for it to the server.
    package var lookups: Int
    package var punchesSent: Int
    package var punchesReceived: Int
    /// When, since the client was up, the server first said where the peer is, both directions were first found open, and
    /// WireGuard was first given an endpoint.
    package var resolvedAt: WallTime?
    package var punchedAt: WallTime?
    package var endpointSetAt: WallTime?
    /// WireGuard's own time of the first handshake since the client was up.
    package var firstHandshake: WallTime?
    /// WireGuard's own time of the last handshake, also of one before.
    package var lastHandshake: WallTime?
}
