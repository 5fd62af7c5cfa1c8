import CNatlab
import Glibc

/// Waits for descriptors, timers and signals in one thread, and calls back.
///
/// Not Sendable: all of it belongs to that thread.
///
/// Callbacks may add and remove anything, themselves too. Source: epoll(7), signalfd(2).
package final class EventLoop {
    /// A timer that has been set; it stays valid, and harmless, after the timer has fired.
    package struct TimerID: Hashable, Sendable { fileprivate let number: UInt64 }

    /// What a descriptor is ready for.
    ///
    /// An error or a hangup is reported as both, so that the next call on it shows which.
    package struct Readiness: OptionSet, Sendable {
        package let rawValue: UInt8
        package init(rawValue: UInt8) { self.rawValue = rawValue }
        package static let readable = Readiness(rawValue: 1)
        package static let writable = Readiness(rawValue: 2)
    }

    private struct Watch {
        /// Tells this registration from an earlier one of the same descriptor number, whose event may still be pending.
        var generation: UInt32
        var interest: Readiness
        var handler: (Readiness) -> Void
    }

    private struct Timer {
        var deadline: MonotonicTime
        var number: UInt64
    }

    private let epoll: Descriptor
    private var watches: [Int32: Watch] = [:]
    private var generation: UInt32 = 0
    /// A binary heap, the next deadline first; cancelled timers stay until they are due, without a body.
    private var heap: [Timer] = []
    private var bodies: [UInt64: () -> Void] = [:]
    private var nextTimer: UInt64 = 0
    private var signals: Descriptor?
    private var signalSet = sigset_t()
    private var former = sigset_t()
    private var stopped = false

    /// Throws EMFILE or ENFILE when there are no descriptors left.
    package init() throws(OperationFailure) {
        let file = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard file >= 0 else { throw OperationFailure("create event loop", "epoll", errno: errno) }
        epoll = Descriptor(adopting: file)
    }

    deinit {
        if signals != nil { pthread_sigmask(SIG_SETMASK, &former, nil) }
    }

    // MARK: Descriptors

    /// Calls `handler` whenever the descriptor is ready (level-triggered).
    ///
    /// Replaces a former registration of it.
    ///
    /// The descriptor is borrowed: remove it before it is closed. Throws EPERM for one that cannot be waited for (a regular file).
    package func watch(
        _ descriptor: Int32, for interest: Readiness = .readable, _ handler: @escaping (Readiness) -> Void
    ) throws(OperationFailure) {
        let exists = watches[descriptor] != nil
        generation &+= 1
        try control(exists ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, descriptor, interest, generation)
        watches[descriptor] = Watch(generation: generation, interest: interest, handler: handler)
    }

    /// Changes what a watched descriptor is waited for.
    package func setInterest(_ interest: Readiness, of descriptor: Int32) throws(OperationFailure) {
        guard let watch = watches[descriptor], watch.interest != interest else { return }
        try control(EPOLL_CTL_MOD, descriptor, interest, watch.generation)
        watches[descriptor]?.interest = interest
    }

    /// Forgets a descriptor; nothing happens when it is not watched.
    package func unwatch(_ descriptor: Int32) {
        guard watches.removeValue(forKey: descriptor) != nil else { return }
        var event = epoll_event()
        // A closed descriptor has left by itself (EBADF, ENOENT).
        _ = epoll_ctl(epoll.rawValue, EPOLL_CTL_DEL, descriptor, &event)
    }

    private func control(
        _ operation: Int32, _ descriptor: Int32, _ interest: Readiness, _ generation: UInt32
    ) throws(OperationFailure) {
        var event = epoll_event()
        if interest.contains(.readable) { event.events |= EPOLLIN.rawValue }
        if interest.contains(.writable) { event.events |= EPOLLOUT.rawValue }
        event.data.u64 = UInt64(generation) << 32 | UInt64(UInt32(bitPattern: descriptor))
        guard epoll_ctl(epoll.rawValue, operation, descriptor, &event) == 0 else {
            throw OperationFailure("watch descriptor", "\(descriptor)", errno: errno)
        }
    }

    // MARK: Timers

    /// Calls `body` once, at `deadline` or as soon as possible after it; those due are called in order of deadline.
    @discardableResult
    package func schedule(at deadline: MonotonicTime, _ body: @escaping () -> Void) -> TimerID {
        nextTimer += 1
        bodies[nextTimer] = body
        heap.append(Timer(deadline: deadline, number: nextTimer))
        siftUp()
        return TimerID(number: nextTimer)
    }

    /// Makes a timer do nothing; so it is with one that has fired.
    package func cancel(_ timer: TimerID) {
        bodies[timer.number] = nil
        // Do not let cancelled timers pile up: far deadlines that are moved again and again would.
        if heap.count > 64, heap.count > 4 * bodies.count {
            let kept = heap.filter { bodies[$0.number] != nil }
            heap = []
            for timer in kept {
                heap.append(timer)
                siftUp()
            }
        }
    }

    private func precedes(_ left: Int, _ right: Int) -> Bool {
        (heap[left].deadline, heap[left].number) < (heap[right].deadline, heap[right].number)
    }

    private func siftUp() {
        var child = heap.count - 1
        while child > 0, precedes(child, (child - 1) / 2) {
            heap.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    private func popTimer() {
        heap.swapAt(0, heap.count - 1)
        heap.removeLast()
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && precedes(child, least) {
                least = child
            }
            guard least != parent else { return }
            heap.swapAt(parent, least)
            parent = least
        }
    }

    // MARK: Signals

    /// Takes these signals from their usual effect and calls `handler` with each one's number, until the loop is gone.
    ///
    /// Call it once, before the process makes other threads: they inherit the signal mask.
    package func handleSignals(_ numbers: [Int32], _ handler: @escaping (Int32) -> Void)
        throws(OperationFailure)
    {
        guard signals == nil else { throw OperationFailure("handle signals", "twice", errno: EBUSY) }
        sigemptyset(&signalSet)
        for number in numbers { sigaddset(&signalSet, number) }
        pthread_sigmask(SIG_BLOCK, &signalSet, &former)
        let file = signalfd(-1, &signalSet, Int32(SFD_CLOEXEC) | Int32(SFD_NONBLOCK))
        guard file >= 0 else {
            let code = errno
            pthread_sigmask(SIG_SETMASK, &former, nil)
            throw OperationFailure("handle signals", "\(numbers)", errno: code)
        }
        signals = Descriptor(adopting: file)
        try watch(file) { _ in
            var info = signalfd_siginfo()
            while read(file, &info, MemoryLayout<signalfd_siginfo>.size)
                == MemoryLayout<signalfd_siginfo>.size
            {
                handler(Int32(bitPattern: info.ssi_signo))
            }
        }
    }

    // MARK: Running

    /// Runs until `stop` is called.
    package func run() throws(OperationFailure) {
        stopped = false
        while !stopped { try turn(until: nil) }
    }

    /// Runs until the condition holds after some callback, or the deadline is past; whether it holds.
    package func run(
        until deadline: MonotonicTime, _ condition: () -> Bool = { false }
    ) throws(OperationFailure) -> Bool {
        stopped = false
        while !condition() {
            guard !stopped, MonotonicTime.now() < deadline else { return condition() }
            try turn(until: deadline)
        }
        return true
    }

    /// Makes `run` return when the present callback is over.
    package func stop() { stopped = true }

    /// Waits for the next thing to happen and does it.
    private func turn(until deadline: MonotonicTime?) throws(OperationFailure) {
        while let first = heap.first, bodies[first.number] == nil { popTimer() }
        let next = [heap.first?.deadline, deadline].compactMap { $0 }.min()
        var events = [epoll_event](repeating: epoll_event(), count: 64)
        let count = epoll_wait(epoll.rawValue, &events, 64, next?.millisecondsLeft() ?? -1)
        if count < 0 {
            let code = errno
            guard code == EINTR else { throw OperationFailure("wait for events", "epoll", errno: code) }
        }
        for event in events.prefix(Int(max(count, 0))) { deliver(event) }
        fireTimers()
    }

    private func deliver(_ event: epoll_event) {
        let descriptor = Int32(bitPattern: UInt32(truncatingIfNeeded: event.data.u64))
        guard let watch = watches[descriptor], watch.generation == UInt32(event.data.u64 >> 32) else {
            return
        }
        var readiness: Readiness = []
        if event.events & EPOLLIN.rawValue != 0 { readiness.insert(.readable) }
        if event.events & EPOLLOUT.rawValue != 0 { readiness.insert(.writable) }
        // EPOLLERR or EPOLLHUP, which come unasked.
        if event.events & ~(EPOLLIN.rawValue | EPOLLOUT.rawValue) != 0 { readiness = [.readable, .writable] }
        watch.handler(readiness)
    }

    /// Fires what is due now, not what these timers set anew: descriptors get their turn in between.
    private func fireTimers() {
        let now = MonotonicTime.now()
        let newest = nextTimer
        while let first = heap.first, first.deadline <= now, first.number <= newest {
            popTimer()
            bodies.removeValue(forKey: first.number)?()
        }
    }
}
