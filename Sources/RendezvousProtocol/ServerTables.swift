import WireGuardKeys

/// A key that the server has met: registered once it has an address, before that only the owner of pending sessions.
struct ServerClient {
    var key: RawKey
    /// Nil until a valid lookup came.
    var address: WireAddress?
    /// Which of the server's addresses that lookup came to.
    var local: UInt32 = 0
    /// Distinguishes the tenants of one record number.
    var generation: UInt32 = 0
    /// The confirmed session; negative for none.
    var session: Int32 = -1
    /// Unconfirmed sessions, oldest first; negative for none.
    var pending: InlineArray<4, Int32> = [-1, -1, -1, -1]
    /// Static-static secret, 32 bytes.
    var secret: SecretSlab.Slot
    /// The newest timestamp accepted, but never later than the server's own time then.
    var timestamp: UInt64?
    /// Part of the last init's ephemeral key: a timestamp from the future does not protect against repetition.
    var lastEphemeral: UInt64 = 0
    /// Monotonic nanoseconds.
    var lastLookup: UInt64 = 0
    /// When the first and the last valid lookup came, wall nanoseconds.
    var firstSeen: UInt64 = 0
    var lastSeen: UInt64 = 0
    /// Lists of waiters this client stands in.
    var awaited: UInt32 = 0
    /// Takes pushes, under its confirmed session.
    var takesPushes = false
    /// Where it is on its own network, as its confirmed session's init said.
    var inside: WireAddress?

    var isUnused: Bool { session < 0 && pending[0] < 0 }

    /// Notes the time of a valid lookup.
    mutating func touch(_ now: Moment) {
        if firstSeen == 0 { firstSeen = now.wall }
        lastSeen = now.wall
        lastLookup = now.monotonic
    }
}

struct ServerSession {
    var index: UInt32
    var client: Int32
    /// Receive key, send key: 64 bytes.
    var keys: SecretSlab.Slot
    /// The lowest lookup counter still acceptable.
    var nextReceive: UInt64 = 0
    var nextSend: UInt64 = 0
    /// Monotonic nanoseconds.
    var created: UInt64
    /// Rises with each session made.
    var serial: UInt64
    var confirmed = false
    var announcement: ClientAnnouncement
}

/// Who waits for news of a key.
struct ServerWaiter: Equatable {
    var client: Int32
    var generation: UInt32
}

/// The records of a server, without any protocol: sessions by index, clients by key.
///
/// A class, because a struct of this size would be copied, with all its reference counts, at each use.
final class ServerTables {
    private(set) var clients: ContiguousArray<ServerClient?> = []
    private(set) var sessions: ContiguousArray<ServerSession?> = []
    private var freeClients: [Int32] = []
    private var freeSessions: [Int32] = []
    private var clientByKey: [RawKey: Int32] = [:]
    private var sessionByIndex: [UInt32: Int32] = [:]
    /// Session number and serial in order of creation; a stale pair means that the session is confirmed or gone.
    private var pendingQueue: [(number: Int32, serial: UInt64)] = []
    private var pendingHead = 0
    private(set) var pendingCount = 0
    private(set) var nextSerial: UInt64 = 1
    private var nextGeneration: UInt32 = 1
    let sessionKeys = SecretSlab(slotSize: 64)
    let clientSecrets = SecretSlab(slotSize: 32)
    var waiters: [RawKey: [ServerWaiter]] = [:]

    var clientCount: Int { clientByKey.count }
    var clientCapacity: Int { clients.count }

    func client(_ key: RawKey) -> Int32? { clientByKey[key] }
    func session(index: UInt32) -> Int32? { sessionByIndex[index] }
    func hasSession(index: UInt32) -> Bool { sessionByIndex[index] != nil }

    /// A live client record; the number must be valid.
    subscript(client number: Int32) -> ServerClient {
        get {
            guard let client = clients[Int(number)] else { preconditionFailure("a removed client") }
            return client
        }
        set { clients[Int(number)] = newValue }
    }

    /// A live session record; the number must be valid.
    subscript(session number: Int32) -> ServerSession {
        get {
            guard let session = sessions[Int(number)] else { preconditionFailure("a removed session") }
            return session
        }
        set { sessions[Int(number)] = newValue }
    }

