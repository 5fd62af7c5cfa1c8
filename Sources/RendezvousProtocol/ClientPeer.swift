import NetAddress
import WireGuardKeys

/// One wanted peer, as the client knows it.
struct ClientPeer {
    let key: RawKey
    let publicKey: PublicKey
    var view: PeerView
    var phase: PeerPhase = .asking

    // Asking the server.
    var nextLookup: UInt64
    var pollInterval: UInt64
    var lookups = 0
    /// What the server last said; nil while it does not know the peer.
    var resolved: WireAddress?
    var resolvedAt: UInt64?
    var refusal: String?
    /// The peer is a natlab client: it punches, so there is no hurry to try blindly.
    var punches = false

    // Punching. Monotonic times.
    var punchKey: PunchKey?
    var punchStarted: UInt64?
    /// Punching of a connected peer ends by itself.
    var punchUntil: UInt64?
    var nextPunch: UInt64 = .max
    var lastReply: UInt64 = 0
    var punchesSent = 0
    /// Why the last one could not be sent, in this round of punching.
    var punchTrouble: String?
    var punchesReceived = 0
    /// The newest time in a punch of the peer's.
    var newestPunch: UInt64 = 0
    /// Where its punches come from, and since when they arrive; the address that WireGuard is to use.
    var inbound: WireAddress?
    var inboundAt: UInt64?
    /// When the peer last said that ours arrive.
    var acknowledgedAt: UInt64?
    /// The address both directions were found open with, in this round of punching.
    var opened: WireAddress?
    /// WireGuard is to send something over its session as soon as the way is open: the own address has changed.
    var nudgeWhenOpen = false
    /// Both directions were open, wall time.
    var punchedAt: UInt64?

    // Setting the endpoint.
    /// To be set as soon as a fresh look at the interface shows no live session.
    var wantedEndpoint: WireAddress?
    var wantsTrigger = false
    var wantsNudge = false
    var setEndpoint: WireAddress?
    var endpointSetAt: UInt64?
    var triggered: UInt64?
    var fallback: UInt64?
    var nextAttempt: UInt64?
    var attempts = 0

    // The session.
    var firstHandshake: UInt64?
    var connectedSince: UInt64?
    var receivedChanged: UInt64
    /// Of the session the peer was last seen to have.
    var wasLive = false

    init(_ view: PeerView, now: Moment, pollInterval: UInt64) {
        self.view = view
        publicKey = view.publicKey
        key = RawKey(view.publicKey)
        nextLookup = now.monotonic
        receivedChanged = now.monotonic
        self.pollInterval = pollInterval
    }

    enum Liveness { case none, silent, live }

    /// WireGuard refuses to use a session after this time (WireGuard paper, section 6.1: Reject-After-Time).
    static let rejectAfter: UInt64 = 180_000_000_000
    /// Longer than a usual keepalive of 25 s, so that silence means something.
    static let silentAfter: UInt64 = 35_000_000_000

    func liveness(_ now: Moment) -> Liveness {
        guard let handshake = view.lastHandshake else { return .none }
        // A handshake from the future means that the clock was set back: the session is as good as before.
        let age = now.wall > handshake ? now.wall - handshake : 0
        if age >= Self.rejectAfter { return .none }
        return age > Self.silentAfter && now.monotonic > receivedChanged + Self.silentAfter ? .silent : .live
    }

    /// Between two punches: fast while both sides are likely to have just learnt of each other, then slower for ever.
    func punchInterval(_ now: UInt64) -> UInt64 {
        let elapsed = now - min(punchStarted ?? now, now)
        return switch elapsed {
        case ..<500_000_000: 25_000_000
        case ..<3_000_000_000: 100_000_000
        case ..<15_000_000_000: 250_000_000
        default: 1_000_000_000
        }
    }

    /// Both directions have been seen open lately.
    func isOpen(_ now: UInt64) -> Bool {
        guard let inboundAt, let acknowledgedAt else { return false }
        return now < inboundAt + 5_000_000_000 && now < acknowledgedAt + 5_000_000_000
    }

    /// Where punches go: where the server says, where they come from, and what WireGuard was told by somebody else.
    var punchTargets: [WireAddress] {
        var targets: [WireAddress] = []
        for candidate in [inbound, resolved, view.endpoint.flatMap { WireAddress($0) }] {
            if let candidate, candidate.isUsable, !targets.contains(candidate) { targets.append(candidate) }
        }
        return targets
    }
}
