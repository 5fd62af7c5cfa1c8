import CNatlab
import Glibc
import RendezvousProtocol
package import SystemCalls
import WireGuardKeys

/// What one core of this machine's rendezvous server does, over real sockets on the loopback interface.
///
/// The server runs in a thread of its own and is kept busy by 32 outstanding requests. What counts is its CPU time, as in
/// the measurements of natpunch-go (11-15 us a lookup, 332-378 us a handshake, 4.6-7 kB a client).
package struct RendezvousBenchmark: Sendable, Codable {
    /// Microseconds of CPU time, of the server's thread with all its system calls.
    package var microsecondsPerLookup: Double
    package var microsecondsPerHandshake: Double
    /// What a core could do: the inverse.
    package var lookupsPerSecond: Double
    package var handshakesPerSecond: Double
    /// What was really answered in a second of wall time, with the load's own work on another core.
    package var measuredLookupsPerSecond: Double
    package var measuredHandshakesPerSecond: Double
    /// Growth of resident memory.
    package var bytesPerClient: Double

    private static let outstanding = 32

    /// Takes about `seconds` for each of the two, and some more for preparations.
    package static func run(seconds: Double = 2, clients: Int = 5_000) throws(OperationFailure)
        -> RendezvousBenchmark
    {
        let memory = try BenchmarkLoad.bytesPerClient(count: clients)
        let load = try BenchmarkLoad(sessions: outstanding)
        let lookups = try load.lookups(seconds: seconds)
        let handshakes = try load.handshakes(count: max(1000, Int(seconds * 2500)))
        try load.finish()
        return RendezvousBenchmark(
            microsecondsPerLookup: lookups.cpu / Double(lookups.count) * 1e6,
            microsecondsPerHandshake: handshakes.cpu / Double(handshakes.count) * 1e6,
            lookupsPerSecond: Double(lookups.count) / lookups.cpu,
            handshakesPerSecond: Double(handshakes.count) / handshakes.cpu,
            measuredLookupsPerSecond: Double(lookups.count) / lookups.wall,
            measuredHandshakesPerSecond: Double(handshakes.count) / handshakes.wall, bytesPerClient: memory)
    }
}

/// The server in its thread.
private final class BenchmarkServer: @unchecked Sendable {
    // @unchecked: made before the thread starts; afterwards only the thread uses it, until it has been joined.
    let privateKey = PrivateKey.generate()
    var port: UInt16 = 0
    private var thread = pthread_t()
    private var socket: Descriptor?
    private let stop: Descriptor
    private let stopWriter: Descriptor

