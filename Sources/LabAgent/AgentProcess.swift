import Glibc
package import LinuxLab
package import SystemCalls

/// The agent as a process of its own, seen from `up`.
package enum AgentProcess {
    /// The hidden subcommand by which natlab becomes the agent.
    package static let subcommand = "__agent"
    /// What the agent writes to its third descriptor once it serves.
    static let readyByte: UInt8 = 0x2B
    static let readyDescriptor: Int32 = 3

    /// Starts the agent of a lab and returns once its sockets are open and it answers.
    ///
    /// The agent is this very program, run again: it has to outlive the command. Its standard error goes to
    /// STATE/logs/agent.err. Throws with the last lines of that when it ends instead.
    package static func start(_ state: LabState, timeout: Duration = .seconds(30)) throws(OperationFailure) {
        var ends: [Int32] = [0, 0]
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else {
            throw OperationFailure("make socket pair", "agent", errno: errno)
        }
        let reading = Descriptor(adopting: ends[0])
        let writing = Descriptor(adopting: ends[1])
        let log = try Files.open("\(state.logsFolder)/agent.err", O_WRONLY | O_CREAT | O_APPEND, mode: 0o600)
        let mark = state.agentMark
        var call = ProgramCall(
            "/proc/self/exe", [subcommand, state.root.path, state.lab], newSession: true, folder: "/")
        call.shownName = "natlab"
        call.environment = [mark.name: mark.value, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"]
        let child = try call.spawn(output: log.rawValue, error: log.rawValue, extra: [writing.rawValue])
        // Only the agent's own copy may hold its end open: its end is then the agent's end.
        _ = consume writing
        var wanted = pollfd(fd: reading.rawValue, events: Int16(POLLIN), revents: 0)
        let deadline = MonotonicTime.now() + timeout
        var byte: UInt8 = 0
        while true {
            let ready = poll(&wanted, 1, deadline.millisecondsLeft())
            if ready > 0, read(reading.rawValue, &byte, 1) == 1, byte == readyByte { return }
            if ready < 0, errno == EINTR { continue }
            break
        }
        let cause = lastLines(state)
        let status = try child.end(grace: .seconds(1))
        throw OperationFailure(
            "start agent of", state.lab, errno: status == .killed(SIGTERM) ? ETIMEDOUT : 0,
            detail: cause.isEmpty ? "it ended before it served (\(status))" : cause)
    }

    private static func lastLines(_ state: LabState) -> String {
        let text = (try? Files.readText("\(state.logsFolder)/agent.err")) ?? ""
        return text.split(separator: "\n").suffix(3).joined(separator: "; ")
    }
}
