package import SystemCalls
package import WireGuardKeys

/// A natpunch-go-compatible rendezvous server: datagrams and the time in, datagrams out.
///
/// Not Sendable.
///
/// A handshake registers nothing: it makes a pending session. The first valid lookup under the session's fresh keys, which
/// only the owner of the client's private key can make, registers the address it came from. So a replayed init takes nothing
/// over, and a server that forgot everything needs no memory of timestamps. Nothing that arrives can end the process, and
/// nothing is answered that does not authenticate.
package final class RendezvousServer {
    package let options: ServerOptions
    package internal(set) var counters = ServerCounters()
    private var refusals = ServerRefusals()
    /// Told of registrations; not of lookups.
    package var onEvent: ((ServerEvent) -> Void)?
    /// The own public key.
    package let publicKey: PublicKey

    let tables = ServerTables()
    private let noise: NoiseResponder
    private let random: RandomSource
    private let allowed: Set<RawKey>?
    /// Decrypted payloads; the longest message fits.
    let scratch = SecretBuffer(count: WireFormat.maximumSize)
    private var sweepCursor = 0
    private var nextWaiterSweep: UInt64 = 0

    /// Throws where OpenSSL has no BLAKE2s.
    package init(
        privateKey: PrivateKey, options: ServerOptions = ServerOptions(), random: @escaping RandomSource
    ) throws(OperationFailure) {
        noise = try NoiseResponder(privateKey: privateKey)
        publicKey = privateKey.publicKey
        self.options = options
        self.random = random
        allowed = options.allowed.map { Set($0.map { RawKey($0) }) }
    }

    /// Takes one datagram, and adds what is to be sent to `output`.
    ///
    /// - Parameter local: which of the own addresses it came to; 0 where that does not matter. A client listens to that
    ///   one only, so answers and, later, pushes leave from it.
    package func receive(
        _ datagram: UnsafeRawBufferPointer, from source: WireAddress, at local: UInt32 = 0, now: Moment,
        into output: DatagramBatch
    ) {
        counters.datagrams += 1
        guard let type = datagram.first, datagram.count <= WireFormat.maximumSize else {
            return refuse(.malformed, from: source, now: now)
        }
        switch type {
        case WireFormat.dataType: lookUp(datagram, from: source, at: local, now: now, into: output)
        case WireFormat.initType: handshake(datagram, from: source, at: local, now: now, into: output)
        default:
            counters.unknownType += 1
            refusals.note(.malformed, from: source, key: nil, wall: now.wall)
        }
    }

    /// Counts a datagram that gets no answer, and notes where it came from.
    func refuse(
        _ reason: ServerRefusal.Reason, from source: WireAddress, key: RawKey? = nil, now: Moment
    ) {
        switch reason {
        case .badTag: counters.badTag += 1
        case .notAllowed: counters.notAllowed += 1
        case .staleInit: counters.staleInit += 1
        case .unknownSession: counters.unknownSession += 1
        case .wrongSender: counters.wrongSender += 1
        case .replayedLookup: counters.replayedLookup += 1
        case .malformed: counters.malformed += 1
        case .full: counters.full += 1
        }
        refusals.note(reason, from: source, key: key, wall: now.wall)
    }

    func isAllowed(_ key: RawKey) -> Bool { key != .zero && allowed?.contains(key) ?? true }

    // MARK: Handshakes

    private func handshake(
        _ message: UnsafeRawBufferPointer, from source: WireAddress, at local: UInt32, now: Moment,
        into output: DatagramBatch
    ) {
        guard message.count >= WireFormat.initSize, let start = message.baseAddress else {
            return refuse(.malformed, from: source, now: now)
        }
        defer {
            noise.wipe()
            scratch.wipe()
        }
        guard let key = noise.readStatic(message) else {
            return refuse(.badTag, from: source, now: now)
        }
        guard isAllowed(key) else { return refuse(.notAllowed, from: source, key: key, now: now) }
        let known = tables.client(key)
        guard known != nil || tables.clientCount < options.maximumClients else {
            return refuse(.full, from: source, key: key, now: now)
        }
        // The static-static secret of a known client is at hand; it saves one of four Diffie-Hellman computations.
        let number: Int32
        if let known {
            number = known
        } else {
            number = tables.addClient(key)
            guard noise.staticAgreement(into: secret(of: number)) else {
                tables.removeClient(number)
                return refuse(.badTag, from: source, key: key, now: now)
            }
        }
        defer { if tables[client: number].isUnused { tables.removeClient(number) } }
        guard
            let length = noise.readPayload(message, staticSecret: secret(of: number), into: scratch.pointer())
        else { return refuse(.badTag, from: source, key: key, now: now) }
        let payload = UnsafeRawBufferPointer(rebasing: scratch.bytes[..<length])
        let ephemeral: UInt64 = start.bigEndian(at: WireFormat.handshakeHeader)
        guard accept(timestamp: UnsafeRawPointer(scratch.pointer()).bigEndian(at: 0), ephemeral, number, now)
        else { return refuse(.staleInit, from: source, key: key, now: now) }
        let announcement =
            options.pushes
            ? ClientAnnouncement(UnsafeRawBufferPointer(rebasing: payload[8...]))
            : ClientAnnouncement(takesPushes: false)
        answer(number, announcement, to: source, from: local, now: now, into: output)
    }

    /// Timestamps per key must rise, so that an old init does nothing.
    ///
    /// What is remembered is never later than the own time: a client whose clock was years ahead is not
    /// locked out once it is right again.
    private func accept(timestamp: UInt64, _ ephemeral: UInt64, _ number: Int32, _ now: Moment) -> Bool {
        let client = tables[client: number]
        if let last = client.timestamp, timestamp <= last { return false }
        if client.timestamp != nil, client.lastEphemeral == ephemeral { return false }
        tables[client: number].timestamp = min(timestamp, now.wall)
        tables[client: number].lastEphemeral = ephemeral
        return true
    }

    private func answer(
        _ number: Int32, _ announcement: ClientAnnouncement, to source: WireAddress, from local: UInt32,
        now: Moment, into output: DatagramBatch
    ) {
        if tables.pendingCount >= options.maximumPending, let oldest = tables.oldestPending() {
            forget(pending: oldest)
        }
        let place = tables.addSession(
            index: freshIndex(), client: number, now: now.monotonic, announcement: announcement)
        let session = tables[session: place]
        let keys = tables.sessionKeys.pointer(session.keys)
        // A natlab client learns that pushes will come, and how the server sees it.
        var payload: InlineArray<10, UInt8> = .init(repeating: 0)
        for offset in 0..<4 { payload[offset] = WireFormat.announcement[offset] }
        for offset in 0..<4 {
            payload[4 + offset] = UInt8(truncatingIfNeeded: source.ip >> (24 - 8 * UInt32(offset)))
        }
        payload[8] = UInt8(source.port >> 8)
        payload[9] = UInt8(truncatingIfNeeded: source.port)
        let target = output.reserve()
        let written = withUnsafeBytes(of: payload) { bytes in
            noise.writeResponse(
                index: session.index,
                payload: UnsafeRawBufferPointer(rebasing: bytes[..<(announcement.takesPushes ? 10 : 0)]),
                random: random, into: target, receiveKey: keys, sendKey: keys + 32)
        }
        guard let length = written else {
            tables.removePending(place)
            return refuse(.badTag, from: source, key: tables[client: number].key, now: now)
        }
        output.commit(length: length, to: source, from: local)
        counters.handshakes += 1
    }

    /// Random, never 0, never one in use: sessions share nothing, and an index cannot be guessed.
    private func freshIndex() -> UInt32 {
        while true {
            var index: UInt32 = 0
            withUnsafeMutableBytes(of: &index) { random($0) }
            let candidate = UInt32(bigEndian: index)
            if candidate != 0, !tables.hasSession(index: candidate) { return candidate }
        }
    }

    private func secret(of number: Int32) -> UnsafeMutableRawPointer {
        tables.clientSecrets.pointer(tables[client: number].secret)
    }

    // MARK: Ageing

    /// Forgets what is too old; to be called about once a second.
    ///
    /// Looks at a bounded number of entries each time.
    package func sweep(now: Moment) {
        while let place = tables.oldestPending(),
            tables[session: place].created + options.pendingLifetime < now.monotonic
        { forget(pending: place) }
        for _ in 0..<min(4096, tables.clientCapacity) {
            if sweepCursor >= tables.clientCapacity { sweepCursor = 0 }
            let number = Int32(sweepCursor)
            sweepCursor += 1
            guard let client = tables.clients[Int(number)], client.session >= 0 else { continue }
            if client.lastLookup + options.entryLifetime < now.monotonic {
                tables.removeClient(number)
                counters.expired += 1
                onEvent?(.expired(client.key.publicKey))
            }
        }
        if now.monotonic >= nextWaiterSweep {
            nextWaiterSweep = now.monotonic + 30_000_000_000
            dropStaleWaiters()
        }
    }

    /// Removes a pending session, and its client too where nothing else is known of it.
    private func forget(pending place: Int32) {
        let number = tables[session: place].client
        tables.removePending(place)
        if tables[client: number].isUnused { tables.removeClient(number) }
    }

    /// Whether a client is registered and its entry has not aged out.
    func registeredAddress(_ number: Int32, now: Moment) -> WireAddress? {
        guard let client = tables.clients[Int(number)], client.session >= 0,
            client.lastLookup + options.entryLifetime >= now.monotonic
        else { return nil }
        return client.address
    }

    package func snapshot(now: Moment) -> ServerSnapshot {
        var entries: [ServerEntry] = []
        for number in 0..<Int32(tables.clientCapacity) {
            guard let address = registeredAddress(number, now: now) else { continue }
            let client = tables[client: number]
            let idle = now.monotonic > client.lastLookup ? now.monotonic - client.lastLookup : 0
            entries.append(
                ServerEntry(
                    publicKey: client.key.publicKey, endpoint: address.endpoint,
                    idleSeconds: idle / 1_000_000_000, takesPushes: client.takesPushes,
                    firstSeen: client.firstSeen, lastSeen: client.lastSeen))
        }
        return ServerSnapshot(
            publicKey: publicKey, entries: entries, pending: tables.pendingCount, counters: counters,
            refusals: refusals.list)
    }
}