    init() throws(OperationFailure) {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw OperationFailure("make pipe", "benchmark", errno: errno) }
        stop = Descriptor(adopting: ends[0])
        stopWriter = Descriptor(adopting: ends[1])
        let file = Glibc.socket(AF_INET, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard file >= 0 else { throw OperationFailure("open socket", "UDP", errno: errno) }
        // Bound here, so that the port is known before the thread runs.
        var address = SocketName.address(WireAddress(ip: 0x7F00_0001, port: 0))
        let status = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(file, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard status == 0 else { throw OperationFailure("bind", "127.0.0.1", errno: errno) }
        port = try SocketName.own(file).port
        socket = Descriptor(adopting: file)
        let code = pthread_create(
            &thread, nil,
            { context in
                guard let context else { return nil }
                Unmanaged<BenchmarkServer>.fromOpaque(context).takeUnretainedValue().serve()
                return nil
            }, Unmanaged.passUnretained(self).toOpaque())
        guard code == 0 else { throw OperationFailure("start thread", "benchmark", errno: code) }
    }

    private func serve() {
        do throws(OperationFailure) {
            guard let socket = socket.take() else { return }
            let loop = try EventLoop()
            let server = try RendezvousServer(privateKey: privateKey, random: Randomness.fill)
            let driver = try ServerDriver(server: server, boundSocket: socket, loop: loop)
            try loop.watch(stop.rawValue) { [unowned loop] _ in loop.stop() }
            try loop.run()
            withExtendedLifetime(driver) {}
        } catch {
            // The load sees that nothing answers and says so.
        }
    }

    /// CPU time of the server's thread, seconds.
    func cpuTime() -> Double {
        var clock = clockid_t()
        var time = timespec()
        guard pthread_getcpuclockid(thread, &clock) == 0, clock_gettime(clock, &time) == 0 else { return 0 }
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    func finish() throws(OperationFailure) {
        try stopWriter.writeAll([1])
        pthread_join(thread, nil)
    }
}

/// The clients: one socket, many sessions, closed loop.
private final class BenchmarkLoad {
    typealias Measurement = (count: Int, cpu: Double, wall: Double)

    private let server: BenchmarkServer
    private let file: Descriptor
    private let target: WireAddress
    private let blake: Blake2s
    private var sessions: [ClientSession] = []
    private let key = PrivateKey.generate()
    private var timestamp = UInt64(wallClockNanoseconds())

    init(sessions count: Int) throws(OperationFailure) {
        server = try BenchmarkServer()
        blake = try Blake2s()
        target = WireAddress(ip: 0x7F00_0001, port: server.port)
        let socket = Glibc.socket(AF_INET, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard socket >= 0 else { throw OperationFailure("open socket", "UDP", errno: errno) }
        file = Descriptor(adopting: socket)
        var address = SocketName.address(target)
        let status = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard status == 0 else { throw OperationFailure("connect", "127.0.0.1", errno: errno) }
        for _ in 0..<count {
            let key = PrivateKey.generate()
            let (initiator, message) = try Self.greeting(key, server.privateKey.publicKey, timestamp, blake)
            try send(message)
            let response = try receive()
            guard
                let session = response.withUnsafeBytes({
                    ClientSession(response: $0, to: initiator, ownKey: RawKey(key.publicKey))
                })
            else {
                throw OperationFailure("measure", "handshake", detail: "the server's response is not genuine")
            }
            // The first lookup registers.
            try send(session.lookup(RawKey(key.publicKey)))
            _ = try receive()
            sessions.append(session)
        }
    }

    func finish() throws(OperationFailure) { try server.finish() }

    /// Every session asks again as soon as it is answered.
    func lookups(seconds: Double) throws(OperationFailure) -> Measurement {
        let batch = DatagramBatch(capacity: sessions.count)
        let slots = DatagramSlots(count: 64, size: 256)
        let wanted = RawKey(key.publicKey)
        let start = MonotonicTime.now(), cpu = server.cpuTime()
        var answered = 0
        var next = 0
        var outstanding = 0
        while true {
            while outstanding < sessions.count {
                let message = sessions[next].lookup(wanted)
                next = (next + 1) % sessions.count
                message.withUnsafeBytes {
                    if let from = $0.baseAddress {
                        batch.reserve().copyMemory(from: from, byteCount: $0.count)
                    }
                }
                batch.commit(length: message.count, to: target)
                outstanding += 1
            }
            try flush(batch)
            let count = try collect(slots)
            answered += count
            outstanding -= count
            let elapsed = Double((MonotonicTime.now() - start).wholeNanoseconds) / 1e9
            if elapsed >= seconds { return (answered, server.cpuTime() - cpu, elapsed) }
        }
    }

    /// Handshakes of one known client, prepared beforehand, 32 outstanding.
    func handshakes(count: Int) throws(OperationFailure) -> Measurement {
        var messages: [[UInt8]] = []
        for _ in 0..<count {
            timestamp += 1
            messages.append(try Self.greeting(key, server.privateKey.publicKey, timestamp, blake).message)
        }
        let slots = DatagramSlots(count: 64, size: 256)
        let start = MonotonicTime.now(), cpu = server.cpuTime()
        var sent = 0, answered = 0
        while answered < count {
            while sent < count, sent - answered < 32 {
                try send(messages[sent])
                sent += 1
            }
            answered += try collect(slots)
        }
        let elapsed = Double((MonotonicTime.now() - start).wholeNanoseconds) / 1e9
        return (answered, server.cpuTime() - cpu, elapsed)
    }

    /// How much memory a registered client takes, without any socket.
    static func bytesPerClient(count: Int) throws(OperationFailure) -> Double {
        let key = PrivateKey.generate()
        let server = try RendezvousServer(privateKey: key, random: Randomness.fill)
        let blake = try Blake2s()
        let output = DatagramBatch()
        // The first ones pay for what is not per client.
        func register(_ number: Int) throws(OperationFailure) {
            let client = PrivateKey.generate()
            let now = Clock.moment()
            let source = WireAddress(ip: 0x0A00_0000 + UInt32(number), port: 51820)
            let (initiator, message) = try greeting(client, key.publicKey, now.wall, blake)
            message.withUnsafeBytes { server.receive($0, from: source, now: now, into: output) }
            let ownKey = RawKey(client.publicKey)
            guard output.count == 1,
                let session = ClientSession(response: output.datagram(0), to: initiator, ownKey: ownKey)
            else { throw OperationFailure("measure", "memory", detail: "a handshake was not answered") }
            output.removeAll()
            session.lookup(ownKey).withUnsafeBytes {
                server.receive($0, from: source, now: now, into: output)
            }
            output.removeAll()
        }
        for number in 0..<100 { try register(number) }
        let before = try residentBytes()
        for number in 100..<(100 + count) { try register(number) }
        return Double(try residentBytes() - before) / Double(count)
    }

    private static func residentBytes() throws(OperationFailure) -> Int {
        let text = try Files.readText("/proc/self/statm")
        let pages = text.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
        return pages * Int(sysconf(Int32(_SC_PAGESIZE)))
    }

    private static func greeting(
        _ key: PrivateKey, _ server: PublicKey, _ timestamp: UInt64, _ blake: Blake2s
    ) throws(OperationFailure) -> (initiator: NoiseInitiator, message: [UInt8]) {
        let initiator = try NoiseInitiator(
            privateKey: key, publicKey: RawKey(key.publicKey), server: RawKey(server), blake: blake)
        let stamp = (0..<8).map { UInt8(truncatingIfNeeded: timestamp >> UInt64(56 - 8 * $0)) }
        guard let message = initiator.writeInit(proposedIndex: 1, payload: stamp, random: Randomness.fill)
        else {
            throw OperationFailure("measure", "handshake", detail: "the server's key is of low order")
        }
        return (initiator, message)
    }

    private func send(_ message: [UInt8]) throws(OperationFailure) {
        guard Glibc.send(file.rawValue, message, message.count, 0) == message.count else {
            throw OperationFailure("send", "127.0.0.1", errno: errno)
        }
    }

    private func flush(_ batch: DatagramBatch) throws(OperationFailure) {
        var entries = (0..<batch.count).map { index in
            natlab_datagram(
                address: target.ip, local: 0, port: target.port, length: UInt16(batch.datagram(index).count))
        }
        defer { batch.removeAll() }
        guard batch.count > 0, let start = batch.datagram(0).baseAddress else { return }
        let sent = natlab_send_datagrams(
            file.rawValue, start, DatagramBatch.slotSize, &entries, UInt32(batch.count))
        guard Int(sent) == batch.count else {
            throw OperationFailure("send", "127.0.0.1", errno: max(0, -sent))
        }
    }

    /// Waits for answers; their number.
    private func collect(_ slots: DatagramSlots) throws(OperationFailure) -> Int {
        while true {
            let count = slots.receive(from: file.rawValue)
            if count > 0 { return count }
            try wait()
        }
    }

    private func receive() throws(OperationFailure) -> [UInt8] {
        try wait()
        var buffer = [UInt8](repeating: 0, count: 256)
        let count = recv(file.rawValue, &buffer, buffer.count, 0)
        guard count > 0 else { throw OperationFailure("receive", "127.0.0.1", errno: errno) }
        return Array(buffer[..<count])
    }

    private func wait() throws(OperationFailure) {
        var entry = pollfd(fd: file.rawValue, events: Int16(POLLIN), revents: 0)
        guard poll(&entry, 1, 5000) > 0 else {
            throw OperationFailure(
                "measure", "rendezvous server", errno: ETIMEDOUT, detail: "it does not answer")
        }
    }
}
