import Glibc

/// Turns SIGINT, SIGTERM and SIGHUP into a question that can be asked between two steps.
///
/// The signals are blocked and stay pending: no handler runs at an awkward moment, and nothing is lost (sigpending(2)).
struct InterruptFlag: Sendable {
    private static let numbers = [SIGINT, SIGTERM, SIGHUP]

    /// To be made on the main thread before any other thread exists: they inherit the blocked signals.
    init() {
        var signals = sigset_t()
        sigemptyset(&signals)
        for number in Self.numbers { sigaddset(&signals, number) }
        pthread_sigmask(SIG_BLOCK, &signals, nil)
    }

    /// Whether one of the signals has come since this was made.
    var isRaised: Bool {
        var pending = sigset_t()
        sigpending(&pending)
        return Self.numbers.contains { sigismember(&pending, $0) == 1 }
    }
}
