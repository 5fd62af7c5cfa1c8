import WireGuardKeys

// From a peer's address to an open way.
extension RendezvousClient {
    /// The server says where a peer is.
    func resolve(_ index: Int, _ address: WireAddress, now: Moment, urgent: Bool = false) {
        guard address.isUsable else { return }
        peers[index].isUnknown = false
        if options.takesUnsafeEndpoints { return takeUntried(index, address, now: now) }
        let known = peers[index].resolved == address
        // Behind another NAT it has another local address, if any that matters here; the server says so next.
        if let before = peers[index].resolved, before.ip != address.ip { peers[index].local = nil }
        peers[index].resolved = address
        if let reason = insideTunnel(address) {
            if peers[index].refusal != reason {
                peers[index].refusal = reason
                note(.endpointRefused, now, peer: peers[index].publicKey, endpoint: address, text: reason)
            }
            if peers[index].liveness(now) == .none { peers[index].phase = .endpointRefused }
            return
        }
        peers[index].refusal = nil
        if !known {
            if peers[index].resolvedAt == nil { peers[index].resolvedAt = now.wall }
            note(.resolved, now, peer: peers[index].publicKey, endpoint: address)
        }
        switch peers[index].liveness(now) {
        case .live:
            // A live session is left alone. Where the peer has moved, punches let its own packets in, and WireGuard follows.
            if !known, address.endpoint != peers[index].view.endpoint { probe(index, now: now) }
        case .silent, .none:
            if peers[index].punchStarted == nil || !known {
                beginPunching(index, now: now)
            } else if urgent, peers[index].punchInterval(now.monotonic) > 100_000_000 {
                // The peer begins now: be as fast as it is, but leave what is already found.
                peers[index].punchStarted = now.monotonic
                peers[index].nextPunch = now.monotonic
            }
        }
    }

    /// Gives WireGuard what the server says, whatever it is and has, once.
    private func takeUntried(_ index: Int, _ address: WireAddress, now: Moment) {
        let peer = peers[index]
        guard peer.resolved != address else { return }
        peers[index].resolved = address
        if peer.resolvedAt == nil { peers[index].resolvedAt = now.wall }
        note(.resolved, now, peer: peer.publicKey, endpoint: address)
        guard address.endpoint != peer.view.endpoint else { return }
        peers[index].setEndpoint = address
        if peer.endpointSetAt == nil { peers[index].endpointSetAt = now.wall }
        note(.endpointSet, now, peer: peer.publicKey, endpoint: address, text: "untried, as the server says")
        if peer.liveness(now) == .none { peers[index].phase = .handshaking }
        lastKick = now.monotonic
        let wish = wishedKeepalive(peer)
        emit(
            .configure(
                peer: peer.publicKey, endpoint: address.endpoint,
                keepalive: wish == peer.view.keepalive ? nil : wish, toggle: false))
    }

    /// The server says where a peer is on the network that both may share.
    ///
    /// What answers there may be anybody: only punches made with the peer's key count. Two homes behind one carrier's NAT often
    /// have the same addresses, this host's own among them.
    func takeLocal(_ index: Int, _ address: WireAddress, now: Moment) {
        guard address.isUsable, address.ip != localIP, insideTunnel(address) == nil,
            peers[index].local != address
        else { return }
        peers[index].local = address
        note(
            .localAddress, now, peer: peers[index].publicKey, endpoint: address,
            text: "it is registered with the same external address as this host")
        // The round under way has just begun at the address the server saw.
        if peers[index].punchStarted != nil { punch(index, to: address, now: now) }
    }

    /// Starts a round of punching from nothing.
    func beginPunching(_ index: Int, now: Moment) {
        guard preparePunch(index) else { return }
        peers[index].punchStarted = now.monotonic
        peers[index].nextPunch = now.monotonic
        peers[index].punchUntil = nil
        peers[index].opened = nil
        peers[index].punchTrouble = nil
        peers[index].setEndpoint = nil
        peers[index].fallback = nil
        if peers[index].phase != .silent { peers[index].phase = .punching }
    }

    /// Punches to a peer that may be connected, for a few seconds: an address has changed.
    func probe(_ index: Int, now: Moment) {
        guard !peers[index].punchTargets.isEmpty else { return }
        guard peers[index].liveness(now) != .none else {
            if peers[index].punchStarted != nil { beginPunching(index, now: now) }
            return
        }
        guard preparePunch(index) else { return }
        peers[index].punchStarted = now.monotonic
        peers[index].nextPunch = now.monotonic
        peers[index].punchUntil = now.monotonic + 5_000_000_000
        peers[index].opened = nil
        peers[index].forgetAcknowledgements()
        peers[index].nudgeWhenOpen = true
    }

    /// The key is computed when it is first needed: in a large mesh most are not.
    func preparePunch(_ index: Int) -> Bool {
        if peers[index].punchKey != nil { return true }
        guard
            let key = PunchKey(
                privateKey: privateKey, own: ownKey, peer: peers[index].key, blake: blake, slab: punchKeys)
        else {
            return false
        }
        peers[index].punchKey = key
        peerByPunch[key.peerID] = index
        return true
    }

    private func punch(_ index: Int, to target: WireAddress, now: Moment) {
        guard let key = peers[index].punchKey else { return }
        lastPunchTime = max(now.wall, lastPunchTime + 1)
        let message = PunchMessage(
            acknowledges: peers[index].isHeard(target, now.monotonic), time: lastPunchTime,
            observed: peers[index].inbound)
        peers[index].punchesSent += 1
        counts.punchesSent += 1
        emit(.send(key.write(message), to: target))
    }

