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
    package var standing: ServerStanding
    /// The standing as a sentence.
    package var says: String
    /// When the client began; nil for one that is to start later.
    package var up: WallTime?
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
    /// Attempts at reaching it since the client was up.
    package var attempts: Int
    /// Questions for it to the server.
    package var lookups: Int
    /// WireGuard's own time of the first handshake since the client was up.
    package var firstHandshake: WallTime?
}
