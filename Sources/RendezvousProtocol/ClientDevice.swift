import NetAddress
import WireGuardKeys

// What WireGuard has, and what it is told.
extension RendezvousClient {
    /// Takes what the interface is now.
    package func deviceRead(_ view: DeviceView, now: Moment) {
        guard let key = view.publicKey, key == publicKey else {
            let text =
                view.publicKey.map { "the interface's key is now \($0)" }
                ?? "the interface has no private key"
            if deviceTrouble != text { note(.keyChanged, now, text: text) }
            fail(text)
            return
        }
        if view.listenPort == 0 {
            deviceFailed("the interface has no listen port: is it up?", now: now)
            return
        }
        if deviceTrouble != nil {
            deviceTrouble = nil
            standing = .contacting
            note(.deviceBack, now)
            restartSession(now: now)
        }
        if view.listenPort != listenPort {
            if listenPort != 0 {
                note(.listenPortChanged, now, text: "from \(listenPort) to \(view.listenPort)")
            }
            listenPort = view.listenPort
            // Another port is another mapping in every NAT on the way.
            restartSession(now: now)
            for index in peers.indices { probe(index, now: now) }
        }
        checkLocalAddress(now: now)
        takePeers(view.peers, now: now)
        checkServerAddress(now: now)
        for index in peers.indices {
            judge(index, now: now)
            instruct(index, now: now)
        }
        nextDeviceRead = now.monotonic + deviceInterval(now)
        advance(now: now)
    }

    /// The interface could not be read.
    package func deviceFailed(_ reason: String, now: Moment) {
        if deviceTrouble != reason { note(.deviceFailed, now, text: reason) }
        fail(reason)
        nextDeviceRead = now.monotonic + 1_000_000_000
    }

    private func fail(_ reason: String) {
        deviceTrouble = reason
        standing = .interfaceFailed
        standingText = reason
        session = nil
        outstanding = nil
        initiators = []
    }

    /// Until the next look: soon after WireGuard was given a reason to start, then seldom.
    func deviceInterval(_ now: Moment) -> UInt64 {
        if deviceTrouble != nil { return 1_000_000_000 }
        guard peers.contains(where: { !$0.wasLive }) else { return options.idleDevicePoll }
        let limit = min(2_000_000_000, options.idleDevicePoll)
        guard let lastKick, now.monotonic >= lastKick else { return limit }
        return min(max((now.monotonic - lastKick) / 2, 2_000_000), limit)
    }

    private func takePeers(_ views: [PeerView], now: Moment) {
        var changed = views.count != peers.count
        for (position, view) in views.enumerated() {
            // The order rarely changes; the dictionary is for when it does.
            let index =
                position < peers.count && peers[position].publicKey == view.publicKey
                ? position : peerByKey[RawKey(view.publicKey)]
            guard let index else {
                changed = true
                continue
            }
            if peers[index].view.receivedBytes != view.receivedBytes {
                peers[index].receivedChanged = now.monotonic
                peers[index].heardAt = now.monotonic
            }
            peers[index].view = view
        }
        guard changed else { return }
        let wanted = Set(views.map { RawKey($0.publicKey) })
        for peer in peers where !wanted.contains(peer.key) { note(.peerRemoved, now, peer: peer.publicKey) }
        peers.removeAll { !wanted.contains($0.key) }
        let known = Set(peers.map(\.key))
        for view in views where !known.contains(RawKey(view.publicKey)) && view.publicKey != PublicKey.zero {
            peers.append(ClientPeer(view, now: now, pollInterval: options.firstPoll))
            note(.peerAdded, now, peer: view.publicKey)
        }
        peerByKey = [:]
        peerByPunch = [:]
        for index in peers.indices {
            peerByKey[peers[index].key] = index
            // A peer may begin before the server has told us of it. In a large mesh most keys would never be needed.
            if peers.count <= 64 { _ = preparePunch(index) }
            if let key = peers[index].punchKey { peerByPunch[key.peerID] = index }
        }
    }

    /// Tells the server anew where this host is on its own network, once that is known or another.
    private func checkLocalAddress(now: Moment) {
        guard let localAddress, localAddress != announced, session != nil || !initiators.isEmpty else {
            return
        }
        let moved = announced != nil
        restartSession(now: now)
        if moved { for index in peers.indices { probe(index, now: now) } }
    }

    func checkServerAddress(now: Moment) {
        guard let server else { return }
        if let reason = insideTunnel(server) ?? routeTrouble {
            let text =
                "the rendezvous server \(server) cannot be used: \(reason); the tunnel needs the server before it is up"
            if standing != .insideTunnel { note(.serverRefused, now, endpoint: server, text: text) }
            standing = .insideTunnel
            standingText = text
            session = nil
            outstanding = nil
        } else if standing == .insideTunnel {
            standing = .contacting
            restartSession(now: now)
        }
    }

