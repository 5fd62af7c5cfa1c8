import Glibc

/// A point in time by CLOCK_MONOTONIC: for deadlines and intervals.
package struct MonotonicTime: Hashable, Comparable, Sendable {
    /// Since an unspecified start (on Linux: the boot), without the time asleep.
    package var nanoseconds: Int64

    package init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

    package static func now() -> MonotonicTime { MonotonicTime(nanoseconds: read(CLOCK_MONOTONIC)) }

    package static func < (left: Self, right: Self) -> Bool { left.nanoseconds < right.nanoseconds }

    package static func + (left: Self, right: Duration) -> MonotonicTime {
        MonotonicTime(nanoseconds: left.nanoseconds + right.wholeNanoseconds)
    }

    package static func - (left: Self, right: Self) -> Duration {
        .nanoseconds(left.nanoseconds - right.nanoseconds)
    }

    /// Milliseconds from now on for poll(2) and epoll_wait(2), rounded up; 0 when it is past.
    package func millisecondsLeft(from now: MonotonicTime = .now()) -> Int32 {
        let left = max(0, nanoseconds - now.nanoseconds)
        return Int32(clamping: left / 1_000_000 + (left % 1_000_000 > 0 ? 1 : 0))
    }
}

/// Nanoseconds since the Unix epoch, by CLOCK_REALTIME.
package func wallClockNanoseconds() -> Int64 { read(CLOCK_REALTIME) }

private func read(_ clock: clockid_t) -> Int64 {
    var time = timespec()
    // Cannot fail for these two clocks (clock_gettime(2)).
    _ = clock_gettime(clock, &time)
    return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
}

extension Duration {
    /// Whole nanoseconds, clamped to about 292 years.
    package var wholeNanoseconds: Int64 {
        let (seconds, attoseconds) = components
        let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        return overflow ? (seconds < 0 ? .min : .max) / 2 : product + attoseconds / 1_000_000_000
    }
}

/// Asks `condition` until it holds or `timeout` has passed; whether it held.
///
/// Between two questions the thread rests, first for `pause`, then longer, up to 20 times that.
package func waitUntil(
    timeout: Duration, pause: Duration = .milliseconds(1), _ condition: () throws(OperationFailure) -> Bool
) throws(OperationFailure) -> Bool {
    let deadline = MonotonicTime.now() + timeout
    let longest = pause * 20
    var rest = pause
    while try !condition() {
        let now = MonotonicTime.now()
        guard now < deadline else { return false }
        let nanoseconds = min(rest.wholeNanoseconds, (deadline - now).wholeNanoseconds)
        var time = timespec(
            tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
        _ = nanosleep(&time, nil)
        rest = min(rest * 1.5, longest)
    }
    return true
}