    func receivePunch(_ datagram: UnsafeRawBufferPointer, from source: WireAddress, now: Moment) {
        guard let id = PunchMessage.sender(of: datagram), let index = peerByPunch[id],
            let message = peers[index].punchKey?.read(datagram),
            peers[index].isNews(message.time, from: source), source.isUsable, insideTunnel(source) == nil
        else {
            counts.refusedPunches += 1
            return
        }
        counts.punchesReceived += 1
        peers[index].punches = true
        let path = peers[index].heard(message.time, from: source, now: now.monotonic)
        let firstAcknowledgement = message.acknowledges && !peers[index].paths[path].isOpen(now.monotonic)
        if message.acknowledges { peers[index].paths[path].acknowledgedAt = now.monotonic }
        if peers[index].punchStarted == nil, peers[index].liveness(now) != .live {
            beginPunching(index, now: now)
        }
        // Answer at once, so that one round trip is enough; an acknowledgement is answered only once, or it would never end.
        if !message.acknowledges || firstAcknowledgement,
            now.monotonic >= peers[index].paths[path].lastReply + 5_000_000
        {
            peers[index].paths[path].lastReply = now.monotonic
            punch(index, to: source, now: now)
        }
        if peers[index].isOpen(source, now.monotonic) { wayIsOpen(index, source, now: now) }
    }

    /// Both directions are open: time for WireGuard.
    ///
    /// Of several ways the one that opened first stays, for as long as it is open.
    private func wayIsOpen(_ index: Int, _ source: WireAddress, now: Moment) {
        if let opened = peers[index].opened {
            guard opened != source, !peers[index].isOpen(opened, now.monotonic) else { return }
        }
        if peers[index].liveness(now) == .silent, peers[index].view.endpoint != source.endpoint {
            // The session's own way comes first: it may be as open, and the peer merely quiet.
            guard let started = peers[index].punchStarted, now.monotonic >= started + Self.otherWayAfter
            else {
                return
            }
        }
        peers[index].opened = source
        switch peers[index].liveness(now) {
        case .live:
            if peers[index].nudgeWhenOpen {
                peers[index].nudgeWhenOpen = false
                peers[index].wantsNudge = true
                wantsDevice = true
            }
        case .silent where peers[index].view.endpoint == source.endpoint:
            // Nothing to mend: the way is as WireGuard has it, and the peer is merely quiet.
            peers[index].receivedChanged = now.monotonic
            peers[index].phase = .connected
            stopPunching(index)
        case .silent, .none:
            if peers[index].punchedAt == nil { peers[index].punchedAt = now.wall }
            note(.punched, now, peer: peers[index].publicKey, endpoint: source)
            // One side first, or both handshakes cross: the smaller key. The other follows if nothing comes of it.
            let first = publicKey.bytes.lexicographicallyPrecedes(peers[index].publicKey.bytes)
            let lull = peers[index].triggered.map { $0 + Self.rekeyTimeout } ?? 0
            if first, now.monotonic >= lull {
                want(index, source, trigger: true)
            } else {
                // Without an endpoint the follower's own data start no handshake that would cross the other's: over a
                // delay both would fail, and again at WireGuard's next try. It learns the endpoint from the other's.
                if first { want(index, source, trigger: false) }
                peers[index].fallback = max(now.monotonic + (first ? 0 : options.fallbackTrigger), lull)
            }
        }
    }

    /// How long a silent session's own way has to open before another is taken.
    private static let otherWayAfter: UInt64 = 500_000_000

    /// WireGuard starts no second handshake with a peer within this time; a little more, to be past it.
    static let rekeyTimeout: UInt64 = 5_050_000_000

    func stopPunching(_ index: Int) {
        peers[index].nextPunch = .max
        peers[index].punchUntil = nil
        peers[index].punchStarted = nil
    }

    func want(_ index: Int, _ address: WireAddress?, trigger: Bool) {
        if let address { peers[index].wantedEndpoint = address }
        if trigger { peers[index].wantsTrigger = true }
        wantsDevice = true
    }

    /// When the endpoint is set without a punch of the peer's: natpunch-go's clients send none.
    func blindDeadline(_ peer: ClientPeer) -> UInt64? {
        guard let started = peer.punchStarted, peer.punchUntil == nil, peer.setEndpoint == nil, !peer.wasLive,
            peer.wantedEndpoint == nil, peer.fallback == nil, peer.resolved != nil
        else { return nil }
        return started + (peer.punches ? options.blindAfterForPunchers : options.blindAfter)
    }

    func advancePeer(_ index: Int, now: Moment) {
        let time = now.monotonic
        if let until = peers[index].punchUntil, time >= until {
            peers[index].nudgeWhenOpen = false
            stopPunching(index)
        }
        if time >= peers[index].nextPunch {
            peers[index].nextPunch = time + peers[index].punchInterval(time)
            for target in peers[index].punchTargets { punch(index, to: target, now: now) }
            for path in peers[index].paths where path.isOpen(time) {
                wayIsOpen(index, path.address, now: now)
            }
        }
        if let blind = blindDeadline(peers[index]), time >= blind, let address = peers[index].resolved {
            want(index, address, trigger: true)
        }
        if let fallback = peers[index].fallback, time >= fallback {
            peers[index].fallback = nil
            if !peers[index].wasLive { want(index, peers[index].opened, trigger: true) }
        }
        if let next = peers[index].nextAttempt, time >= next {
            // WireGuard tries again by itself every 5 s (WireGuard paper, section 6.4).
            peers[index].nextAttempt = next + 5_000_000_000
            peers[index].attempts += 1
        }
    }
}
