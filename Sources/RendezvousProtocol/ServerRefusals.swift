package import NetAddress
package import WireGuardKeys

/// Datagrams that a server refused, from one place and for one reason.
package struct ServerRefusal: Hashable, Sendable, Codable {
    /// As in `ServerCounters`; `malformed` takes the types that clients do not send as well.
    package enum Reason: String, Hashable, Sendable, Codable, CaseIterable {
        case badTag = "bad-tag"
        case notAllowed = "not-allowed"
        case staleInit = "stale-init"
        case unknownSession = "unknown-session"
        case wrongSender = "wrong-sender"
        case replayedLookup = "replayed-lookup"
        case malformed
        case full
    }

    package var source: Endpoint
    package var reason: Reason
    /// Whose the last of them claimed to be, which nothing has proved; nil where it could not be read, as in an init that
    /// was made for another server's key.
    package var publicKey: PublicKey?
    package var count: UInt64
    /// When the last came, wall time, nanoseconds since the epoch.
    package var last: UInt64
}

/// The last few kinds of datagrams that were refused: what explains a client that gets no answer.
///
/// Whoever sends from many addresses displaces what it holds; more than that no sender can do, as it is of fixed size and
/// costs the same for every datagram.
struct ServerRefusals {
    static let limit = 64

    private struct Record {
        var source: WireAddress
        var reason: ServerRefusal.Reason
        var key: RawKey?
        var count: UInt64
        var last: UInt64
    }

    // Three arrays with the same places: the two that are searched each fit 8 cache lines, and 64 words next to each other
    // are compared in less time than one is looked up in a dictionary.
    private var marks: ContiguousArray<UInt64> = []
    private var turns: ContiguousArray<UInt64> = []
    private var records: ContiguousArray<Record> = []
    /// Rises with each datagram; wall time may go back.
    private var turn: UInt64 = 0

    init() {
        marks.reserveCapacity(Self.limit)
        turns.reserveCapacity(Self.limit)
        records.reserveCapacity(Self.limit)
    }

    /// Notes a refused datagram; the pair of source and reason that was silent for longest gives way to a new one.
    mutating func note(
        _ reason: ServerRefusal.Reason, from source: WireAddress, key: RawKey?, wall: UInt64
    ) {
        turn += 1
        let mark = UInt64(source.ip) << 32 | UInt64(source.port) << 16 | UInt64(reason.number)
        if let place = marks.firstIndex(of: mark) {
            turns[place] = turn
            records[place].key = key
            records[place].count += 1
            records[place].last = wall
            return
        }
        let record = Record(source: source, reason: reason, key: key, count: 1, last: wall)
        guard marks.count == Self.limit else {
            marks.append(mark)
            turns.append(turn)
            records.append(record)
            return
        }
        var oldest = 0
        for place in 1..<Self.limit where turns[place] < turns[oldest] { oldest = place }
        marks[oldest] = mark
        turns[oldest] = turn
        records[oldest] = record
    }

    /// All that is held; what came last is last.
    var list: [ServerRefusal] {
        records.indices.sorted { turns[$0] < turns[$1] }.map { place in
            let record = records[place]
            return ServerRefusal(
                source: record.source.endpoint, reason: record.reason, publicKey: record.key?.publicKey,
                count: record.count, last: record.last)
        }
    }
}

extension ServerRefusal.Reason {
    fileprivate var number: UInt16 {
        switch self {
        case .badTag: 0
        case .notAllowed: 1
        case .staleInit: 2
        case .unknownSession: 3
        case .wrongSender: 4
        case .replayedLookup: 5
        case .malformed: 6
        case .full: 7
        }
    }
}
