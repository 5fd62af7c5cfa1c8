package import ArgumentParser
import Glibc
import LabPlanner
import LinuxLab
import SystemCalls

/// `natlab exec HOST -- CMD`: becomes a program in a node of the lab.
package struct ExecCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "exec",
        abstract: "Runs a command in a host, router or segment of the lab.",
        discussion: """
            In its network namespace and, for WireGuard, with its own /run/wireguard: `wg show` shows the host's own \
            interfaces. The command takes natlab's place: its exit status, signals, input and output are its own. \
            Options go before the node: natlab exec --lab NAME alpine1 -- ping -c 1 10.66.66.3
            """)

    @OptionGroup var lab: LabOptions

    @Argument(help: "The host, router or segment.")
    var node: String

    @Argument(parsing: .captureForPassthrough, help: "The command and its arguments, after `--`.")
    var command: [String] = []

    package init() {}

    package func run() throws {
        let words = Array(command.first == "--" ? command[1...] : command[...])
        guard let program = words.first else {
            throw CommandFailure(.usage, "no command given: natlab exec \(node) -- COMMAND")
        }
        try enter(node, of: try lab.state(), program: program, arguments: Array(words.dropFirst()))
    }
}

/// `natlab shell HOST`: an interactive shell there.
package struct ShellCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "shell", abstract: "Opens a shell in a host, router or segment of the lab.",
        discussion: "Runs $SHELL, or /bin/sh; NATLAB_LAB and NATLAB_NODE are set there.")

    @OptionGroup var lab: LabOptions

    @Argument(help: "The host, router or segment.")
    var node: String

    package init() {}

    package func run() throws {
        let shell = getenv("SHELL").map { String(cString: $0) } ?? ""
        let program = !shell.isEmpty && access(shell, X_OK) == 0 ? shell : "/bin/sh"
        try enter(node, of: try lab.state(), program: program, arguments: [])
    }
}

/// Becomes the program in the node; returns only to throw.
private func enter(_ name: String, of state: LabState, program: String, arguments: [String])
    throws(CommandFailure)
{
    let plan = try orFailed(.lab) { () throws(OperationFailure) in try state.readPlan() }
    guard let node = plan.node(name) else {
        let names = plan.nodes.map(\.name).joined(separator: ", ")
        throw CommandFailure(.usage, "lab '\(state.lab)' has no node '\(name)'; it has: \(names)")
    }
    setenv("NATLAB_LAB", state.lab, 1)
    setenv("NATLAB_NODE", name, 1)
    let call = ProgramCall(
        program, arguments, network: NetworkNamespace(node.namespace),
        wireGuardFolder: state.wireGuardFolder(host: name), mountsSys: true)
    do throws(OperationFailure) {
        try call.replaceProcess()
    } catch {
        // The statuses env(1) and shells use, so that scripts can tell the program's own status from its absence.
        Terminal.note("natlab: \(error)")
        exit(error.operation == "run program" ? (error.errno == ENOENT ? 127 : 126) : NatlabExit.lab.rawValue)
    }
}
