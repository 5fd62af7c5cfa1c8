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
    /// The server's last word on it was that it does not know the peer.
    var isUnknown = false
    /// What the server last said; nil while it does not know the peer.
    var resolved: WireAddress?
    var resolvedAt: UInt64?
    var refusal: String?
    /// Where it is on the network that it shares with this host, as the server says; nil where it shares none.
    var local: WireAddress?
    /// The peer is a natlab client: it punches, so there is no hurry to try blindly.
    var punches = false

    // Punching. Monotonic times.
    var punchKey: PunchKey?
    var punchStarted: UInt64?
    /// Punching of a connected peer ends by itself.
    var punchUntil: UInt64?
    var nextPunch: UInt64 = .max
    var punchesSent = 0
    /// Why the last one could not be sent, in this round of punching.
    var punchTrouble: String?
    var punchesReceived = 0
    /// The newest time in a punch of the peer's.
    var newestPunch: UInt64 = 0
    /// Where its last punch came from.
    var inbound: WireAddress?
    /// The few addresses that its punches come from.
    var paths: [PunchPath] = []
    /// The address both directions were found open with, first in this round of punching: WireGuard is to use it.
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
    /// When WireGuard was last seen to have got something from the peer: its endpoint is where that came from.
    var heardAt: UInt64?
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

    /// Both directions have been seen open lately, with this address.
    func isOpen(_ address: WireAddress, _ now: UInt64) -> Bool {
        paths.contains { $0.address == address && $0.isOpen(now) }
    }

    /// The peer's punches have come from this address lately.
    func isHeard(_ address: WireAddress, _ now: UInt64) -> Bool {
        paths.contains { $0.address == address && $0.isHeard(now) }
    }

    mutating func forgetAcknowledgements() {
        for index in paths.indices { paths[index].acknowledgedAt = nil }
    }

    /// Whether a punch is none that came before.
    ///
    /// Times rise, so that a repeated one is recognised. Over the slower of two ways they come later than newer ones over the
    /// other: from where the peer is known to be, they only have to rise for themselves.
    func isNews(_ time: UInt64, from source: WireAddress) -> Bool {
        if time > newestPunch { return true }
        guard time > newestPunch - min(newestPunch, PunchPath.lifetime) else { return false }
        if let path = paths.first(where: { $0.address == source }) { return time > path.newest }
        return punchTargets.contains(source)
    }

    /// Notes a punch; the number of its path.
    mutating func heard(_ time: UInt64, from source: WireAddress, now: UInt64) -> Int {
        newestPunch = max(newestPunch, time)
        inbound = source
        punchesReceived += 1
        if let known = paths.firstIndex(where: { $0.address == source }) {
            paths[known].newest = time
            paths[known].heardAt = now
            return known
        }
        if paths.count == PunchPath.limit,
            let oldest = paths.indices.min(by: { paths[$0].heardAt < paths[$1].heardAt })
        {
            paths.remove(at: oldest)
        }
        paths.append(PunchPath(address: source, newest: time, heardAt: now))
        return paths.count - 1
    }

    /// Where punches go: where they come from, where the server says, and what WireGuard was told by somebody else.
    var punchTargets: [WireAddress] {
        var targets: [WireAddress] = []
        for candidate in paths.map(\.address) + [
            inbound, resolved, local, view.endpoint.flatMap { WireAddress($0) },
        ] {
            if let candidate, candidate.isUsable, !targets.contains(candidate) { targets.append(candidate) }
        }
        return targets
    }
}

/// One address that a peer's punches come from; monotonic times.
struct PunchPath {
    let address: WireAddress
    /// The newest time in a punch from there.
    var newest: UInt64
    var heardAt: UInt64
    /// When the peer last said that ours arrive there, from where it sent that to.
    var acknowledgedAt: UInt64?
    var lastReply: UInt64 = 0

    /// What was open is thought to be so for this time.
    static let lifetime: UInt64 = 5_000_000_000
    /// A host has few addresses; whoever else holds the peer's key would fill memory only for itself.
    static let limit = 4

    init(address: WireAddress, newest: UInt64, heardAt: UInt64) {
        self.address = address
        self.newest = newest
        self.heardAt = heardAt
    }

    func isHeard(_ now: UInt64) -> Bool { now < heardAt + Self.lifetime }

    func isOpen(_ now: UInt64) -> Bool {
        guard let acknowledgedAt else { return false }
        return isHeard(now) && now < acknowledgedAt + Self.lifetime
    }
}
