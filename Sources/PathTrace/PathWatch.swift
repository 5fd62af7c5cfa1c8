import Glibc
package import NetAddress
import NetlinkWire
package import SystemCalls

/// Watches UDP over IPv4, and the ICMP errors about it, on many interfaces at once, and recognises one datagram at each
/// place that it passes, also behind NATs: by its payload.
///
/// Of a fragmented datagram the first fragment stands for all of it; it is recognised where it has the first
/// `Datagram.keptPayload` bytes of the payload. A bridge and its ports show also what they pass on, and a frame that is
/// flooded at each port; other interfaces only what is for their host. VLAN-tagged frames are not seen. Before Linux 6.2
/// datagrams that were sent as one (UDP_SEGMENT) count as lost. Not for several threads at once.
package final class PathWatch {
    /// Those that are missing, and those that are down: what passes these is seen once they are up.
    package private(set) var unwatched: [(WatchPoint, OperationFailure)] = []
    /// ICMP errors in the order of time.
    package private(set) var icmpErrors: [ICMPError] = []

    private var sockets: [WatchSocket] = []
    private var table: SightingTable
    private var refusedErrors: UInt64 = 0
    private let addresses: Set<IPAddress>?
    private let limit: Int
    /// As long as a packet can be, and what is before it.
    private let buffer = UnsafeMutableRawBufferPointer.allocate(
        byteCount: 65_535 + SeenPacket.offloadHeader + 14, alignment: 16)

    /// Begins at once; when this returns, what passes is stamped, too (`StampProbe`).
    ///
    /// Throws what hinders more than one point, as EPERM or EMFILE; a namespace or interface that is
    /// missing goes to `unwatched`.
    /// - Parameters:
    ///   - addresses: of the datagrams that are wanted, before or behind a NAT: either end of one is among these where it
    ///     is seen. Nil: all.
    ///   - limit: datagrams that are kept, and ICMP errors; further ones count as lost.
    ///   - room: bytes that may wait in the kernel at each point, its overhead (about 800 a small packet) included.
    package init(
        _ points: [WatchPoint], addresses: Set<IPAddress>? = nil, limit: Int = 20_000, room: Int = 4 << 20
    ) throws(OperationFailure) {
        self.addresses = addresses
        self.limit = limit
        table = SightingTable(limit: limit)
        let probe = try StampProbe()
        var links: [String: [LinkRecord]] = [:]
        var known: Set<WatchPoint> = []
        for point in points where known.insert(point).inserted {
            do throws(OperationFailure) {
                let namespace = NetworkNamespace(point.namespace)
                let all: [LinkRecord]
                if let known = links[point.namespace] {
                    all = known
                } else {
                    all = try RouteSocket(namespace).links()
                    links[point.namespace] = all
                }
                guard let link = all.first(where: { $0.name == point.interface }) else {
                    throw OperationFailure("watch", point.interface, namespace: namespace.name, errno: ENODEV)
                }
                sockets.append(try WatchSocket(point, link, in: namespace, room: room))
                if !link.isUp {
                    throw OperationFailure(
                        "watch", point.interface, namespace: namespace.name, errno: ENETDOWN)
                }
            } catch {
                guard Self.harmless.contains(error.errno) else { throw error }
                unwatched.append((point, error))
            }
        }
        // Without, the order of what passes in the first moment may be wrong: no reason to watch nothing.
        _ = try waitUntil(timeout: .seconds(1), pause: .microseconds(100)) { probe.isStamped() }
    }

    deinit { buffer.deallocate() }

    /// EINVAL: a pin without its namespace (setns(2)).
    private static let harmless = [ENOENT, ENODEV, ENXIO, ENETDOWN, ENOTSUP, EINVAL]

    /// Readable when something waits.
    package var descriptors: [Int32] { sockets.map(\.pollDescriptor) }

    /// In the order of their first sightings.
    package var datagrams: [Datagram] { table.datagrams.sorted { $0.firstTime < $1.firstTime } }

    /// Packets that the kernel had no room for, and sightings for which there was none here: as of the last `collect`.
    package var lost: UInt64 { sockets.reduce(table.refused + refusedErrors) { $0 + $1.lost } }

    /// Reads what waits, up to 16,384 packets; whether more may wait.
    @discardableResult package func collect() -> Bool {
        let share = max(64, 16_384 / max(1, sockets.count))
        var seen: [(packet: SeenPacket, point: WatchPoint, isOutgoing: Bool, time: Int64)] = []
        var hasMore = false
        for socket in sockets {
            let isCut = socket.read(into: buffer, limit: share) { packet, isOutgoing, time in
                seen.append((packet, socket.point, isOutgoing, time))
            }
            if isCut { hasMore = true }
        }
        // From one place to the next, not socket by socket: so equal datagrams are told apart.
        for entry in seen.sorted(by: { $0.time < $1.time }) {
            switch entry.packet {
            case .datagrams(let datagrams):
                for datagram in datagrams where isWanted([datagram.source, datagram.destination]) {
                    table.insert(
                        datagram, at: entry.point, isOutgoing: entry.isOutgoing, time: entry.time)
                }
            case .error(let error):
                guard isWanted([error.source, error.destination]) else { continue }
                insert(
                    ICMPError(
                        point: entry.point, isOutgoing: entry.isOutgoing, time: entry.time,
                        type: error.type,
                        code: error.code, from: error.from, to: error.to, source: error.source,
                        destination: error.destination, size: error.size, mtu: error.mtu))
            }
        }
        return hasMore
    }

    /// The places that a datagram passed, in the order of time; one that it came to and left again is there once.
    package func hops(of datagram: Datagram) -> [WatchPoint] {
        datagram.sightings.reduce(into: []) { hops, sighting in
            if hops.last != sighting.point { hops.append(sighting.point) }
        }
    }

    /// Where a datagram was seen last: coming in there, it went no further than that node; going out, the link lost it
    /// or it has arrived where nobody watches.
    package static func lastSeen(_ datagram: Datagram) -> Sighting? { datagram.sightings.last }

    private func isWanted(_ endpoints: [Endpoint]) -> Bool {
        guard let addresses else { return true }
        return endpoints.contains { addresses.contains($0.address) }
    }

    private func insert(_ error: ICMPError) {
        guard icmpErrors.count < limit else {
            refusedErrors += 1
            return
        }
        let place = icmpErrors.lastIndex { $0.time <= error.time }.map { $0 + 1 } ?? 0
        icmpErrors.insert(error, at: place)
    }
}

extension Datagram {
    fileprivate var firstTime: Int64 { sightings.first?.time ?? 0 }
}
