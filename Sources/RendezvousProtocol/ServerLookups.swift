import WireGuardKeys

// Lookups, registrations and pushes.
extension RendezvousServer {
    func lookUp(
        _ message: UnsafeRawBufferPointer, from source: WireAddress, at local: UInt32, now: Moment,
        into output: DatagramBatch
    ) {
        guard message.count >= WireFormat.lookupSize, let start = message.baseAddress else {
            return refuse(.malformed, from: source, now: now)
        }
        guard let place = tables.session(index: start.bigEndian(at: 1)) else {
            return refuse(.unknownSession, from: source, now: now)
        }
        let session = tables[session: place]
        let asker = session.client
        let counter: UInt64 = start.bigEndian(at: 5)
        // Strictly rising, so that no lookup counts twice and a withheld one cannot register an old address.
        // UInt64.max is reserved (Noise rev 34, section 5.1).
        guard counter >= session.nextReceive, counter < UInt64.max else {
            return refuse(.replayedLookup, from: source, key: tables[client: asker].key, now: now)
        }
        let keys = tables.sessionKeys.pointer(session.keys)
        let sealed = start.bytes(WireFormat.lookupHeader, message.count - WireFormat.lookupHeader)
        guard ChaChaPoly.open(sealed, key: keys, counter: counter, into: scratch.pointer()) else {
            return refuse(.badTag, from: source, key: tables[client: asker].key, now: now)
        }
        guard RawKey(scratch.pointer()) == tables[client: asker].key else {
            return refuse(.wrongSender, from: source, key: tables[client: asker].key, now: now)
        }
        let wanted = RawKey(scratch.pointer(32))
        tables.acceptCounter(counter, session: place)
        tables.touch(client: asker, now: now)
        let news = register(asker, under: place, at: source, local)

        let target = isAllowed(wanted) ? tables.client(wanted) : nil
        let address = target.flatMap { registeredAddress($0, now: now) }
        reply(place, address, to: source, from: local, into: output)
        if news { announce(asker, at: source, now: now, into: output) }
        if tables[client: asker].takesPushes, wanted != tables[client: asker].key, isAllowed(wanted) {
            if let target, address != nil { pushLocal(of: target, to: asker, now: now, into: output) }
            let heard = news && isWaiting(target, for: asker)
            enlist(asker, for: wanted)
            // The other side punches at the same time, unless it just heard of the asker's new address.
            if let target, address != nil, !heard {
                push(.asked, about: asker, at: source, to: target, now: now, into: output)
                pushLocal(of: asker, to: target, now: now, into: output)
            }
        }
    }

    private func reply(
        _ place: Int32, _ address: WireAddress?, to source: WireAddress, from local: UInt32,
        into output: DatagramBatch
    ) {
        let counter = tables.takeCounter(session: place)
        let keys = tables.sessionKeys.pointer(tables[session: place].keys)
        let target = output.reserve()
        target.storeBytes(of: WireFormat.dataType, as: UInt8.self)
        target.storeBigEndian(counter, at: 1)
        let body = target + WireFormat.replyHeader
        if let address {
            counters.found += 1
            body.storeBigEndian(address.ip, at: 0)
            body.storeBigEndian(address.port, at: 4)
        } else {
            counters.notFound += 1
        }
        let plaintext = UnsafeRawBufferPointer(start: body, count: address == nil ? 0 : 6)
        ChaChaPoly.seal(plaintext, key: keys + 32, counter: counter, into: body)
        output.commit(length: WireFormat.notFoundSize + plaintext.count, to: source, from: local)
    }

    /// Notes where a valid lookup came from; true when that is news to others.
    private func register(
        _ number: Int32, under place: Int32, at source: WireAddress, _ local: UInt32
    ) -> Bool {
        if !tables[session: place].confirmed { tables.confirm(place) }
        tables[client: number].local = local
        let before = tables[client: number].address
        guard before != source else { return false }
        tables[client: number].address = source
        counters.registrations += 1
        if let onEvent {
            let key = tables[client: number].key.publicKey
            if let before {
                onEvent(.moved(key, from: before.endpoint, to: source.endpoint))
            } else {
                onEvent(.registered(key, source.endpoint))
            }
        }
        return true
    }

    // MARK: Pushes

    private func isWaiting(_ number: Int32?, for other: Int32) -> Bool {
        guard let number, let list = tables.waiters[tables[client: other].key] else { return false }
        return list.contains { $0.client == number && $0.generation == tables[client: number].generation }
    }

    private func enlist(_ number: Int32, for wanted: RawKey) {
        let waiter = ServerWaiter(client: number, generation: tables[client: number].generation)
        guard tables[client: number].awaited < options.maximumAwaited,
            !(tables.waiters[wanted]?.contains(waiter) ?? false)
        else { return }
        tables.waiters[wanted, default: []].append(waiter)
        tables[client: number].awaited += 1
    }

    private func announce(_ number: Int32, at address: WireAddress, now: Moment, into output: DatagramBatch) {
        for waiter in tables.waiters[tables[client: number].key] ?? []
        where tables.clients[Int(waiter.client)]?.generation == waiter.generation {
            push(.moved, about: number, at: address, to: waiter.client, now: now, into: output)
            pushLocal(of: number, to: waiter.client, now: now, into: output)
        }
    }

    /// Tells one natlab client where another is on the network that both may share.
    ///
    /// Only where both come from the same external IP address: a private address is nobody else's business. And only where it
    /// is another than the one already told.
    private func pushLocal(of subject: Int32, to number: Int32, now: Moment, into output: DatagramBatch) {
        guard let inside = tables.clients[Int(subject)]?.inside, tables.clients[Int(number)]?.inside != nil,
            let address = registeredAddress(subject, now: now), inside != address,
            registeredAddress(number, now: now)?.ip == address.ip
        else { return }
        push(.local, about: subject, at: inside, to: number, now: now, into: output)
    }

    /// Only natlab clients get pushes, and only under a session they have confirmed.
    private func push(
        _ kind: PushMessage.Kind, about subject: Int32, at address: WireAddress, to number: Int32,
        now: Moment,
        into output: DatagramBatch
    ) {
        guard tables[client: number].takesPushes, let target = registeredAddress(number, now: now) else {
            return
        }
        let place = tables[client: number].session
        let counter = tables.takeCounter(session: place)
        let keys = tables.sessionKeys.pointer(tables[session: place].keys)
        let datagram = output.reserve()
        datagram.storeBytes(of: WireFormat.pushType, as: UInt8.self)
        datagram.storeBigEndian(counter, at: 1)
        let body = datagram + WireFormat.replyHeader
        PushMessage(
            kind: kind, peerPunches: tables[client: subject].takesPushes, address: address,
            peer: tables[client: subject].key
        ).store(to: body)
        ChaChaPoly.seal(
            UnsafeRawBufferPointer(start: body, count: WireFormat.pushPlaintext), key: keys + 32,
            counter: counter,
            into: body)
        output.commit(length: WireFormat.pushSize, to: target, from: tables[client: number].local)
        counters.pushes += 1
    }

    /// Forgets those who waited and are gone.
    func dropStaleWaiters() {
        guard !tables.waiters.isEmpty else { return }
        for (key, list) in tables.waiters {
            let kept = list.filter { tables.clients[Int($0.client)]?.generation == $0.generation }
            if kept.count != list.count { tables.waiters[key] = kept.isEmpty ? nil : kept }
        }
    }
}
