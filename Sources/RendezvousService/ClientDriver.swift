import Glibc
package import NetAddress
package import RendezvousProtocol
package import SystemCalls
package import WireGuardControl

/// A rendezvous client on its sockets and its WireGuard interface, in an event loop.
///
/// Not Sendable.
package final class ClientDriver {
    package let client: RendezvousClient
    private let datagrams: RawDatagrams
    private let transport: any WireGuardTransport
    private let loop: EventLoop
    private let sink: (ClientEvent) -> Void
    private let resolve: () -> Void
    private var timer: (id: EventLoop.TimerID, deadline: UInt64)?
    private var running = false
    /// After timeouts the interface is left alone for a while: each costs everybody in the loop that time.
    private var silence: (until: MonotonicTime, length: Duration, reason: String)?
    private static let longestSilence = Duration.seconds(30)

    /// - Parameters:
    ///   - resolve: asked for when the server does not answer; calls `serverResolved`, at once or later. For a server
    ///     with a fixed address it does nothing.
    ///   - sink: gets each event once, in order.
    package init(
        client: RendezvousClient, sockets: consuming ClientSockets, transport: any WireGuardTransport,
        loop: EventLoop, resolve: @escaping () -> Void = {}, sink: @escaping (ClientEvent) -> Void
    ) throws(OperationFailure) {
        self.client = client
        datagrams = try RawDatagrams(sockets)
        self.transport = transport
        self.loop = loop
        self.resolve = resolve
        self.sink = sink
    }

    deinit { stop() }

    /// Starts, with the server's address where it is known already.
    package func start(server: Endpoint?) throws(OperationFailure) {
        running = true
        try loop.watch(datagrams.descriptor) { [unowned self] _ in receive() }
        if let server {
            reportRoute(to: WireAddress(server))
            client.serverResolved(server, now: Clock.moment())
        }
        client.start(now: Clock.moment())
        perform()
    }

    /// Stops; the sockets stay open until the object goes.
    package func stop() {
        running = false
        loop.unwatch(datagrams.descriptor)
        if let timer { loop.cancel(timer.id) }
        timer = nil
    }

    package func serverResolved(_ endpoint: Endpoint) {
        reportRoute(to: WireAddress(endpoint))
        client.serverResolved(endpoint, now: Clock.moment())
        perform()
    }

    package func serverNotResolved(_ reason: String) {
        client.serverNotResolved(reason, now: Clock.moment())
        perform()
    }

    /// The host's own address or route has changed.
    package func networkChanged() {
        client.networkChanged(now: Clock.moment())
        perform()
    }

    package func snapshot() -> ClientSnapshot { client.snapshot(now: Clock.moment()) }

    // MARK: Events of the loop

    private func receive() {
        datagrams.receive { payload, source in
            client.receive(payload, from: source, now: Clock.moment())
            // At once, not after the batch: an answer to a punch must not wait.
            perform()
        }
    }

    private func perform() {
        while running {
            let actions = client.takeActions()
            if actions.isEmpty { break }
            // First, and all at once: what WireGuard is told rests on the look just taken, and whatever comes between the two
            // may be a handshake from where nobody expected it, whose endpoint would be lost.
            configure(actions)
            for action in actions { perform(action) }
        }
        reschedule()
    }

    private func perform(_ action: ClientAction) {
        switch action {
        case .send(let bytes, let target): send(bytes, to: target)
        case .readDevice: readDevice()
        case .configure: break
        case .resolveServer: resolve()
        case .event(let event): sink(event)
        }
    }

    private func send(_ bytes: [UInt8], to target: WireAddress) {
        let now = Clock.moment()
        do throws(OperationFailure) {
            if let server = client.server { try datagrams.listen(port: client.listenPort, server: server) }
            try datagrams.send(bytes, from: client.listenPort, to: target, now: now.monotonic)
        } catch {
            client.sendFailed(error.description, to: target, now: now)
        }
    }

    private func readDevice() {
        if let silence, MonotonicTime.now() < silence.until {
            return client.deviceFailed(silence.reason, now: Clock.moment())
        }
        do throws(OperationFailure) {
            let device = try transport.read()
            silence = nil
            try datagrams.setMark(device.firewallMark)
            let now = Clock.moment()
            if let server = client.server {
                if device.listenPort != 0 { try datagrams.listen(port: device.listenPort, server: server) }
                reportRoute(to: server)
            }
            client.deviceRead(DeviceView(device), now: now)
        } catch { deviceFailed(error) }
    }

    /// No route at all shows when something is sent.
    private func reportRoute(to server: WireAddress?) {
        guard let server,
            let source = try? datagrams.source(to: server.ip, now: Clock.moment().monotonic)
        else { return }
        client.serverRoute(source: IPAddress(v4: source))
    }

    private func deviceFailed(_ failure: OperationFailure) {
        if failure.errno == ETIMEDOUT {
            let length = min((silence?.length ?? .milliseconds(500)) * 2, Self.longestSilence)
            silence = (.now() + length, length, failure.description)
        }
        client.deviceFailed(failure.description, now: Clock.moment())
    }

    /// Tells WireGuard in one request what these actions ask for.
    private func configure(_ actions: [ClientAction]) {
        var changes: [WireGuardPeerChange] = []
        for case .configure(let peer, let endpoint, let keepalive, let toggle) in actions {
            // Both kinds of WireGuard take a peer's changes one after the other, also within a request.
            if toggle {
                changes.append(
                    WireGuardPeerChange(publicKey: peer, updateOnly: true, persistentKeepalive: 0))
            }
            changes.append(
                WireGuardPeerChange(
                    publicKey: peer, updateOnly: true, endpoint: endpoint, persistentKeepalive: keepalive))
        }
        guard !changes.isEmpty else { return }
        do throws(OperationFailure) {
            try transport.apply(WireGuardChange(peers: changes))
        } catch { deviceFailed(error) }
    }

    private func reschedule() {
        let deadline = running ? client.nextDeadline : .max
        if let timer, timer.deadline == deadline { return }
        if let timer { loop.cancel(timer.id) }
        timer = nil
        guard deadline != .max else { return }
        let id = loop.schedule(at: Clock.time(deadline)) { [unowned self] in
            timer = nil
            client.advance(now: Clock.moment())
            perform()
        }
        timer = (id, deadline)
    }
}

extension DeviceView {
    /// The client's view of an interface that was read.
    package init(_ device: WireGuardDevice) {
        self.init(
            publicKey: device.publicKey, listenPort: device.listenPort,
            peers: device.peers.map { peer in
                PeerView(
                    publicKey: peer.publicKey, endpoint: peer.endpoint, allowedIPs: peer.allowedIPs,
                    keepalive: peer.persistentKeepalive,
                    lastHandshake: peer.lastHandshake.map { UInt64(clamping: $0.nanoseconds) },
                    receivedBytes: peer.receivedBytes, sentBytes: peer.sentBytes)
            })
    }
}
