package import NetAddress
package import WireGuardKeys

/// A rendezvous client of one WireGuard interface: events and the time in, actions out.
///
/// Not Sendable.
///
/// It registers the interface's own address with a server (natpunch-go's or natlab's), asks for the peers that have no live
/// session, opens the NATs on the way to them by punches, and only then gives WireGuard the endpoint, because WireGuard
/// starts at most one handshake per 5 s and peer (WireGuard paper, section 6.1: Rekey-Timeout).
///
/// After each input: perform `takeActions()` until there are none, then call `advance` at `nextDeadline`.
package final class RendezvousClient {
    package let options: ClientOptions
    package let publicKey: PublicKey
    /// The interface's port as last read; 0 before.
    package internal(set) var listenPort: UInt16 = 0
    package internal(set) var server: WireAddress?
    package internal(set) var standing = ServerStanding.starting
    /// The detail of `standing`, for people.
    package internal(set) var standingText = ""

    let ownKey: RawKey
    let serverKey: RawKey
    let privateKey: PrivateKey
    let blake: Blake2s
    let random: RandomSource
    let punchKeys = SecretSlab(slotSize: PunchKey.slotSize, slotsPerChunk: 32)
    private var actions: [ClientAction] = []

    // The server.
    var session: ClientSession?
    var sessionStarted: UInt64 = 0
    /// Handshakes that may still be answered, newest last.
    var initiators: [(initiator: NoiseInitiator, sent: UInt64)] = []
    var nextHandshake: UInt64 = 0
    var unanswered = 0
    /// Since the last init.
    var sendFailedLately = false
    var lostReplies = 0
    var outstanding: (target: RawKey, sent: UInt64, deadline: UInt64)?
    var lastLookup: UInt64?
    var roundTrip: UInt64?
    var lastTimestamp: UInt64 = 0
    var observed: WireAddress?
    /// The own address on the way to the server, before any NAT; nil while unknown.
    var localIP: UInt32?
    /// What the last init said of it.
    var announced: WireAddress?
    var registeredAt: UInt64?
    var upAt: UInt64?
    var counts = ClientCounters()

    // The interface.
    var peers: [ClientPeer] = []
    var peerByKey: [RawKey: Int] = [:]
    var peerByPunch: [UInt64: Int] = [:]
    var nextDeviceRead: UInt64 = .max
    var deviceTrouble: String?
    /// Why packets for the server would take the tunnel itself; nil while they do not.
    var routeTrouble: String?
    /// When WireGuard was last given a reason to start a handshake.
    var lastKick: UInt64?
    var wantsDevice = false
    var lastPunchTime: UInt64 = 0

    /// - Parameter blake: may be shared by the clients of one thread.
    package init(
        privateKey: PrivateKey, serverKey: PublicKey, options: ClientOptions = ClientOptions(),
        blake: Blake2s,
        random: @escaping RandomSource
    ) {
        self.privateKey = privateKey
        publicKey = privateKey.publicKey
        ownKey = RawKey(publicKey)
        self.serverKey = RawKey(serverKey)
        self.options = options.bounded
        self.blake = blake
        self.random = random
    }

    // MARK: Inputs

    /// Begins: reads the interface, and contacts the server once its address is known.
    package func start(now: Moment) {
        upAt = now.wall
        emit(.event(ClientEvent(.up, time: now.wall)))
        nextHandshake = now.monotonic
        nextDeviceRead = now.monotonic
        advance(now: now)
    }

    /// The server's address, also when it is the same as before.
    package func serverResolved(_ endpoint: Endpoint, now: Moment) {
        guard let address = WireAddress(endpoint), address.isUsable else {
            serverNotResolved(
                "\(endpoint) is no IPv4 address; natpunch-go's protocol carries no others", now: now)
            return
        }
        if address == server, standing != .nameNotResolved { return }
        server = address
        standing = .contacting
        standingText = "contacting \(address)"
        restartSession(now: now)
        // Before the first datagram goes there; the next look at the interface may be seconds away.
        checkServerAddress(now: now)
        advance(now: now)
    }

    package func serverNotResolved(_ reason: String, now: Moment) {
        // A name that once had an address keeps it: the resolver may be what is down.
        if server == nil {
            if standing != .nameNotResolved { note(.nameNotResolved, now, text: reason) }
            standing = .nameNotResolved
            standingText = reason
        }
    }

    /// Takes a datagram that arrived for WireGuard's port; anything that is neither the server's nor a punch is ignored.
    package func receive(_ datagram: UnsafeRawBufferPointer, from source: WireAddress, now: Moment) {
        switch datagram.first {
        case WireFormat.punchType: receivePunch(datagram, from: source, now: now)
        case WireFormat.responseType where source == server: receiveResponse(datagram, now: now)
        case WireFormat.dataType where source == server: receiveReply(datagram, now: now)
        case WireFormat.pushType where source == server: receivePush(datagram, now: now)
        default: counts.strayDatagrams += 1
        }
        advance(now: now)
    }

    /// The host's own address or route has changed: every mapping may be gone.
    package func networkChanged(now: Moment) {
        restartSession(now: now)
        for index in peers.indices { probe(index, now: now) }
        advance(now: now)
    }

    /// The source address that the routing table gives packets for the server; to be said after each look at it, before
    /// what else follows from that look.
    ///
    /// Peers behind the same NAT will be told of it.
    /// One of the tunnel's own means that the peers' allowed IPs take the server in, as 0.0.0.0/0 does without a mark.
    package func serverRoute(source: IPAddress) {
        let inside = options.tunnelPrefixes.contains { $0.length > 1 && $0.contains(source) }
        localIP = inside ? nil : source.v4Bits
        routeTrouble =
            inside && !options.takesUnsafeEndpoints
            ? "packets for it would leave through the tunnel itself (from \(source)): the peers' allowed IPs take its address in; "
                + "leave it out of them, or set a firewall mark and a routing rule, as wg-quick(8) does" : nil
    }

    /// A datagram could not be sent.
    package func sendFailed(_ reason: String, to target: WireAddress, now: Moment) {
        counts.sendFailures += 1
        guard target == server else {
            // A local address is only one more chance: a network that this host has no way to means nothing.
            for index in peers.indices
            where target != peers[index].local && peers[index].punchTargets.contains(target) {
                peers[index].punchTrouble = reason
            }
            return
        }
        sendFailedLately = true
        guard standing != .socketError || standingText != reason else { return }
        standing = .socketError
        standingText = reason
        note(.socketError, now, text: reason)
    }

    // MARK: Time

    /// Does what is due.
    package func advance(now: Moment) {
        advanceServer(now: now)
        for index in peers.indices { advancePeer(index, now: now) }
        if wantsDevice || now.monotonic >= nextDeviceRead {
            wantsDevice = false
            nextDeviceRead = now.monotonic + deviceInterval(now)
            emit(.readDevice)
        }
    }

    /// When `advance` is to be called next, monotonic nanoseconds.
    package var nextDeadline: UInt64 {
        var deadline = min(nextDeviceRead, serverDeadline)
        for peer in peers {
            deadline = min(deadline, peer.nextPunch, peer.fallback ?? .max, peer.nextAttempt ?? .max)
            if let blind = blindDeadline(peer) { deadline = min(deadline, blind) }
        }
        return deadline
    }

    /// What to do, in order; each action once.
    package func takeActions() -> [ClientAction] {
        defer { actions.removeAll(keepingCapacity: true) }
        return actions
    }

    func emit(_ action: ClientAction) { actions.append(action) }

    func note(
        _ kind: ClientEvent.Kind, _ now: Moment, peer: PublicKey? = nil, endpoint: WireAddress? = nil,
        text: String = ""
    ) {
        emit(.event(ClientEvent(kind, time: now.wall, peer: peer, endpoint: endpoint?.endpoint, text)))
    }

    /// Where peers on the same network find this host; nil while unknown.
    var localAddress: WireAddress? {
        guard let localIP, listenPort != 0 else { return nil }
        return WireAddress(ip: localIP, port: listenPort)
    }

    // MARK: Inside the tunnel

    /// Why no packet for the tunnel may be sent to this address; nil where there is nothing against it.
    ///
    /// A network that takes everything (0.0.0.0/0 or its halves) says nothing: policy routing then keeps endpoints outside.
    func insideTunnel(_ address: WireAddress) -> String? {
        if options.takesUnsafeEndpoints { return nil }
        let ip = address.endpoint.address
        for prefix in options.tunnelPrefixes where prefix.length > 1 && prefix.contains(ip) {
            return "\(ip) lies inside the tunnel's own network \(prefix.network)"
        }
        for peer in peers {
            for prefix in peer.view.allowedIPs where prefix.length > 1 && prefix.contains(ip) {
                return
                    "\(ip) lies inside the tunnel: it is one of the allowed IPs (\(prefix)) of peer \(peer.publicKey)"
            }
        }
        return nil
    }
}

/// What a client counted.
package struct ClientCounters: Hashable, Sendable, Codable {
    package var handshakesSent: UInt64 = 0
    package var sessions: UInt64 = 0
    package var lookupsSent: UInt64 = 0
    package var replies: UInt64 = 0
    package var pushes: UInt64 = 0
    /// Replies that did not come in time; each ended a session.
    package var lostReplies: UInt64 = 0
    /// Repeated, late or forged datagrams from the server's address.
    package var refusedReplies: UInt64 = 0
    package var punchesSent: UInt64 = 0
    package var punchesReceived: UInt64 = 0
    /// Repeated or forged punches.
    package var refusedPunches: UInt64 = 0
    package var strayDatagrams: UInt64 = 0
    package var sendFailures: UInt64 = 0

    package init() {}
}
