package import ArgumentParser
import Glibc
import LabAgent
import LinuxLab
import SystemCalls

/// What `up` runs as the lab's agent; not for people.
package struct AgentCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: AgentProcess.subcommand, abstract: "The agent of a lab; started by `up`.",
        shouldDisplay: false)

    @Argument var root: String
    @Argument var lab: String

    package init() {}

    package func run() throws {
        do throws(OperationFailure) {
            try LabAgent.run(LabRoot(root).state(of: lab))
        } catch { throw CommandFailure(error) }
    }
}
