package import ArgumentParser
import Glibc
import SystemCalls

/// The root of the command line.
package struct NatlabCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "natlab",
        abstract: "Builds a lab of NATed WireGuard hosts on this machine and says who can reach whom.",
        discussion: """
            One TOML file describes hosts, NAT routers and WireGuard networks; natlab makes network namespaces, NAT \
            rules and WireGuard interfaces of it, punches the holes, and measures the result.

              natlab init quickstart     write an example topology here
              natlab up quickstart.toml  build it (needs root)
              natlab verify              prove who reaches whom
              natlab why alpine1 alpine2 say why two hosts do or do not reach each other
              natlab down                remove everything

            Exit status: 0 as expected; 1 a verdict that is not; 2 the topology or the command line is wrong; 3 the \
            machine lacks something; 4 the lab is missing, busy or half-built; 70 a defect of natlab.
            """,
        version: natlabVersion,
        subcommands: [
            InitCommand.self, CheckCommand.self, PlanCommand.self, UpCommand.self, VerifyCommand.self,
            WhyCommand.self, NATCommand.self, MatrixCommand.self, StatusCommand.self, ListCommand.self,
            ExecCommand.self,
            ShellCommand.self, CaptureCommand.self, LogsCommand.self,
            DownCommand.self, DoctorCommand.self, RendezvousCommand.self, AgentCommand.self,
        ])

    package init() {}
}

package let natlabVersion = "0.1.0"

/// Parses the command line, runs the command, and ends the process with the promised status.
package func runNatlab() -> Never {
    Descriptor.occupyStandardOnes()
    // A reader that goes away (`natlab status | head`) is told by EPIPE, not by a signal: `up` has to come to its end.
    InheritedSignals.ignoreBrokenPipes()
    do {
        var command = try NatlabCommand.parseAsRoot()
        try command.run()
        exit(NatlabExit.asExpected.rawValue)
    } catch let failure as CommandFailure {
        if !failure.message.isEmpty { Terminal.note("natlab: " + failure.message) }
        exit(failure.status.rawValue)
    } catch let code as ExitCode {
        exit(code.rawValue)
    } catch {
        // ArgumentParser's own: help and version (0), or a wrong command line (its 64 is our 2).
        let text = NatlabCommand.fullMessage(for: error)
        if NatlabCommand.exitCode(for: error) == .success {
            if (try? Terminal.result(text)) == nil { exit(NatlabExit.machine.rawValue) }
            exit(NatlabExit.asExpected.rawValue)
        }
        Terminal.note(text)
        exit(
            NatlabCommand.exitCode(for: error) == .validationFailure
                ? NatlabExit.usage.rawValue : NatlabExit.defect.rawValue)
    }
}
