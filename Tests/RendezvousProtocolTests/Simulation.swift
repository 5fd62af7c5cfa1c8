import NetAddress
import RendezvousProtocol
import WireGuardKeys

/// A network in virtual time: one server, hosts behind NATs, and links that lose, double, delay and reorder.
///
///     host 0 --- NAT 0 ---+
///     host 1 --- NAT 1 ---+--- internet --- server 203.0.113.10:1234
///     host 2 --- NAT 2 ---+
///
/// That is where a test makes no other network of segments and NATs.
final class Simulation {
    struct Weather {
        var loss = 0.0
        var duplication = 0.0
        /// One way, nanoseconds; each datagram takes between once and `jitter` times this.
        var delay: UInt64 = 1_000_000
        var jitter = 1.0
    }

    static let serverAddress = WireAddress(ip: 0xCB00_710A, port: 1234)
    static let serverKey = testKey(9999)

    var weather: Weather
    var generator: SeededGenerator
    private(set) var now = Moment(monotonic: 5_000_000_000, wall: 1_800_000_000_000_000_000)
    let internet = SimulatedSegment()
    private(set) var hosts: [SimulatedHost] = []
    private(set) var server: RendezvousServer?
    /// Datagrams the server got, by virtual time; for counting polls.
    private(set) var serverArrivals: [UInt64] = []
    private var queue: [(time: UInt64, order: UInt64, run: () -> Void)] = []
    private var order: UInt64 = 0
    private let serverOptions: ServerOptions

    init(seed: UInt64, weather: Weather = Weather(), serverOptions: ServerOptions = ServerOptions()) throws {
        generator = SeededGenerator(seed: seed)
        self.weather = weather
        self.serverOptions = serverOptions
        try startServer()
    }

    /// Starts a server that knows nothing, also in place of one that runs.
    func startServer() throws {
        server = try RendezvousServer(
            privateKey: Self.serverKey, options: serverOptions, random: seededSource(generator.next()))
    }

    func stopServer() { server = nil }

    func add(_ host: SimulatedHost) { hosts.append(host) }

    // MARK: Time

    func at(_ time: UInt64, _ run: @escaping () -> Void) {
        // A binary heap, by time and then by order of arrival.
        queue.append((time, order, run))
        order += 1
        var child = queue.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard (queue[child].time, queue[child].order) < (queue[parent].time, queue[parent].order) else {
                break
            }
            queue.swapAt(child, parent)
            child = parent
        }
    }

    func after(_ delay: UInt64, _ run: @escaping () -> Void) { at(now.monotonic + delay, run) }

    private func popFirst() -> (time: UInt64, order: UInt64, run: () -> Void)? {
        guard let first = queue.first else { return nil }
        let last = queue.removeLast()
        guard !queue.isEmpty else { return first }
        queue[0] = last
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < queue.count {
                if (queue[child].time, queue[child].order) < (queue[least].time, queue[least].order) {
                    least = child
                }
            }
            guard least != parent else { return first }
            queue.swapAt(parent, least)
            parent = least
        }
    }

    /// Runs until the condition holds or the time is up; whether it holds.
    @discardableResult
    func run(seconds: Double, until condition: () -> Bool = { false }) -> Bool {
        let end = now.monotonic + UInt64(seconds * 1e9)
        while !condition() {
            guard let next = queue.first, next.time <= end, let event = popFirst() else {
                advance(to: end)
                return condition()
            }
            advance(to: event.time)
            event.run()
        }
        return true
    }

    private func advance(to time: UInt64) {
        guard time > now.monotonic else { return }
        now.wall += time - now.monotonic
        now.monotonic = time
    }

    // MARK: Datagrams

    /// Sends a datagram by way of as many NATs as there are between its segment and the target's.
    func send(
        _ datagram: [UInt8], from source: WireAddress, to target: WireAddress, on start: SimulatedSegment
    ) {
        var (source, target, segment) = (source, target, start)
        while !segment.has(target.ip), let gateway = segment.gateway {
            guard let outside = gateway.outbound(from: source, to: target) else { return }
            (source, target) = outside
            segment = gateway.outer
        }
        var copies = Double.random(in: 0..<1, using: &generator) < weather.loss ? 0 : 1
        if copies == 1, Double.random(in: 0..<1, using: &generator) < weather.duplication { copies = 2 }
        for _ in 0..<copies {
            let factor = weather.jitter > 1 ? Double.random(in: 1..<weather.jitter, using: &generator) : 1
            after(UInt64(Double(weather.delay) * factor)) { [unowned self, source, target, segment] in
                arrive(datagram, from: source, at: target, on: segment)
            }
        }
    }

    private func arrive(
        _ datagram: [UInt8], from source: WireAddress, at target: WireAddress, on segment: SimulatedSegment
    ) {
        if segment === internet, target == Self.serverAddress {
            serverArrivals.append(now.monotonic)
            guard let server else { return }
            let output = DatagramBatch()
            datagram.withUnsafeBytes { server.receive($0, from: source, now: now, into: output) }
            for index in 0..<output.count {
                send(
                    Array(output.datagram(index)), from: Self.serverAddress, to: output.target(index),
                    on: internet)
            }
            return
        }
        if let host = segment.hosts.first(where: { $0.ip == target.ip }) {
            if host.listenPort == target.port { host.receive(datagram, from: source) }
        } else if let router = segment.routers.first(where: { $0.ip == target.ip }),
            let (source, inside) = router.inbound(from: source, at: target)
        {
            arrive(datagram, from: source, at: inside, on: router.inner)
        }
    }
}
