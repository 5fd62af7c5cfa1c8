import Glibc
package import SystemCalls

/// A wireguard-go that this process has started.
///
/// It goes on when this object goes.
///
/// Not for several threads at once.
package final class WireGuardGoProcess {
    package let settings: WireGuardGo
    package let pid: Int32
    /// Nil once it has been waited for.
    private var program: ChildProcess?

    init(_ settings: WireGuardGo, _ program: consuming ChildProcess) {
        self.settings = settings
        pid = program.pid
        self.program = consume program
    }

    /// Waits until the interface answers on its socket.
    ///
    /// Throws at once when the program ends first, with its last lines and, where they are understood, the errno and
    /// the mend; ETIMEDOUT at the deadline. After a throw nothing of the program is left running.
    package func waitUntilReady(by deadline: MonotonicTime) throws(OperationFailure) {
        var pause = Duration.milliseconds(1)
        while true {
            do throws(OperationFailure) {
                if try answers(by: deadline) { return }
            } catch {
                try end()
                throw error
            }
            let now = MonotonicTime.now()
            guard now < deadline else {
                try end()
                throw failure(errno: ETIMEDOUT, "its socket did not answer in time")
            }
            // The wait for the program's end is what paces the questions.
            if hasEnded(by: min(now + pause, deadline)) {
                guard let status = try wait() else { throw failure(errno: ECHILD, "it was ended") }
                throw failure(errno: 0, Self.text(status))
            }
            pause = min(pause * 2, .milliseconds(16))
        }
    }

    /// Whether the program has ended by then; true also after `end`.
    package func hasEnded(by deadline: MonotonicTime) -> Bool { program?.hasEnded(by: deadline) ?? true }

    /// Ends the program (SIGTERM, then SIGKILL) and waits for it; its interface goes with it.
    package func end() throws(OperationFailure) {
        guard let program = program.take() else { return }
        _ = try program.end(grace: .seconds(2))
    }

    /// SIGTERM, without waiting.
    package func askToEnd() { _ = try? program?.handle.signal(SIGTERM) }

    private func wait() throws(OperationFailure) -> ExitStatus? {
        guard let program = program.take() else { return nil }
        return try program.wait()
    }

    private func answers(by deadline: MonotonicTime) throws(OperationFailure) -> Bool {
        let left = max(deadline - MonotonicTime.now(), .milliseconds(1))
        do throws(OperationFailure) {
            _ = try settings.transport(timeout: left).read()
            return true
        } catch {
            switch error.errno {
            // Not listening yet; or it ended under the request, which the next look at the program tells.
            case ENOENT, ECONNREFUSED, ECONNRESET, EPIPE, ETIMEDOUT: return false
            default: throw error
            }
        }
    }

    private static func text(_ status: ExitStatus) -> String {
        switch status {
        case .exited(let code): "it ended with status \(code)"
        case .killed(let signal): "it was killed by signal \(signal)"
        }
    }

    /// What happened, the program's last lines, and what they mean.
    private func failure(errno: Int32, _ what: String) -> OperationFailure {
        // The log is there to explain; without it the failure itself still counts.
        let log = (try? Files.readText(settings.log, limit: 1 << 20)) ?? ""
        let cause = WireGuardGoLog.explain(log)
        let tail = WireGuardGoLog.tail(log)
        return settings.startFailure(
            errno: errno == 0 ? cause.errno : errno, detail: tail.isEmpty ? what : "\(what): \(tail)",
            mend: cause.mend)
    }
}

extension WireGuardGo {
    /// Starts all, then waits until all answer: all or none.
    ///
    /// Returns them in the same order.
    package static func startAll(
        _ all: [WireGuardGo], within timeout: Duration = .seconds(30)
    ) throws(OperationFailure) -> [WireGuardGoProcess] {
        var started: [WireGuardGoProcess] = []
        do throws(OperationFailure) {
            for one in all { started.append(try one.start()) }
            let deadline = MonotonicTime.now() + timeout
            for process in started { try process.waitUntilReady(by: deadline) }
            return started
        } catch {
            // The first failure is the one to tell; ending the others cannot add to it. Each takes a while to take its
            // interface down, so tell all before waiting for any.
            for process in started { process.askToEnd() }
            for process in started { try? process.end() }
            throw error
        }
    }
}
