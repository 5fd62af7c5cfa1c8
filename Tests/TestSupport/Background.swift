import Glibc
package import SystemCalls

/// A program that runs until it is stopped, at the latest when the test ends.
package final class Background {
    private var child: ChildProcess?
    package let pid: Int32
    private let outputFile: String
    private let errorFile: String

    package init(_ call: ProgramCall, _ folder: String, _ cleanup: Cleanup) throws {
        outputFile = "\(folder)/\(uniqueName("output"))"
        errorFile = "\(outputFile).error"
        let output = try Files.open(outputFile, O_WRONLY | O_CREAT | O_EXCL | O_APPEND, mode: 0o600)
        let error = try Files.open(errorFile, O_WRONLY | O_CREAT | O_EXCL | O_APPEND, mode: 0o600)
        let child = try call.spawn(output: output.rawValue, error: error.rawValue)
        pid = child.pid
        self.child = consume child
        cleanup.add("program \(call.program)") { [self] in _ = try stop(SIGTERM) }
    }

    package var output: String { (try? Files.readText(outputFile)) ?? "" }
    package var error: String { (try? Files.readText(errorFile)) ?? "" }

    /// Waits until standard output or error has the text; false at the deadline, or when the program has ended without it.
    package func waits(for text: String, seconds: Int = 20) throws -> Bool {
        _ = try waitUntil(timeout: .seconds(seconds), pause: .milliseconds(2)) {
            output.contains(text) || error.contains(text) || !isRunning(pid)
        }
        return output.contains(text) || error.contains(text)
    }

    /// Waits for an end that comes by itself; nil when it does not in time, or has been waited for.
    package func wait(seconds: Int) throws -> SystemCalls.ExitStatus? {
        guard let child = child.take() else { return nil }
        guard child.hasEnded(by: .now() + .seconds(seconds)) else {
            self.child = consume child
            return nil
        }
        return try child.wait()
    }

    /// Sends the signal and waits for the end; one that is not heeded within 5 s is followed by SIGKILL.
    package func stop(_ signal: Int32) throws -> SystemCalls.ExitStatus? {
        guard let child = child.take() else { return nil }
        try child.handle.signal(signal)
        if !child.hasEnded(by: .now() + .seconds(5)) { try child.handle.signal(SIGKILL) }
        return try child.wait()
    }

    /// Command line and environment, as everybody with the right to can read them in /proc.
    package var visible: String {
        ["cmdline", "environ"].map { (try? Files.readText("/proc/\(pid)/\($0)")) ?? "" }.joined()
    }
}
