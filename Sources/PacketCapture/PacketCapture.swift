import CNatlab
import Glibc
package import PcapngFormat
package import SystemCalls

/// What to capture, and how much of it.
package struct CaptureRequest: Sendable {
    package var points: [CapturePoint]
    package var section: Pcapng.Section
    package var names: [Pcapng.Name]
    /// The most bytes that are kept of a packet.
    package var snapLength: Int
    /// Nil: without end.
    package var count: UInt64?
    package var duration: Duration?

    package init(
        points: [CapturePoint], section: Pcapng.Section, names: [Pcapng.Name], snapLength: Int,
        count: UInt64?,
        duration: Duration?
    ) {
        self.points = points
        self.section = section
        self.names = names
        self.snapLength = snapLength
        self.count = count
        self.duration = duration
    }
}

/// How a capture went.
package struct CaptureSummary: Hashable, Sendable {
    package enum End: Hashable, Sendable {
        /// By SIGINT, SIGTERM or SIGHUP, or as much as was asked for has been captured.
        case asked
        /// No interface is left.
        case gone
        /// Nobody reads the pipe any more.
        case readerGone
        /// Writing failed, the disk being full for one.
        case failed(OperationFailure)
    }

    package struct Interface: Hashable, Sendable {
        package var name: String
        /// Packets in the file.
        package var packets: UInt64
        /// Packets that the capture was too slow for.
        package var dropped: UInt64
        /// Whether it went away meanwhile.
        package var isGone: Bool
    }

    package var end: End
    package var interfaces: [Interface]
    /// Whether a pipe's reader took all of it.
    package var isWhole: Bool
}

