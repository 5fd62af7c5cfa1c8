import CNatlab
import Glibc

/// A program to run, and where: the network namespace, the mounts, the session.
package struct ProgramCall: Sendable {
    /// A path with a slash in it, or a name to look up in PATH (and the sbin folders, which a user's PATH may
    /// lack).
    package var program: String
    /// Without the program's own name.
    package var arguments: [String]
    /// What the program is told that it is called (argv[0]), and ps(1) shows; nil: `program`.
    package var shownName: String?
    /// Nil: the caller's.
    package var environment: [String: String]?
    /// Nil: the caller's.
    package var network: NetworkNamespace?
    /// Bound on /run/wireguard in a mount namespace of the program's own, so that `wg` and wireguard-go see
    /// this folder's sockets and no others.
    package var wireGuardFolder: String?
    /// A /sys that shows the network namespace's devices, as `ip netns exec` has it.
    package var mountsSys: Bool
    /// setsid(2): survives the terminal.
    package var newSession: Bool
    /// Nil: the caller's.
    package var folder: String?

    package init(
        _ program: String, _ arguments: [String] = [], environment: [String: String]? = nil,
        network: NetworkNamespace? = nil, wireGuardFolder: String? = nil, mountsSys: Bool = false,
        newSession: Bool = false, folder: String? = nil
    ) {
        self.program = program
        self.arguments = arguments
        self.environment = environment
        self.network = network
        self.wireGuardFolder = wireGuardFolder
        self.mountsSys = mountsSys
        self.newSession = newSession
        self.folder = folder
    }

    /// What the program wrote and how it ended.
    package struct Output: Hashable, Sendable {
        package var status: ExitStatus
        package var output: String
        package var error: String
    }

    /// Starts the program and returns once it has been executed.
    ///
    /// Descriptors are borrowed; nil is /dev/null. `extra` become 3, 4, ... there; nothing else is inherited.
    /// Throws ENOENT when there is no such program.
    package func spawn(
        input: Int32? = nil, output: Int32? = nil, error: Int32? = nil, extra: [Int32] = []
    ) throws(OperationFailure) -> ChildProcess {
        let pid = try start(input ?? -1, output ?? -1, error ?? -1, extra, with: natlab_spawn)
        return try ChildProcess(pid: pid)
    }

    /// Runs the program to its end with `input` as its standard input.
    package func run(input: [UInt8] = []) throws(OperationFailure) -> Output {
        try begin(input: input).finish()
    }

    /// Starts the program with `input` as its standard input, to be finished later.
    ///
    /// Input and output go through files in memory, so that neither side can wait for the other for ever.
    package func begin(input: [UInt8] = []) throws(OperationFailure) -> RunningProgram {
        let given = try Descriptor.memoryFile("input", holding: input)
        let output = try Descriptor.memoryFile("output")
        let error = try Descriptor.memoryFile("error")
        let child = try spawn(input: given.rawValue, output: output.rawValue, error: error.rawValue)
        return RunningProgram(child, output: output, error: error)
    }

    /// Becomes the program, with all that this process has: its descriptors, terminal, pid and the signals it was
    /// started with (see `InheritedSignals`); returns only to throw.
    ///
    /// After a throw the calling thread may be in the other namespaces already: say what failed and exit.
    package func replaceProcess() throws(OperationFailure) -> Never {
        _ = try start(STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO, [], with: natlab_exec)
        throw OperationFailure("run program", program, namespace: network?.name)
    }

    /// The program's file; ENOENT when there is none.
    package func findProgram() throws(OperationFailure) -> String {
        if program.utf8.contains(UInt8(ascii: "/")) { return program }
        let path = environment?["PATH"] ?? getenv("PATH").map { String(cString: $0) } ?? ""
        let folders =
            path.split(separator: ":").map(String.init) + [
                "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin",
            ]
        for folder in folders {
            let candidate = "\(folder)/\(program)"
            if access(candidate, X_OK) == 0 { return candidate }
        }
        throw OperationFailure(
            "run program", program, namespace: network?.name, errno: ENOENT, detail: "not found in PATH")
    }

    private typealias Start = (UnsafePointer<natlab_spawn>, UnsafeMutablePointer<natlab_failure>) -> Int32

    private func start(
        _ input: Int32, _ output: Int32, _ error: Int32, _ extra: [Int32], with call: Start
    ) throws(OperationFailure) -> Int32 {
        let operation = "run program"
        let path = try findProgram()
        let packedArguments = try PackedStrings([shownName ?? program] + self.arguments, for: operation)
        let packedEnvironment = try PackedStrings(
            self.environment.map(Self.lines) ?? Self.ownEnvironment(), for: operation)
        let networkFile = if let network { try network.open().take() } else { Int32(-1) }
        defer { if networkFile >= 0 { close(networkFile) } }
        var failure = natlab_failure()
        let result = path.withCString { path in
            packedArguments.bytes.withUnsafeBufferPointer { arguments in
                packedEnvironment.bytes.withUnsafeBufferPointer { environment in
                    extra.withUnsafeBufferPointer { extra in
                        Self.withOptionalCString(wireGuardFolder) { wireGuardFolder in
                            Self.withOptionalCString(folder) { folder in
                                guard let argumentStart = arguments.baseAddress,
                                    let environmentStart = environment.baseAddress
                                else { return -EINVAL }
                                var request = natlab_spawn(
                                    path: path, arguments: argumentStart,
                                    argument_count: packedArguments.count,
                                    environment: environmentStart, environment_count: packedEnvironment.count,
                                    network: networkFile, wireguard_directory: wireGuardFolder,
                                    mount_sys: mountsSys,
                                    input: input, output: output, error: error, extra: extra.baseAddress,
                                    extra_count: extra.count, new_session: newSession, directory: folder)
                                return call(&request, &failure)
                            }
                        }
                    }
                }
            }
        }
        guard result >= 0 else { throw failed(at: failure.stage, errno: -result) }
        return result
    }

    private func failed(at stage: Int32, errno: Int32) -> OperationFailure {
        let (operation, object) =
            switch UInt32(bitPattern: stage) {
            case NATLAB_STAGE_MOUNTS.rawValue: ("mount for program", wireGuardFolder ?? "/sys")
            case NATLAB_STAGE_ENTER.rawValue: ("enter namespace for program", program)
            case NATLAB_STAGE_DESCRIPTORS.rawValue: ("pass descriptors to program", program)
            case NATLAB_STAGE_DIRECTORY.rawValue: ("change folder for program", folder ?? "")
            default: ("run program", program)
            }
        return OperationFailure(operation, object, namespace: network?.name, errno: errno)
    }

    private static func lines(_ environment: [String: String]) -> [String] {
        environment.map { "\($0.key)=\($0.value)" }.sorted()
    }

    private static func ownEnvironment() -> [String] {
        var result: [String] = []
        var entry = environ
        while let text = entry.pointee {
            result.append(String(cString: text))
            entry += 1
        }
        return result
    }

    private static func withOptionalCString<R>(_ text: String?, _ body: (UnsafePointer<CChar>?) -> R) -> R {
        guard let text else { return body(nil) }
        return text.withCString(body)
    }
}

/// A program that runs with its output kept; one that is dropped before `finish` is ended.
package final class RunningProgram {
    private var child: ChildProcess?
    private let output: Descriptor
    private let error: Descriptor

    fileprivate init(
        _ child: consuming ChildProcess, output: consuming Descriptor, error: consuming Descriptor
    ) {
        self.child = consume child
        self.output = output
        self.error = error
    }

    deinit {
        // Reaped too: a zombie would stay for as long as this process runs.
        if let child = child.take() { _ = try? child.end(grace: .zero) }
    }

    /// Waits for the end; ECHILD the second time.
    package func finish() throws(OperationFailure) -> ProgramCall.Output {
        guard let child = child.take() else { throw OperationFailure("wait for program", "", errno: ECHILD) }
        let status = try child.wait()
        try output.rewind()
        try error.rewind()
        return ProgramCall.Output(
            status: status, output: String(decoding: try output.readAll(), as: UTF8.self),
            error: String(decoding: try error.readAll(), as: UTF8.self))
    }
}
