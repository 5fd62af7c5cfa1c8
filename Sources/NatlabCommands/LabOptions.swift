import ArgumentParser
import Glibc
import LinuxLab
import SystemCalls

/// `--lab NAME`, for every command on a lab that is up.
struct LabOptions: ParsableArguments {
    @Option(name: .customLong("lab"), help: "Which lab; needed only when several are up.")
    var name: String?

    /// The complete lab that is meant.
    func state() throws(CommandFailure) -> LabState {
        try requireRoot()
        let root = LabRoot()
        let name = try theName(root)
        return try orFail { () throws(LabFailure) in try root.runningLab(name) }
    }

    /// The name that is meant, of a lab in whatever condition.
    func theName(_ root: LabRoot) throws(CommandFailure) -> String {
        if let name {
            guard LabRoot.isName(name) else { throw CommandFailure(.usage, "'\(name)' is no lab's name") }
            return name
        }
        let labs = try orFail { () throws(LabFailure) in try root.labs() }
        guard let first = labs.first else {
            throw CommandFailure(.lab, "no lab is up here; build one with `natlab up FILE`")
        }
        guard labs.count == 1 else {
            let names = labs.map(\.lab).joined(separator: ", ")
            throw CommandFailure(.usage, "several labs are up (\(names)); say which with --lab NAME")
        }
        return first.lab
    }
}

/// Says that a command needs root before anything fails in a less clear way.
func requireRoot() throws(CommandFailure) {
    guard geteuid() == 0 else {
        throw CommandFailure(
            .machine, "this needs root (network namespaces, iptables, WireGuard): run it with sudo")
    }
}
