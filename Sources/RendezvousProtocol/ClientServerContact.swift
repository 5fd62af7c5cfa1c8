import SystemCalls
import WireGuardKeys

// Handshakes with the server, lookups, replies, pushes.
extension RendezvousClient {
    private static let leastTimeout: UInt64 = 500_000_000
    private static let longestTimeout: UInt64 = 2_000_000_000

    /// How long to wait for the server: four round trips, then twice as long each time.
    private func timeout(_ failures: Int) -> UInt64 {
        let first = min(max(4 * (roundTrip ?? 0), Self.leastTimeout), Self.longestTimeout)
        return min(first << UInt64(min(failures, 2)), max(Self.longestTimeout, first))
    }

    /// Forgets the session, and begins a new one at once.
    func restartSession(now: Moment) {
        session = nil
        outstanding = nil
        initiators = []
        unanswered = 0
        nextHandshake = now.monotonic
    }

    func advanceServer(now: Moment) {
        guard server != nil, listenPort != 0, standing != .insideTunnel, deviceTrouble == nil else { return }
        guard let session else {
            if now.monotonic >= nextHandshake { sendInit(now: now) }
            return
        }
        if let outstanding {
            guard now.monotonic >= outstanding.deadline else { return }
            // The reply may still come, or be doubled on the way, and it names no request: only new keys tell it apart.
            counts.lostReplies += 1
            lostReplies += 1
            self.session = nil
            self.outstanding = nil
            if lostReplies == 3 {
                standing = .deaf
                standingText = "the server answers handshakes but not lookups"
                note(.serverSilent, now, text: standingText)
            }
            sendInit(now: now)
            return
        }
        if now.monotonic >= sessionStarted + options.sessionLifetime {
            self.session = nil
            sendInit(now: now)
            return
        }
        if let target = nextTarget(now) { sendLookup(target, session, now: now) }
    }

    var serverDeadline: UInt64 {
        guard server != nil, listenPort != 0, standing != .insideTunnel, deviceTrouble == nil else {
            return .max
        }
        guard session != nil else { return nextHandshake }
        if let outstanding { return outstanding.deadline }
        var deadline = sessionStarted + options.sessionLifetime
        deadline = min(deadline, (lastLookup ?? 0) + options.refresh)
        for peer in peers where isWanted(peer) {
            deadline = min(deadline, peer.nextLookup)
        }
        return deadline
    }

    // MARK: Handshakes

    private func sendInit(now: Moment) {
        guard let server else { return }
        if !initiators.isEmpty { unanswered += 1 }
        nextHandshake = now.monotonic + timeout(unanswered)
        if unanswered > 0, unanswered % 3 == 0 {
            if standing != .silent, standing != .socketError || !sendFailedLately {
                standing = .silent
                standingText =
                    "\(server) does not answer: it is down, not reachable from here, has another key, or does not serve this key"
                note(.serverSilent, now, endpoint: server, text: standingText)
            }
            emit(.resolveServer)
        }
        let initiator: NoiseInitiator
        do {
            initiator = try NoiseInitiator(
                privateKey: privateKey, publicKey: ownKey, server: serverKey, blake: blake)
        } catch {
            standing = .socketError
            standingText = "\(error.operation) \(error.object): \(error.detail ?? "")"
            return
        }
        sendFailedLately = false
        // Strictly newer, also when the clock was set back while this client ran.
        lastTimestamp = max(now.wall, lastTimestamp + 1)
        let stamp = lastTimestamp
        announced = localAddress
        let payload =
            (0..<8).map { UInt8(truncatingIfNeeded: stamp >> UInt64(56 - 8 * $0)) }
            + ClientAnnouncement(takesPushes: true, local: announced).bytes
        var index: UInt32 = 0
        withUnsafeMutableBytes(of: &index) { random($0) }
        guard let message = initiator.writeInit(proposedIndex: index, payload: payload, random: random) else {
            standing = .silent
            standingText = "the server's key is no Curve25519 key"
            nextHandshake = .max
            // The last word on this server: nothing will be sent to it, so nothing else would tell the user.
            note(.serverSilent, now, endpoint: server, text: standingText)
            return
        }
        // A slow answer to an earlier one is as good.
        if initiators.count == 3 { initiators.removeFirst() }
        initiators.append((initiator, now.monotonic))
        counts.handshakesSent += 1
        emit(.send(message, to: server))
    }

