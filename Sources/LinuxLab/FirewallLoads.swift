import Glibc
import SystemCalls

/// `iptables-restore` programs that run beside the steps that follow them.
///
/// Each costs over a millisecond, nearly all of it exec and dynamic linking on whichever processor is free;
/// nothing that follows in a plan needs the rules before the first tunnel is up.
struct FirewallLoads {
    private struct Load {
        var index: Int
        var namespace: String
        var program: RunningProgram
    }

    private var running: [Load] = []
    /// The program's file, once it has been found.
    private var path: String?
    private var failure: StepRunner.Failure?
    /// More than there are processors only adds memory.
    private let limit = max(1, min(8, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))))

    static let program = "iptables-restore"

    /// ENOENT with its mend where the program is missing.
    static func check() throws(OperationFailure) {
        do throws(OperationFailure) {
            _ = try ProgramCall(program).findProgram()
        } catch {
            var failure = error
            failure.mend = "apt-get install iptables"
            throw failure
        }
    }

    /// Begins a load; waits for the oldest one when too many run.
    mutating func start(_ index: Int, _ namespace: String, _ text: String) throws(OperationFailure) {
        while running.count >= limit { try finishOldest() }
        // --noflush: nothing is there to flush, and flushing waits 28 ms for readers in the kernel. --wait:
        // the legacy iptables has one lock for all namespaces. A session of its own: Ctrl-C is natlab's to
        // handle.
        let file = if let path { path } else { try ProgramCall(Self.program).findProgram() }
        path = file
        let call = ProgramCall(
            file, ["--noflush", "--wait"], network: NetworkNamespace(namespace), newSession: true,
            folder: "/")
        running.append(
            Load(index: index, namespace: namespace, program: try call.begin(input: Array(text.utf8))))
    }

    /// Waits for all; throws the first failure.
    mutating func finishAllPlainly() throws(OperationFailure) {
        var first: OperationFailure?
        while !running.isEmpty {
            do throws(OperationFailure) { try finishOldest() } catch { first = first ?? error }
        }
        if let first { throw first }
    }

    mutating func finishAll() throws(StepRunner.Failure) {
        do throws(OperationFailure) {
            try finishAllPlainly()
        } catch {
            throw takeFailure().map { StepRunner.Failure(index: $0.0, cause: $0.1) }
                ?? StepRunner.Failure(index: 0, cause: error)
        }
    }

    /// The first load that failed since the last call, and its step.
    mutating func takeFailure() -> (Int, OperationFailure)? {
        defer { failure = nil }
        return failure.map { ($0.index, $0.cause) }
    }

    private mutating func finishOldest() throws(OperationFailure) {
        let load = running.removeFirst()
        do throws(OperationFailure) {
            let output = try load.program.finish()
            guard !output.status.isSuccess else { return }
            let said = output.error.split(separator: "\n").joined(separator: "; ")
            throw OperationFailure(
                "load firewall", "with \(Self.program)", namespace: load.namespace,
                detail: said.isEmpty ? "it ended with status \(output.status.shellStatus)" : said)
        } catch {
            if failure == nil { failure = StepRunner.Failure(index: load.index, cause: error) }
            throw error
        }
    }
}
