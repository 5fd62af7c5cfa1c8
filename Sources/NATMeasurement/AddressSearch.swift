import Glibc
import NetAddress
import NetlinkWire
import SystemCalls

/// Finds addresses on a router's link that nobody has, also by hand.
///
/// Source: RFC 5227 section 2.1, with shorter waits: the links are this machine's.
final class AddressSearch {
    private let socket: FrameSocket
    /// Out of the far end only the router would be asked: where that is a bridge's port, the bridge asks all
    /// others.
    private let ways: [Int32]
    private let own = MACAddress.random()
    private var candidates: [IPAddress]

    /// At most so many candidates are tried.
    private static let most = 16
    private static let tries = 3

    init(at place: FarEnd, candidates: [IPAddress], router: NetworkNamespace) throws(OperationFailure) {
        let routes = try RouteSocket(place.namespace)
        let link = try routes.link(place.interface)
        var taken = Set(try routes.addresses().map(\.address.address))
        taken.formUnion(try RouteSocket(router).addresses().map(\.address.address))
        self.candidates = Array(candidates.filter { $0.isV4 && !taken.contains($0) }.prefix(Self.most))
        ways = [link.index] + (link.master.map { [$0] } ?? [])
        socket = try FrameSocket(in: place.namespace, interface: 0, addresses: [])
    }

    /// Asks on all links at the same time; for each the candidates that nobody has, in their order.
    ///
    /// Takes three times `patience`.
    static func run(_ searches: [AddressSearch], patience: Duration) throws(OperationFailure) -> [[IPAddress]]
    {
        for _ in 0..<tries {
            for search in searches { try search.ask() }
            let deadline = MonotonicTime.now() + patience
            while true {
                var entries = searches.map {
                    pollfd(fd: $0.socket.pollDescriptor, events: Int16(POLLIN), revents: 0)
                }
                let left = deadline.millisecondsLeft()
                guard left > 0 else { break }
                _ = poll(&entries, nfds_t(entries.count), left)
                for search in searches { try search.listen() }
            }
        }
        return searches.map(\.candidates)
    }

    private func ask() throws(OperationFailure) {
        for candidate in candidates {
            let probe = ARPPacket.probe(for: candidate, own)
            for way in ways {
                try socket.send(
                    EthernetFrame(to: .broadcast, from: own, type: EthernetFrame.arp, payload: probe.bytes),
                    out: way)
            }
        }
    }

    private func listen() throws(OperationFailure) {
        while let frame = try socket.receive() {
            guard frame.type == EthernetFrame.arp, let message = ARPPacket(frame.payload) else { continue }
            candidates.removeAll { $0 == message.sender }
        }
    }
}
