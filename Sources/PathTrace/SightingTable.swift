import NetAddress

/// Which datagram it is that was seen.
///
/// A datagram is what its size and the beginning of its payload are: neither a NAT nor fragmentation changes those, and
/// whatever natlab and WireGuard send differs there. The same seen again, in the same direction, at the same place
/// is another one, sent again.
struct SightingTable {
    private struct Identity: Hashable {
        var size: Int
        var payload: [UInt8]
    }

    /// In no order.
    private(set) var datagrams: [Datagram] = []
    /// Sightings of datagrams for which there was no room.
    private(set) var refused: UInt64 = 0
    private var places: [Identity: [Int]] = [:]
    private let limit: Int

    init(limit: Int) { self.limit = limit }

    /// Of how many equal ones, the last, it is found out which it is: of all, a flood of them would take quadratic time.
    private static let comparedCopies = 32

    /// Best in the order of time.
    mutating func insert(_ seen: SeenDatagram, at point: WatchPoint, isOutgoing: Bool, time: Int64) {
        let identity = Identity(size: seen.size, payload: seen.payload)
        let sighting = Sighting(
            point: point, isOutgoing: isOutgoing, time: time, source: seen.source,
            destination: seen.destination,
            ttl: seen.ttl)
        if let place = match(places[identity] ?? [], sighting) {
            datagrams[place].insert(sighting)
            return
        }
        guard datagrams.count < limit else {
            refused += 1
            return
        }
        places[identity, default: []].append(datagrams.count)
        datagrams.append(
            Datagram(
                kind: DatagramKind(payload: seen.payload, size: seen.size), size: seen.size,
                payload: seen.payload, sightings: [sighting]))
    }

    /// Of equal datagrams that have not been here the one that was seen nearest in time.
    private func match(_ copies: [Int], _ sighting: Sighting) -> Int? {
        var best: (place: Int, distance: UInt64)?
        for place in copies.suffix(Self.comparedCopies) {
            var distance = UInt64.max
            var hasBeenHere = false
            for other in datagrams[place].sightings {
                if other.point == sighting.point, other.isOutgoing == sighting.isOutgoing {
                    hasBeenHere = true
                    break
                }
                distance = min(distance, (other.time - sighting.time).magnitude)
            }
            if !hasBeenHere, best.map({ distance < $0.distance }) ?? true { best = (place, distance) }
        }
        return best?.place
    }
}
