import CNatlab
import Glibc

/// How a process ended.
package enum ExitStatus: Hashable, Sendable {
    case exited(Int32)
    /// By this signal.
    case killed(Int32)

    package var isSuccess: Bool { self == .exited(0) }

    /// As a shell has it: the status, or 128 and the signal.
    package var shellStatus: Int32 {
        switch self {
        case .exited(let status): status
        case .killed(let signal): 128 + signal
        }
    }

    init(_ status: Int32) {
        let signal = status & 0x7F
        self = signal == 0 ? .exited(status >> 8 & 0xFF) : .killed(signal)
    }
}

/// One certain process, also after its pid has been given to another.
package struct ProcessHandle: ~Copyable, Sendable {
    package let pid: Int32
    private let descriptor: Descriptor

    /// Throws ESRCH when there is no such process.
    ///
    /// The corresponding C function is `pidfd_open`.
    package init(pid: Int32) throws(OperationFailure) {
        let file = natlab_pidfd_open(pid)
        guard file >= 0 else { throw OperationFailure("find process", "\(pid)", errno: -file) }
        self.pid = pid
        descriptor = Descriptor(adopting: file)
    }

    /// A descriptor that becomes readable when the process ends.
    package var pollDescriptor: Int32 { descriptor.rawValue }

    /// Sends a signal; whether the process was still there.
    @discardableResult
    package borrowing func signal(_ number: Int32) throws(OperationFailure) -> Bool {
        let result = natlab_pidfd_signal(descriptor.rawValue, number)
        if result == -ESRCH { return false }
        guard result >= 0 else { throw OperationFailure("signal process", "\(pid)", errno: -result) }
        return true
    }

    /// Waits for the end of the process, a child or not; whether it came before the deadline.
    package borrowing func waitForEnd(until deadline: MonotonicTime) -> Bool {
        while true {
            var wanted = pollfd(fd: descriptor.rawValue, events: Int16(POLLIN), revents: 0)
            let left = deadline.millisecondsLeft()
            let count = poll(&wanted, 1, left)
            if count > 0 { return true }
            if count == 0, left == 0 || MonotonicTime.now() >= deadline { return false }
        }
    }
}

/// A child of this process, which has to be waited for.
package struct ChildProcess: ~Copyable, Sendable {
    package let handle: ProcessHandle
    package var pid: Int32 { handle.pid }

    init(pid: Int32) throws(OperationFailure) { handle = try ProcessHandle(pid: pid) }

    /// Waits for the end, without a deadline.
    package consuming func wait() throws(OperationFailure) -> ExitStatus {
        var status: Int32 = 0
        while waitpid(handle.pid, &status, 0) < 0 {
            let code = errno
            guard code == EINTR else {
                throw OperationFailure("wait for process", "\(handle.pid)", errno: code)
            }
        }
        return ExitStatus(status)
    }

    /// Waits for the end; nil when the deadline comes first.
    ///
    /// After the end call `wait` for the status.
    package borrowing func hasEnded(by deadline: MonotonicTime) -> Bool { handle.waitForEnd(until: deadline) }

    /// SIGTERM, and SIGKILL when that has not ended it in time.
    package consuming func end(grace: Duration) throws(OperationFailure) -> ExitStatus {
        try handle.signal(SIGTERM)
        if !handle.waitForEnd(until: .now() + grace) { try handle.signal(SIGKILL) }
        return try wait()
    }
}
