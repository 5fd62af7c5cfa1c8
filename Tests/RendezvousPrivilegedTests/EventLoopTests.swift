import Glibc
import SystemCalls
import Testing

/// The loop that everything here runs in; needs no root.
struct EventLoopTests {
    @Test func `timers fire in order of deadline, and cancelled ones not`() throws {
        let loop = try EventLoop()
        let now = MonotonicTime.now()
        var fired: [Int] = []
        for number in [5, 1, 4, 2, 3] {
            loop.schedule(at: now + .milliseconds(number * 2)) { fired.append(number) }
        }
        let cancelled = loop.schedule(at: now + .milliseconds(3)) { fired.append(99) }
        loop.cancel(cancelled)
        #expect(try loop.run(until: now + .seconds(5)) { fired.count == 5 })
        #expect(fired == [1, 2, 3, 4, 5])
        #expect(MonotonicTime.now() >= now + .milliseconds(10))
    }

    @Test func `a timer may set another for now without holding up the rest`() throws {
        let loop = try EventLoop()
        var rounds = 0
        var ends: [Int32] = [-1, -1]
        #expect(pipe(&ends) == 0)
        let reader = Descriptor(adopting: ends[0]), writer = Descriptor(adopting: ends[1])
        var heard = false
        try loop.watch(reader.rawValue) { _ in heard = true }
        func again() {
            loop.schedule(at: .now()) {
                rounds += 1
                if rounds == 3 { try? writer.writeAll([1]) }
                again()
            }
        }
        again()
        #expect(try loop.run(until: .now() + .seconds(5)) { heard })
        loop.unwatch(reader.rawValue)
    }

    @Test func `thousands of timers set and cancelled leave nothing behind`() throws {
        let loop = try EventLoop()
        var fired = 0
        for round in 0..<10_000 {
            let timer = loop.schedule(at: .now() + .seconds(3600)) { fired += 1 }
            loop.cancel(timer)
            if round % 1000 == 0 { loop.schedule(at: .now()) { fired += 1 } }
        }
        #expect(try loop.run(until: .now() + .seconds(5)) { fired == 10 })
    }

    @Test func `a descriptor that is removed in a callback is not called again`() throws {
        let loop = try EventLoop()
        var pipes: [(Int32, Int32)] = []
        defer {
            for (reader, writer) in pipes {
                close(reader)
                close(writer)
            }
        }
        var calls = 0
        for _ in 0..<4 {
            var ends: [Int32] = [-1, -1]
            #expect(pipe(&ends) == 0)
            pipes.append((ends[0], ends[1]))
        }
        for (reader, writer) in pipes {
            #expect(write(writer, "x", 1) == 1)
            try loop.watch(reader) { _ in
                calls += 1
                // All four are ready in the same turn; the first called removes them all.
                for (other, _) in pipes { loop.unwatch(other) }
            }
        }
        #expect(try !loop.run(until: .now() + .milliseconds(50)) { calls > 1 })
        #expect(calls == 1)
    }

    @Test func `writability and hangup are reported`() throws {
        let loop = try EventLoop()
        var ends: [Int32] = [-1, -1]
        #expect(pipe(&ends) == 0)
        var seen: EventLoop.Readiness = []
        try loop.watch(ends[1], for: .writable) { seen.formUnion($0) }
        #expect(try loop.run(until: .now() + .seconds(5)) { seen == .writable })
        try loop.setInterest([], of: ends[1])
        close(ends[0])
        #expect(try loop.run(until: .now() + .seconds(5)) { seen == [.readable, .writable] })
        loop.unwatch(ends[1])
        close(ends[1])
    }

    @Test func `a signal arrives as a callback, and the mask is given back`() throws {
        var before = sigset_t(), after = sigset_t()
        pthread_sigmask(SIG_SETMASK, nil, &before)
        var got: [Int32] = []
        do {
            let loop = try EventLoop()
            try loop.handleSignals([SIGUSR2]) { [unowned loop] number in
                got.append(number)
                loop.stop()
            }
            pthread_kill(pthread_self(), SIGUSR2)
            try loop.run()
        }
        #expect(got == [SIGUSR2])
        pthread_sigmask(SIG_SETMASK, nil, &after)
        #expect(sigismember(&after, SIGUSR2) == sigismember(&before, SIGUSR2))
    }

    @Test func `a descriptor that cannot be waited for is refused by errno`() throws {
        let loop = try EventLoop()
        let file = try Files.open("/proc/self/exe", O_RDONLY)
        let raw = file.rawValue
        let failure = #expect(throws: OperationFailure.self) { try loop.watch(raw) { _ in } }
        #expect(failure?.errno == EPERM)
        withExtendedLifetime(file.rawValue) {}
    }
}