    /// Compares the peer's session with what was known of it.
    private func judge(_ index: Int, now: Moment) {
        let liveness = peers[index].liveness(now)
        switch liveness {
        case .live:
            if !peers[index].wasLive { connected(index, now: now) }
            if peers[index].phase == .silent { stopPunching(index) }
            peers[index].phase = .connected
        case .silent:
            if !peers[index].wasLive { connected(index, now: now) }
            if peers[index].phase != .silent {
                peers[index].phase = .silent
                peers[index].opened = nil
                peers[index].forgetAcknowledgements()
                peers[index].pollInterval = options.slowestPoll
                peers[index].nextLookup = now.monotonic
            }
        case .none where peers[index].wasLive:
            peers[index].wasLive = false
            peers[index].connectedSince = nil
            note(.sessionLost, now, peer: peers[index].publicKey, text: "no handshake for 180 s")
            peers[index].phase = .asking
            peers[index].nextLookup = now.monotonic
            peers[index].pollInterval = options.firstPoll
            peers[index].inbound = nil
            peers[index].paths = []
            if peers[index].resolved != nil { beginPunching(index, now: now) }
        case .none: break
        }
    }

    private func connected(_ index: Int, now: Moment) {
        peers[index].wasLive = true
        peers[index].fallback = nil
        peers[index].nextAttempt = nil
        peers[index].wantedEndpoint = nil
        peers[index].wantsTrigger = false
        peers[index].connectedSince = peers[index].view.lastHandshake
        if peers[index].firstHandshake == nil {
            peers[index].firstHandshake = peers[index].view.lastHandshake
        }
        stopPunching(index)
        emit(
            .event(
                ClientEvent(
                    .connected, time: peers[index].view.lastHandshake ?? now.wall,
                    peer: peers[index].publicKey,
                    endpoint: peers[index].view.endpoint)))
        let wish = wishedKeepalive(peers[index])
        if peers[index].view.keepalive != wish {
            emit(.configure(peer: peers[index].publicKey, endpoint: nil, keepalive: wish, toggle: false))
        }
    }

    /// Tells WireGuard what is wanted, now that the state is fresh.
    ///
    /// The endpoint of a live session is never touched, nor one that WireGuard has just learnt by itself.
    private func instruct(_ index: Int, now: Moment) {
        let peer = peers[index]
        guard peer.wantedEndpoint != nil || peer.wantsTrigger || peer.wantsNudge else { return }
        peers[index].wantedEndpoint = nil
        peers[index].wantsTrigger = false
        peers[index].wantsNudge = false
        let keepalive = max(wishedKeepalive(peer), 1)
        let liveness = peer.liveness(now)
        if liveness == .live {
            if peer.wantsNudge { configure(peer, endpoint: nil, keepalive: keepalive, toggle: true) }
            return
        }
        if liveness == .none, let heard = peer.heardAt, now.monotonic < heard + Self.rekeyTimeout {
            // A handshake of the peer's came in, perhaps from where no server and no punch could know it to be: a NAT may
            // rewrite the sender's port. WireGuard has answered there, and shows no session before the first data.
            peers[index].setEndpoint = peer.view.endpoint.flatMap { WireAddress($0) }
            peers[index].fallback = heard + Self.rekeyTimeout
            peers[index].phase = .handshaking
            lastKick = now.monotonic
            return
        }
        let trigger = peer.wantsTrigger || liveness == .silent
        let endpoint = peer.wantedEndpoint
        if let endpoint {
            peers[index].setEndpoint = endpoint
            if peers[index].endpointSetAt == nil { peers[index].endpointSetAt = now.wall }
            note(
                .endpointSet, now, peer: peer.publicKey, endpoint: endpoint,
                text: peer.opened == endpoint
                    ? "the way is open both ways" : "no punch came back; trying blindly")
        }
        if trigger {
            peers[index].triggered = now.monotonic
            peers[index].attempts += 1
            peers[index].nextAttempt = now.monotonic + 5_000_000_000
            note(.triggered, now, peer: peer.publicKey, text: "attempt \(peers[index].attempts)")
        }
        if liveness == .none { peers[index].phase = .handshaking }
        lastKick = now.monotonic
        // Without a trigger the keepalive must stay 0, because any change from 0 makes WireGuard start at once.
        configure(
            peer, endpoint: endpoint, keepalive: trigger ? keepalive : nil,
            toggle: trigger && peer.view.keepalive != 0)
    }

    private func configure(_ peer: ClientPeer, endpoint: WireAddress?, keepalive: UInt16?, toggle: Bool) {
        // What WireGuard already has is left out: a roamed endpoint stays as it is, with the source address it learnt.
        let endpoint = endpoint?.endpoint == peer.view.endpoint ? nil : endpoint?.endpoint
        guard endpoint != nil || keepalive != nil else { return }
        emit(.configure(peer: peer.publicKey, endpoint: endpoint, keepalive: keepalive, toggle: toggle))
    }

    func wishedKeepalive(_ peer: ClientPeer) -> UInt16 {
        if let wish = options.keepalives[peer.publicKey] { return wish }
        return peer.view.keepalive != 0 ? peer.view.keepalive : options.keepalive
    }
}
