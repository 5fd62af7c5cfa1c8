import Glibc
package import SystemCalls

/// wireguard-go for one interface of one host: the program, its socket, its log.
///
/// Each host has a folder of its own, which the program sees as /run/wireguard in a mount namespace of its own: so every
/// host can have its `wg0`. Source: wireguard-go's main.go and ipc/uapi_unix.go (0.0.20220316).
package struct WireGuardGo: Hashable, Sendable {
    package var interface: String
    package var network: NetworkNamespace
    /// The host's folder for UAPI sockets (STATE/hosts/HOST/wg), 0700.
    package var folder: String
    /// Where the program's output goes, 0600; emptied at each start.
    package var log: String
    /// Further environment of the program: by it its owner is found again.
    package var marks: [String: String]

    package init(
        interface: String, network: NetworkNamespace, folder: String, log: String,
        marks: [String: String] = [:]
    ) {
        self.interface = interface
        self.network = network
        self.folder = folder
        self.log = log
        self.marks = marks
    }

    /// Where wireguard-go and wg(8) look for sockets; the folder has to be there for `start`, which mounts on it.
    package static let mountPoint = "/run/wireguard"

    /// The socket, as it is reached from outside of the host's mount namespace.
    package var socketPath: String { "\(folder)/\(interface).sock" }

    /// The interface through its socket.
    package func transport(timeout: Duration = .seconds(5)) -> UserspaceWireGuard {
        UserspaceWireGuard(
            interface: interface, path: socketPath, namespace: network.name, timeout: timeout)
    }

    /// Starts the program and returns at once; the interface is there once `waitUntilReady` has returned.
    ///
    /// Start all hosts first, then wait for all. Throws ENOENT when wireguard-go is not installed, ENOENT, ENODEV or
    /// EACCES when /dev/net/tun cannot be opened; each with its mend.
    package func start() throws(OperationFailure) -> WireGuardGoProcess {
        try Self.checkTun()
        try Files.makeFolder(folder, mode: 0o700)
        try checkSocket()
        let output = try Files.open(
            log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, mode: 0o600, operation: "make log")
        let call = ProgramCall(
            try Self.findProgram(), [interface],
            environment: Self.environment.merging(marks) { own, _ in own }, network: network,
            wireGuardFolder: folder, newSession: true, folder: "/")
        let program = try call.spawn(output: output.rawValue, error: output.rawValue)
        return WireGuardGoProcess(self, program)
    }

    /// LOG_LEVEL=error: what goes wrong, and no line for each handshake.
    ///
    /// Foreground: the pid stays the one that was started, and its output its own.
    private static let environment = [
        "WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "error", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    ]

    /// A socket that answers already would be taken for the new program's.
    ///
    /// One that a killed program left is replaced by the new one itself; removing a live one would end its
    /// owner, which watches it.
    private func checkSocket() throws(OperationFailure) {
        do throws(OperationFailure) {
            _ = try UAPIConnection(path: socketPath, deadline: .now() + .seconds(1))
        } catch {
            if [ENOENT, ECONNREFUSED].contains(error.errno) { return }
            throw error
        }
        throw startFailure(
            errno: EADDRINUSE, detail: "another program answers on \(socketPath)", mend: "`natlab down` first"
        )
    }

    /// Throws what this machine lacks to run wireguard-go at all, with the mend: the program or /dev/net/tun.
    package static func checkMachine() throws(OperationFailure) {
        _ = try findProgram()
        try checkTun()
    }

    /// By the PATH of this process, not by the bare one that the program gets.
    private static func findProgram() throws(OperationFailure) -> String {
        let program = "wireguard-go"
        do throws(OperationFailure) {
            return try ProgramCall(program).findProgram()
        } catch {
            throw OperationFailure(
                "find program", program, errno: error.errno, detail: error.detail,
                mend: "apt install wireguard-go")
        }
    }

    private static func checkTun() throws(OperationFailure) {
        let path = "/dev/net/tun"
        do throws(OperationFailure) {
            _ = try Files.open(path, O_RDWR)
        } catch {
            throw OperationFailure(
                "open", path, errno: error.errno, detail: "wireguard-go needs it",
                mend: WireGuardGoLog.tunMend(errno: error.errno))
        }
    }

    func startFailure(errno: Int32, detail: String, mend: String?) -> OperationFailure {
        OperationFailure(
            "start wireguard-go for", interface, namespace: network.name, errno: errno, detail: detail,
            mend: mend)
    }
}
