package import LabPlanner
package import NetAddress
package import WireGuardControl

/// A router on a host's own way shows it a remote endpoint as another one than it is.
///
/// Linux does so where the answer to an inbound packet would clash with a flow of another mapping: the endpoint that
/// WireGuard then has exists on no NAT, and is right all the same.
package struct EndpointTranslation: Codable, Hashable, Sendable {
    package var router: String
    /// As it is on the router's other side.
    package var original: Endpoint

    package init(router: String, original: Endpoint) {
        self.router = router
        self.original = original
    }
}

/// What one side of a pair knows and did during this verify.
package struct SideEvidence: Sendable {
    package var host: String
    /// The other side, as this side's WireGuard sees it; nil when it is no peer there or the interface is unreadable.
    package var peer: WireGuardPeer?
    /// Why the interface could not be read: the sentence for the user.
    package var unreadable: String?
    /// The peer's received bytes when this verify began; nil while they could not be read yet.
    package var receivedBefore: UInt64?
    /// Echo requests sent through the tunnel, and answered.
    package var echoesSent: Int
    package var echoesAnswered: Int
    /// Bytes of an echo inside the tunnel: an answer from this peer adds at least so many to its received bytes.
    package var echoSize: UInt64
    /// Who got an echo for the other side and would have had to send it on.
    package var turnedBackBy: IPAddress?
    /// Milliseconds; nil without an answer.
    package var quickestEcho: Double?
    /// The rendezvous client's attempts at this peer since `up`; nil where no client runs.
    package var attempts: Int?
    /// The client's own words on this peer; nil where no client runs.
    package var clientSays: String?
    /// The client knows by now that it has nothing to try: see `ClientWord`.
    package var clientCannotTry: Bool
    /// Who has made the peer's endpoint what this side sees; nil where nobody has.
    package var translation: EndpointTranslation?

    package init(host: String) {
        self.host = host
        echoesSent = 0
        echoesAnswered = 0
        echoSize = 0
        clientCannotTry = false
    }

    /// Whether all answered echoes can have come over this very peer, by the bytes WireGuard has counted for it.
    ///
    /// A keepalive or a handshake raises the count too, but not by the size of an echo.
    var answersAreThePeers: Bool {
        guard echoesAnswered > 0, let peer, let receivedBefore, peer.receivedBytes > receivedBefore else {
            return false
        }
        return peer.receivedBytes - receivedBefore >= UInt64(echoesAnswered) * echoSize
    }
}