/// Captures packets of several interfaces, in as many namespaces, into one pcapng file, in the order of their time stamps.
///
/// All of it in one thread. Memory is bounded: some packets here, and a bounded number of bytes in the kernel.
package final class PacketCapture {
    private let request: CaptureRequest
    private let loop: EventLoop
    private let sockets: [CaptureSocket]
    private let start: UInt64
    private var output: CaptureOutput?
    private var watch: NamespaceWatch?
    private var file = PcapngBuffer()
    private var window = ReorderWindow()
    /// Whether a timer will drain.
    private var isScheduled = false
    private var total: UInt64 = 0
    private var end: CaptureSummary.End?
    private var looksForInterfaces = false
    /// Not reading, since a pipe's reader is slower than the packets come.
    private var isPaused = false

    /// Opens the sockets: what passes from here on is captured.
    package init(_ request: CaptureRequest) throws(OperationFailure) {
        self.request = request
        loop = try EventLoop()
        let room = max(Self.leastRoom, min(Self.mostRoom, Self.allRoom / max(1, request.points.count)))
        var sockets: [CaptureSocket] = []
        for point in request.points {
            sockets.append(try CaptureSocket(point, snapLength: request.snapLength, room: room))
        }
        self.sockets = sockets
        start = UInt64(clamping: wallClockNanoseconds())
    }

    /// Captures until a signal, a limit or the last interface's end; `began` is called once the file has its beginning.
    ///
    /// `name` is the output's, for messages. Throws only what keeps it from beginning; everything later is in the summary.
    package func run(
        to descriptor: consuming Descriptor, name: String, began: () -> Void
    ) throws(OperationFailure) -> CaptureSummary {
        try loop.handleSignals([SIGINT, SIGTERM, SIGHUP]) { [unowned self] _ in endAsAsked() }
        let output = try CaptureOutput(descriptor, name: name, loop: loop) { [unowned self] in
            attempt { () throws(OperationFailure) in
                try self.output?.check()
                try self.output?.flush()
            }
            resume()
        }
        self.output = output
        watch = try NamespaceWatch(loop) { [unowned self] in lookAtNamespaces() }
        try beginFile()
        began()
        for (index, _) in sockets.enumerated() { try read(index) }
        if let duration = request.duration {
            loop.schedule(at: .now() + duration) { [unowned self] in endAsAsked() }
        }
        // One that went between its look-up and the watch.
        lookAtNamespaces()
        if end == nil { try loop.run() }
        for socket in sockets where socket.isDown { socket.lookForInterface() }
        return conclude(output)
    }

    // MARK: The file

    private func beginFile() throws(OperationFailure) {
        file.append(request.section)
        for socket in sockets {
            file.append(
                Pcapng.Interface(
                    name: socket.point.name, description: socket.point.description, linkType: socket.linkType,
                    addresses: socket.point.addresses, snapLength: UInt32(clamping: request.snapLength)))
        }
        file.append(request.names)
        try output?.write(file.take())
    }

    /// Writes what each interface lost, and waits a moment for a pipe's reader.
    private func conclude(_ output: CaptureOutput) -> CaptureSummary {
        let now = UInt64(clamping: wallClockNanoseconds())
        var interfaces: [CaptureSummary.Interface] = []
        for (number, socket) in sockets.enumerated() {
            loop.unwatch(socket.pollDescriptor)
            let (received, dropped) = socket.statistics()
            file.append(
                Pcapng.Statistics(
                    interface: UInt32(number), start: start, end: now, received: received, dropped: dropped,
                    delivered: socket.delivered))
            interfaces.append(
                .init(
                    name: socket.point.name, packets: socket.delivered, dropped: dropped,
                    isGone: socket.isGone))
        }
        if end == .asked || end == .gone {
            attempt { () throws(OperationFailure) in
                try output.write(self.file.take())
                // A second signal ends the waiting.
                _ = try self.loop.run(until: .now() + Self.patience) { !output.isBlocked }
            }
        }
        return CaptureSummary(end: end ?? .asked, interfaces: interfaces, isWhole: !output.isBlocked)
    }

    // MARK: Packets

    /// Calls back when the socket has something.
    private func read(_ index: Int) throws(OperationFailure) {
        guard !sockets[index].isGone else { return }
        try loop.watch(sockets[index].pollDescriptor) { [unowned self] _ in drain() }
    }

    /// Reads what has come, the earliest first, and writes what no earlier one can follow.
    ///
    /// What was stamped before `now` has nearly always arrived by now, on every interface. Where the clock was set back
    /// all stamps may be later: then the earliest is taken alone, and nothing waits for an order.
    private func drain() {
        guard end == nil, !isPaused else { return }
        attempt { () throws(OperationFailure) in
            var left = Self.turn
            while left > 0, end == nil, !isPaused {
                let now = wallClockNanoseconds()
                for index in sockets.indices { try fill(index) }
                var waiting = sockets.indices.filter { sockets[$0].next != nil }
                guard !waiting.isEmpty else { break }
                repeat {
                    try takeEarliest(of: &waiting)
                    left -= 1
                } while end == nil && !isPaused && waiting.contains { sockets[$0].next?.time ?? .max <= now }
            }
            let now = wallClockNanoseconds()
            try release(until: window.earliest ?? 0 > now + Self.hold ? .max : now - Self.hold)
        }
        guard end == nil, !isPaused, !isScheduled else { return }
        // Sockets with a next packet here may have no other, and so would not call back.
        let hasMore = sockets.contains { $0.next != nil }
        guard hasMore || !window.isEmpty else { return }
        isScheduled = true
        loop.schedule(at: .now() + (hasMore ? .zero : .nanoseconds(Self.hold))) { [unowned self] in
            isScheduled = false
            drain()
        }
    }

    /// Writes what is from before this time.
    private func release(until time: Int64) throws(OperationFailure) {
        while end == nil, let entry = window.next(until: time) {
            file.append(blocks: entry.block)
            sockets[entry.source].delivered += 1
            total += 1
            if let count = request.count, total >= count { finish(.asked) }
            if file.bytes.count >= Self.batch { try write() }
        }
        try write()
    }

    private func fill(_ index: Int) throws(OperationFailure) {
        let socket = sockets[index]
        let wasGone = socket.isGone
        try socket.fill()
        if socket.isGone, !wasGone { leave(index) }
        if socket.isDown, !socket.isGone { lookForInterfaces() }
    }

    /// Looks in a moment, and again while an interface is down, whether it is gone.
    private func lookForInterfaces() {
        guard !looksForInterfaces else { return }
        looksForInterfaces = true
        loop.schedule(at: .now() + Self.look) { [unowned self] in
            looksForInterfaces = false
            for (index, socket) in sockets.enumerated() where socket.isDown && !socket.isGone {
                socket.lookForInterface()
                if socket.isGone { leave(index) } else { lookForInterfaces() }
            }
        }
    }

    private func takeEarliest(of waiting: inout [Int]) throws(OperationFailure) {
        var earliest: (index: Int, time: Int64)?
        for index in waiting {
            guard let time = sockets[index].next?.time else { continue }
            if time < earliest?.time ?? .max { earliest = (index, time) }
        }
        guard let index = earliest?.index, let packet = sockets[index].next else { return }
        let block = sockets[index].take(packet, as: UInt32(index))
        window.insert(.init(time: packet.time, source: index, block: block))
        if window.byteCount >= Self.batch { try release(until: packet.time - Self.hold) }
        // Many in so short a time; half of them are enough to sort by.
        while window.byteCount >= 8 * Self.batch, end == nil, let time = window.middle {
            try release(until: time)
        }
        try fill(index)
        if sockets[index].next == nil { waiting.removeAll { $0 == index } }
    }

    private func write() throws(OperationFailure) {
        guard let output, !file.bytes.isEmpty else { return }
        try output.write(file.take())
        guard output.isBlocked, !isPaused else { return }
        isPaused = true
        for socket in sockets { loop.unwatch(socket.pollDescriptor) }
    }

    /// Goes on reading when the pipe has taken everything.
    private func resume() {
        guard isPaused, end == nil, output?.isBlocked == false else { return }
        isPaused = false
        attempt { () throws(OperationFailure) in for index in sockets.indices { try read(index) } }
        drain()
    }

    // MARK: Ends

    private func endAsAsked() {
        // What came before is waiting still, and may be more than a turn.
        let now = wallClockNanoseconds()
        repeat { drain() } while end == nil && !isPaused && sockets.contains { $0.next?.time ?? .max <= now }
        attempt { () throws(OperationFailure) in
            if self.isPaused { for socket in self.sockets { try socket.discard(until: now) } }
            try self.release(until: .max)
        }
        finish(.asked)
    }

    private func finish(_ reason: CaptureSummary.End) {
        if end == nil { end = reason }
        loop.stop()
    }

    private func attempt(_ body: () throws(OperationFailure) -> Void) {
        do throws(OperationFailure) { try body() } catch {
            // Also in place of an end that was asked for: the file is not what it says.
            end = error.errno == EPIPE ? .readerGone : .failed(error)
            loop.stop()
        }
    }

    private func lookAtNamespaces() {
        drain()
        for (index, socket) in sockets.enumerated()
        where !socket.isGone && !socket.point.namespace.isPinned {
            socket.abandon()
            leave(index)
        }
    }

    private func leave(_ index: Int) {
        loop.unwatch(sockets[index].pollDescriptor)
        guard sockets.allSatisfy(\.isGone) else { return }
        attempt { () throws(OperationFailure) in try self.release(until: .max) }
        finish(.gone)
    }

    /// Bytes of packets, with the kernel's overhead, that may wait in all sockets together, and in one.
    private static let allRoom = 64 << 20
    private static let mostRoom = 16 << 20
    /// What a socket has by default (net.core.rmem_default).
    private static let leastRoom = 212_992
    /// Nanoseconds that a packet waits for earlier ones.
    private static let hold: Int64 = 2_000_000
    /// Bytes to write in one go.
    private static let batch = 256 << 10
    /// Packets before signals and timers have their turn.
    private static let turn = 4096
    private static let look = Duration.milliseconds(100)
    /// For a pipe's reader to take the last of it.
    private static let patience = Duration.seconds(2)
}