    func receiveResponse(_ datagram: UnsafeRawBufferPointer, now: Moment) {
        guard session == nil else { return }
        for (initiator, sent) in initiators.reversed() {
            guard let fresh = ClientSession(response: datagram, to: initiator, ownKey: ownKey) else {
                continue
            }
            session = fresh
            counts.sessions += 1
            sessionStarted = now.monotonic
            lastLookup = nil
            measure(now.monotonic - sent)
            initiators = []
            unanswered = 0
            if let seen = fresh.observed { observe(seen, now: now) }
            for index in peers.indices {
                peers[index].nextLookup = now.monotonic
                peers[index].pollInterval = options.firstPoll
            }
            return
        }
        counts.refusedReplies += 1
    }

    private func measure(_ sample: UInt64) {
        roundTrip = roundTrip.map { ($0 * 7 + sample) / 8 } ?? sample
    }

    // MARK: Lookups

    /// Whom to ask for now: the peer that is due longest, or, to stay registered, the own key.
    ///
    /// Never the zero key.
    private func nextTarget(_ now: Moment) -> RawKey? {
        var chosen: (key: RawKey, due: UInt64)?
        for peer in peers where isWanted(peer) && peer.nextLookup <= now.monotonic {
            if peer.nextLookup < chosen?.due ?? .max { chosen = (peer.key, peer.nextLookup) }
        }
        if let chosen { return chosen.key }
        guard let lastLookup else { return ownKey }
        return now.monotonic >= lastLookup + options.refresh ? ownKey : nil
    }

    /// Whether the server is to be asked where it is.
    private func isWanted(_ peer: ClientPeer) -> Bool {
        !peer.wasLive || peer.phase == .silent || options.takesUnsafeEndpoints
    }

    private func sendLookup(_ target: RawKey, _ session: ClientSession, now: Moment) {
        guard let server else { return }
        lastLookup = now.monotonic
        outstanding = (target, now.monotonic, now.monotonic + timeout(lostReplies))
        counts.lookupsSent += 1
        if let index = peerByKey[target] { schedule(index, now: now) }
        emit(.send(session.lookup(target), to: server))
    }

    /// The peer's next question: fast at first, then slower; slower still with many peers, or where the server pushes.
    private func schedule(_ index: Int, now: Moment) {
        let waiting = UInt64(peers.count) * 1_000_000
        let slowest = session?.takesPushes == true ? 2 * options.slowestPoll : options.slowestPoll
        peers[index].nextLookup = now.monotonic + max(peers[index].pollInterval, waiting)
        peers[index].pollInterval = min(peers[index].pollInterval * 3 / 2, slowest)
        peers[index].lookups += 1
    }

    func receiveReply(_ datagram: UnsafeRawBufferPointer, now: Moment) {
        guard let session, let asked = outstanding, let answer = session.readReply(datagram) else {
            counts.refusedReplies += 1
            return
        }
        outstanding = nil
        lostReplies = 0
        counts.replies += 1
        measure(now.monotonic - asked.sent)
        if standing != .registered, let server {
            let back = standing == .silent || standing == .deaf || standing == .socketError
            standing = .registered
            standingText = "registered with \(server)"
            if registeredAt == nil { registeredAt = now.wall }
            note(back ? .serverBack : .registered, now, endpoint: observed, text: standingText)
        }
        if asked.target == ownKey {
            if case .found(let address) = answer { observe(address, now: now) }
            return
        }
        guard let index = peerByKey[asked.target] else { return }
        switch answer {
        case .found(let address): resolve(index, address, now: now)
        case .notFound:
            let peer = peers[index]
            let isNews = peer.resolved != nil || peer.phase == .asking
            if isNews || options.takesUnsafeEndpoints && !peer.isUnknown {
                note(
                    .unknownToServer, now, peer: peer.publicKey,
                    text: "no client with this key is registered: does it run, with the same server?")
            }
            peers[index].isUnknown = true
            peers[index].resolved = nil
            peers[index].local = nil
            if peer.phase == .asking || peer.phase == .endpointRefused {
                peers[index].phase = .unknownToServer
            }
        }
    }

    func receivePush(_ datagram: UnsafeRawBufferPointer, now: Moment) {
        guard let push = session?.readPush(datagram) else {
            counts.refusedReplies += 1
            return
        }
        counts.pushes += 1
        guard let index = peerByKey[push.peer] else { return }
        if push.peerPunches { peers[index].punches = true }
        if push.kind == .local {
            takeLocal(index, push.address, now: now)
        } else {
            resolve(index, push.address, now: now, urgent: true)
        }
    }

    /// Notes how the server sees this host.
    ///
    /// Another address than before means that all mappings of the NAT may be gone.
    private func observe(_ address: WireAddress, now: Moment) {
        defer { observed = address }
        guard let before = observed, before != address else { return }
        note(.ownAddressChanged, now, endpoint: address, text: "was \(before)")
        for index in peers.indices {
            // Behind another NAT, the former's hosts are others'.
            if before.ip != address.ip { peers[index].local = nil }
            probe(index, now: now)
        }
    }
}