/// Turns evidence into a verdict.
///
/// Pure, so that each rule has its own test.
package struct PairJudge: Sendable {
    /// WireGuard refuses to use a session older than REJECT_AFTER_TIME (WireGuard paper, section 6.2).
    package static let sessionLifetime: Double = 180
    /// How often each side must have tried before "none" is more than impatience.
    package static let attemptsForNone = 3

    private let addresses: AddressBook
    private let builtAt: WallTime
    private let namesInterface: Bool

    /// - Parameter namesInterface: whether a reason must say which WireGuard network it is about.
    package init(addresses: AddressBook, builtAt: WallTime, namesInterface: Bool = false) {
        self.addresses = addresses
        self.builtAt = builtAt
        self.namesInterface = namesInterface
    }

    /// Whether this pair has shown all that "direct" asks for: nothing more needs to be waited for.
    package func isDirect(_ a: SideEvidence, _ b: SideEvidence, now: WallTime) -> Bool {
        shortfall(a, towards: b, now: now) == nil && shortfall(b, towards: a, now: now) == nil
    }

    /// Whether both sides have tried often enough for "none" to be a finding.
    ///
    /// With a session since `up`, data is what is tried. Without one it is the client's attempts, where there is a client;
    /// a side without an endpoint and without a client cannot try.
    package func hasTriedEnough(_ a: SideEvidence, _ b: SideEvidence) -> Bool {
        [a, b].allSatisfy { side in
            guard let peer = side.peer else { return true }
            let hasSentData = side.echoesSent >= Self.attemptsForNone
            if let handshake = peer.lastHandshake, handshake >= builtAt { return hasSentData }
            if let attempts = side.attempts, !side.clientCannotTry { return attempts >= Self.attemptsForNone }
            return peer.endpoint == nil || hasSentData
        }
    }

    package func verdict(
        _ pair: PlannedPair, from a: SideEvidence, to b: SideEvidence, firstHandshake: Double?, now: WallTime
    ) -> PairVerdict {
        // A dead interface explains whatever the other side lacks.
        let unreadable = a.unreadable ?? b.unreadable
        let lack =
            unreadable ?? shortfall(a, towards: b, now: now) ?? shortfall(b, towards: a, now: now)
        let observed: PlannedPair.Path = lack == nil ? .direct : .none
        var reason = lack ?? "data both ways over \(path(a, towards: b)) and \(path(b, towards: a))"
        if lack != nil, unreadable == nil, pair.expected == .direct, !hasTriedEnough(a, b) {
            reason +=
                "; the time was up before both sides had tried \(Self.attemptsForNone) times (see --timeout)"
        }
        // What says that an interface is dead names it.
        if namesInterface, unreadable == nil { reason = "\(pair.interface): \(reason)" }
        return PairVerdict(
            from: pair.from, to: pair.to, interface: pair.interface, expected: pair.expected,
            observed: observed,
            ok: observed == pair.expected, endpoint: a.peer?.endpoint,
            endpointOwner: ownerName(a, towards: b),
            returnEndpoint: b.peer?.endpoint, returnEndpointOwner: ownerName(b, towards: a),
            handshakeAge: handshakeAge(a, b, now: now), firstHandshake: firstHandshake,
            roundTrip: [a.quickestEcho, b.quickestEcho].compactMap { $0 }.min(), reason: reason,
            translation: a.translation, returnTranslation: b.translation)
    }

    // MARK: -

    /// What `a` lacks for a direct path to `b`, as a sentence; nil when nothing is.
    private func shortfall(_ a: SideEvidence, towards b: SideEvidence, now: WallTime) -> String? {
        if let unreadable = a.unreadable { return unreadable }
        guard let peer = a.peer else { return "\(b.host) is not a peer of \(a.host)'s interface" }
        let told = a.clientSays.map { "; \(a.host)'s client: \($0)" } ?? ""
        guard let endpoint = peer.endpoint else {
            return "\(a.host) knows no endpoint of \(b.host)\(told)"
        }
        guard let handshake = peer.lastHandshake, handshake >= builtAt else {
            return
                "\(a.host) sends to \(endpoint) (\(describe(endpoint, a, b))), but no handshake with \(b.host) has"
                + " come about since up\(sharedRouter(endpoint, a, b))\(told)"
        }
        let age = Double(now.nanoseconds - handshake.nanoseconds) / 1e9
        guard age < Self.sessionLifetime else {
            return
                "the last handshake between \(a.host) and \(b.host) is \(Int(age)) s old: the session is dead\(told)"
        }
        guard a.answersAreThePeers else { return dataShortfall(a, towards: b, peer, endpoint, age, told) }
        switch addresses.owner(of: endpoint.address, seenFrom: a.host, towards: b.host) {
        case .onPath: return nil
        case .elsewhere(let node):
            return
                "data arrives, but over \(endpoint), which belongs to \(node): not a direct path to \(b.host)"
        case .insideTunnel:
            return
                "\(a.host) sends to \(endpoint), which lies inside a WireGuard tunnel: not a direct path to \(b.host)"
        case .unknown: return "data arrives, but over \(endpoint), which no node of the lab has"
        }
    }

    /// Why the echoes from `a` to `b` do not prove this peer, though it has a session.
    private func dataShortfall(
        _ a: SideEvidence, towards b: SideEvidence, _ peer: WireGuardPeer, _ endpoint: Endpoint,
        _ age: Double,
        _ told: String
    ) -> String {
        if let hop = a.turnedBackBy {
            let name = addresses.hostInTunnel(hop).map { "\($0) (\(hop))" } ?? "\(hop)"
            return
                "what \(a.host) sends to \(b.host) through the tunnel goes to \(name) to be sent on, not over this"
                + " peer: not a direct path (see the allowed-ips of \(a.host)'s peers)"
        }
        if a.echoesAnswered > 0 {
            return
                "\(a.echoesAnswered) echoes came back from \(b.host) to \(a.host), but not over this peer, which"
                + " received \(peer.receivedBytes - min(a.receivedBefore ?? 0, peer.receivedBytes)) bytes meanwhile:"
                + " not a direct path"
        }
        return "no data came back from \(b.host) to \(a.host) in \(a.echoesSent) tries over \(endpoint)"
            + " (\(describe(endpoint, a, b))); the last handshake was \(Int(age)) s ago"
            + "\(sharedRouter(endpoint, a, b))\(told)"
    }

    /// Where the packets would have to turn round in a NAT that both are behind.
    private func sharedRouter(_ endpoint: Endpoint, _ a: SideEvidence, _ b: SideEvidence) -> String {
        guard
            case .onPath(let node) = addresses.owner(
                of: endpoint.address, seenFrom: a.host, towards: b.host),
            addresses.isBehind(a.host, node), !addresses.hairpins(node)
        else { return "" }
        return "; both are behind \(node), which does not hairpin"
    }

    private func describe(_ endpoint: Endpoint, _ a: SideEvidence, _ b: SideEvidence) -> String {
        switch addresses.owner(of: endpoint.address, seenFrom: a.host, towards: b.host) {
        case .onPath(let node), .elsewhere(let node): node
        case .insideTunnel: "inside a tunnel"
        case .unknown: "nobody's"
        }
    }

    private func ownerName(_ a: SideEvidence, towards b: SideEvidence) -> String? {
        guard let endpoint = a.peer?.endpoint else { return nil }
        return addresses.owner(of: endpoint.address, seenFrom: a.host, towards: b.host).node
    }

    private func path(_ a: SideEvidence, towards b: SideEvidence) -> String {
        guard let endpoint = a.peer?.endpoint else { return "no endpoint" }
        let owner = describe(endpoint, a, b)
        guard let translation = a.translation else { return "\(endpoint) (\(owner))" }
        return "\(endpoint) (\(owner)'s \(translation.original), translated by \(translation.router))"
    }

    private func handshakeAge(_ a: SideEvidence, _ b: SideEvidence, now: WallTime) -> Double? {
        guard let first = a.peer?.lastHandshake, let second = b.peer?.lastHandshake,
            min(first, second) >= builtAt
        else { return nil }
        return Double(now.nanoseconds - min(first, second).nanoseconds) / 1e9
    }
}
