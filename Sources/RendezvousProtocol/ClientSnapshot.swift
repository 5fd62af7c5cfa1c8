package import NetAddress
package import WireGuardKeys

/// A client at one moment, for status and verify.
///
/// Times are wall time, nanoseconds since the epoch.
package struct ClientSnapshot: Hashable, Sendable, Codable {
    package var publicKey: PublicKey
    package var listenPort: UInt16
    package var server: Endpoint?
    package var standing: ServerStanding
    /// `standing` in words, with its cause.
    package var text: String
    /// How the server sees this host; nil while unknown.
    package var observed: Endpoint?
    /// The server is natlab's: it pushes.
    package var takesPushes: Bool
    package var upAt: UInt64?
    package var registeredAt: UInt64?
    package var counters: ClientCounters
    package var peers: [ClientPeerSnapshot]
}

package struct ClientPeerSnapshot: Hashable, Sendable, Codable {
    package var publicKey: PublicKey
    package var phase: PeerPhase
    /// `phase` in words, with its cause.
    package var text: String
    /// What the server last said; nil while it does not know the peer.
    package var resolved: Endpoint?
    /// Where it is on the network that both share, as the server says; nil where they share none.
    package var local: Endpoint?
    /// Where the peer's punches come from.
    package var punchedFrom: Endpoint?
    /// The one WireGuard has.
    package var endpoint: Endpoint?
    /// Questions to the server.
    package var lookups: Int
    /// Times WireGuard had reason to start a handshake: when this client gave one, and every 5 s from then on.
    package var attempts: Int
    package var punchesSent: Int
    package var punchesReceived: Int
    package var resolvedAt: UInt64?
    package var punchedAt: UInt64?
    package var endpointSetAt: UInt64?
    /// WireGuard's own time.
    package var firstHandshake: UInt64?
    package var lastHandshake: UInt64?
}

extension RendezvousClient {
    package func snapshot(now: Moment) -> ClientSnapshot {
        ClientSnapshot(
            publicKey: publicKey, listenPort: listenPort, server: server?.endpoint, standing: standing,
            text: standingText, observed: observed?.endpoint, takesPushes: session?.takesPushes ?? false,
            upAt: upAt,
            registeredAt: registeredAt, counters: counts, peers: peers.map { describe($0, now: now) })
    }

    private func describe(_ peer: ClientPeer, now: Moment) -> ClientPeerSnapshot {
        ClientPeerSnapshot(
            publicKey: peer.publicKey, phase: peer.phase, text: words(peer, now: now),
            resolved: peer.resolved?.endpoint, local: peer.local?.endpoint,
            punchedFrom: peer.inbound?.endpoint,
            endpoint: peer.view.endpoint,
            lookups: peer.lookups, attempts: peer.attempts, punchesSent: peer.punchesSent,
            punchesReceived: peer.punchesReceived, resolvedAt: peer.resolvedAt, punchedAt: peer.punchedAt,
            endpointSetAt: peer.endpointSetAt, firstHandshake: peer.firstHandshake,
            lastHandshake: peer.view.lastHandshake)
    }

    private func words(_ peer: ClientPeer, now: Moment) -> String {
        switch peer.phase {
        case .asking: standing == .registered ? "asking the server" : "not asked for yet: \(standingText)"
        case .unknownToServer: "the server does not know this key: no client with it is registered there"
        case .endpointRefused: "refused the server's answer: \(peer.refusal ?? "")"
        case .punching where peer.punchTrouble != nil: "punches cannot be sent: \(peer.punchTrouble ?? "")"
        case .punching:
            peer.punchesReceived == 0
                ? "punching \(targets(peer)): \(peer.punchesSent) sent, none came back"
                : "punching \(targets(peer)): \(peer.punchesSent) sent, \(peer.punchesReceived) came back"
        case .handshaking:
            "attempt \(peer.attempts) with \(peer.view.endpoint?.description ?? targets(peer)): "
                + (peer.punchesReceived == 0
                    ? "no punch of the peer's has come through"
                    : "punches come through, WireGuard's handshake does not")
        case .connected: "connected"
        case .silent: "connected, but nothing has come from the peer for a while"
        }
    }

    private func targets(_ peer: ClientPeer) -> String {
        peer.punchTargets.map(\.description).joined(separator: " and ")
    }
}
