package import NetAddress
package import WireGuardKeys

/// How a rendezvous server behaves.
package struct ServerOptions: Sendable {
    /// The keys that may register and be looked up; nil serves any key.
    package var allowed: Set<PublicKey>?
    /// An entry that sent no lookup for so long is forgotten, nanoseconds.
    ///
    /// natpunch-go's clients ask every 2 s.
    package var entryLifetime: UInt64 = 600_000_000_000
    /// A handshake that no lookup confirms within this time is forgotten, nanoseconds.
    package var pendingLifetime: UInt64 = 10_000_000_000
    /// Unconfirmed handshakes held at once; the oldest gives way.
    package var maximumPending = 4096
    /// Keys held at once; further ones get no answer.
    package var maximumClients = 500_000
    /// Peers that one client may be told about without asking again.
    package var maximumAwaited = 1024
    /// Pushes to clients that announce they take them; without, natlab's clients too are served as natpunch-go does.
    package var pushes = true

    package init(allowed: Set<PublicKey>? = nil) { self.allowed = allowed }
}

/// What a server did with the datagrams it got.
///
/// Every datagram is counted once, by its outcome.
package struct ServerCounters: Hashable, Sendable, Codable {
    /// Datagrams received.
    package var datagrams: UInt64 = 0
    /// Handshakes answered.
    package var handshakes: UInt64 = 0
    /// Lookups answered with an address, and with "not found".
    package var found: UInt64 = 0
    package var notFound: UInt64 = 0
    /// Too short or too long for its type, empty ones too.
    package var malformed: UInt64 = 0
    /// A type that clients do not send.
    package var unknownType: UInt64 = 0
    /// A lookup for a session that is not, or no longer, there.
    package var unknownSession: UInt64 = 0
    /// Not made with the right keys, or changed on the way.
    package var badTag: UInt64 = 0
    /// An init no newer than one seen from the same key.
    package var staleInit: UInt64 = 0
    /// A lookup whose counter was used or passed before.
    package var replayedLookup: UInt64 = 0
    /// A key outside the allow list.
    package var notAllowed: UInt64 = 0
    /// A lookup that names another sender than its session's.
    package var wrongSender: UInt64 = 0
    /// A new key while `maximumClients` are held.
    package var full: UInt64 = 0

    /// Beside the datagrams: pushes sent, addresses registered or changed, entries forgotten for their age.
    package var pushes: UInt64 = 0
    package var registrations: UInt64 = 0
    package var expired: UInt64 = 0

    package init() {}
}

/// What happens at a server and is worth a line in a log.
///
/// Datagrams without effect are only counted.
package enum ServerEvent: Hashable, Sendable {
    /// A key registered for the first time, or under a new session.
    case registered(PublicKey, Endpoint)
    /// A registered key came from another address.
    case moved(PublicKey, from: Endpoint, to: Endpoint)
    /// No lookup for `entryLifetime`.
    case expired(PublicKey)
}

/// What a server knows of one key, for status.
package struct ServerEntry: Hashable, Sendable, Codable {
    package var publicKey: PublicKey
    package var endpoint: Endpoint
    /// Seconds since its last lookup.
    package var idleSeconds: UInt64
    /// A natlab client, which takes pushes.
    package var takesPushes: Bool
    /// When the first and the last lookup of this registration came, wall time, nanoseconds since the epoch.
    package var firstSeen: UInt64
    package var lastSeen: UInt64
}

/// A server at one moment, for status and verify.
package struct ServerSnapshot: Hashable, Sendable, Codable {
    package var publicKey: PublicKey
    package var entries: [ServerEntry]
    package var pending: Int
    package var counters: ServerCounters
    /// What it refused last, from at most 64 places; the latest is last.
    package var refusals: [ServerRefusal]
}