    /// Adds a client; its slot of `clientSecrets` is written by the caller.
    func addClient(_ key: RawKey) -> Int32 {
        var client = ServerClient(key: key, secret: clientSecrets.take())
        client.generation = nextGeneration
        nextGeneration &+= 1
        let number: Int32
        if let free = freeClients.popLast() {
            number = free
            clients[Int(number)] = client
        } else {
            number = Int32(clients.count)
            clients.append(client)
        }
        clientByKey[key] = number
        return number
    }

    /// Removes a client with all its sessions.
    func removeClient(_ number: Int32) {
        let client = self[client: number]
        if client.session >= 0 { dropSession(client.session) }
        for slot in 0..<4 where client.pending[slot] >= 0 { dropSession(client.pending[slot]) }
        clientSecrets.release(client.secret)
        clientByKey[client.key] = nil
        clients[Int(number)] = nil
        freeClients.append(number)
    }

    /// Adds a pending session; the client's oldest pending one gives way to a fifth.
    ///
    /// The keys are written by the caller.
    func addSession(
        index: UInt32, client number: Int32, now: UInt64, announcement: ClientAnnouncement
    ) -> Int32 {
        let session = ServerSession(
            index: index, client: number, keys: sessionKeys.take(), created: now, serial: nextSerial,
            announcement: announcement)
        nextSerial += 1
        let place: Int32
        if let free = freeSessions.popLast() {
            place = free
            sessions[Int(place)] = session
        } else {
            place = Int32(sessions.count)
            sessions.append(session)
        }
        sessionByIndex[index] = place
        if self[client: number].pending[3] >= 0 { removePending(self[client: number].pending[0]) }
        for slot in 0..<4 where self[client: number].pending[slot] < 0 {
            clients[Int(number)]?.pending[slot] = place
            break
        }
        pendingCount += 1
        pendingQueue.append((place, session.serial))
        return place
    }

    /// Takes a pending session away, also from its client, which stays.
    func removePending(_ place: Int32) {
        let number = self[session: place].client
        unlist(place, from: number)
        dropSession(place)
    }

    /// Makes a pending session its client's only one: the former and those begun before it are removed.
    ///
    /// Without that a withheld lookup of an older handshake could later register an old address.
    func confirm(_ place: Int32) {
        let session = self[session: place]
        let number = session.client
        unlist(place, from: number)
        pendingCount -= 1
        while self[client: number].pending[0] >= 0,
            self[session: self[client: number].pending[0]].serial < session.serial
        { removePending(self[client: number].pending[0]) }
        if self[client: number].session >= 0 { dropSession(self[client: number].session) }
        clients[Int(number)]?.session = place
        clients[Int(number)]?.takesPushes = session.announcement.takesPushes
        clients[Int(number)]?.inside = session.announcement.local
        sessions[Int(place)]?.confirmed = true
    }

    /// The oldest pending session, or nil.
    ///
    /// Forgets what the queue still held of others.
    func oldestPending() -> Int32? {
        defer {
            if pendingHead > 1024, pendingHead * 2 > pendingQueue.count {
                pendingQueue.removeFirst(pendingHead)
                pendingHead = 0
            }
        }
        while pendingHead < pendingQueue.count {
            let entry = pendingQueue[pendingHead]
            if let session = sessions[Int(entry.number)], session.serial == entry.serial, !session.confirmed {
                return entry.number
            }
            pendingHead += 1
        }
        return nil
    }

    /// Accepts a counter once, and none below it.
    func acceptCounter(_ counter: UInt64, session place: Int32) {
        sessions[Int(place)]?.nextReceive = counter + 1
    }

    /// The session's next nonce for sending.
    func takeCounter(session place: Int32) -> UInt64 {
        let counter = self[session: place].nextSend
        sessions[Int(place)]?.nextSend = counter + 1
        return counter
    }

    func touch(client number: Int32, now: Moment) { clients[Int(number)]?.touch(now) }

    private func unlist(_ place: Int32, from number: Int32) {
        var kept: InlineArray<4, Int32> = [-1, -1, -1, -1]
        var count = 0
        let pending = self[client: number].pending
        for slot in 0..<4 where pending[slot] >= 0 && pending[slot] != place {
            kept[count] = pending[slot]
            count += 1
        }
        clients[Int(number)]?.pending = kept
    }

    private func dropSession(_ place: Int32) {
        let session = self[session: place]
        if !session.confirmed { pendingCount -= 1 }
        sessionByIndex[session.index] = nil
        sessionKeys.release(session.keys)
        sessions[Int(place)] = nil
        freeSessions.append(place)
    }
}
