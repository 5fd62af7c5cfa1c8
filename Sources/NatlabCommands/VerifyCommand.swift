package import ArgumentParser
import Glibc
import LabAgent
import LabPlanner
import LinuxLab
import NetAddress
import PeeringCheck
import RendezvousProtocol
import SystemCalls
import WireGuardControl
import WireGuardKeys

/// `natlab verify`: proves for each pair of WireGuard peers whether they reach each other directly.
package struct VerifyCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Proves which WireGuard peers reach each other directly, and says why not.",
        discussion: """
            Direct means: echoes through the tunnel both ways now, counted by WireGuard for this very peer; a handshake \
            newer than this `up` and under 180 s old; an endpoint that belongs to the peer or a NAT in front of it. \
            No session is reset for it. Exit status: 0 all as expected, 1 not.
            """)

    @OptionGroup var lab: LabOptions

    @Option(help: "Seconds to wait for pairs that are not connected yet.")
    var timeout: Double = 20

    @Flag(help: "Print the result as JSON (see docs/json.md).")
    var json = false

    @Option(help: ArgumentHelp("Also write the result as JUnit XML.", valueName: "file"))
    var junit: String?

    package init() {}

    package func validate() throws {
        guard timeout > 0, timeout <= 3600 else {
            throw ValidationError("--timeout takes seconds, above 0 and up to 3600.")
        }
    }

    package func run() throws {
        let view = try LabView(lab.state())
        let report = try verify(view)
        try Terminal.result(json ? Terminal.json(report) : VerifyText(report).text)
        // After the verdict, which is worth more than the file.
        if let junit {
            try orFailed(.machine) { () throws(OperationFailure) in try JUnitDocument(report).write(to: junit)
            }
        }
        guard report.ok else { throw CommandFailure(.verdict, "") }
    }

    private func verify(_ view: LabView) throws(CommandFailure) -> VerifyReport {
        let agent = AgentWatch(view)
        var tunnels: [TunnelAccess] = []
        var sockets: [Int32] = []
        defer { for socket in sockets { close(socket) } }
        for tunnel in view.plan.tunnels {
            try orFailed(.lab) { () throws(OperationFailure) in
                let socket = try EchoSocket.open(in: tunnel)
                if let socket { sockets.append(socket) }
                tunnels.append(
                    TunnelAccess(
                        tunnel: tunnel,
                        publicKey: try view.publicKey(host: tunnel.host, interface: tunnel.interface),
                        transport: try view.transport(to: tunnel), echoSocket: socket ?? -1))
            }
        }
        let progress = ProgressLine(total: view.plan.pairs.count, "verifying \(view.plan.lab)")
        let verifier = Verifier(
            plan: view.plan, builtAt: WallTime(nanoseconds: view.record.started), tunnels: tunnels,
            words: { agent.words(host: $0, interface: $1) })
        let pairs = verifier.run(timeout: .milliseconds(Int64(timeout * 1000))) { decided, _ in
            progress.show(decided)
        }
        progress.clear()
        return VerifyReport(lab: view.plan.lab, pairs: pairs, problems: agent.problems())
    }

    static func seconds(_ value: Double) -> String { "\(Int(value.rounded())) s" }

    /// With one decimal below 100.
    static func milliseconds(_ value: Double) -> String {
        guard value < 100 else { return "\(Int(value.rounded())) ms" }
        let tenths = Int((value * 10).rounded())
        return "\(tenths / 10).\(tenths % 10) ms"
    }
}

/// The agent as verify listens to it: asked rarely, remembered in between.
private final class AgentWatch {
    private let view: LabView
    private var last: Result<AgentStatus?, OperationFailure>
    private var asked: MonotonicTime

    init(_ view: LabView) {
        self.view = view
        last = Self.ask(view)
        asked = .now()
    }

    private static func ask(_ view: LabView) -> Result<AgentStatus?, OperationFailure> {
        do throws(OperationFailure) { return .success(try view.agentStatus()) } catch {
            return .failure(error)
        }
    }

    private func refresh(after age: Duration) {
        guard MonotonicTime.now() - asked > age else { return }
        last = Self.ask(view)
        asked = .now()
    }

    func words(host: String, interface: String) -> [PublicKey: ClientWord] {
        refresh(after: .milliseconds(200))
        guard case .success(let status) = last,
            let client = status?.clients.first(where: { $0.host == host && $0.interface == interface })
        else { return [:] }
        return Dictionary(
            client.peers.map { peer in
                (
                    peer.publicKey,
                    ClientWord(
                        attempts: peer.attempts,
                        cannotTry: !client.isHealthy
                            || [.unknownToServer, .endpointRefused].contains(peer.phase)
                                && peer.lookups >= PairJudge.attemptsForNone,
                        says: client.isHealthy ? peer.says : client.says, clientUp: client.up,
                        firstHandshake: peer.firstHandshake)
                )
            }, uniquingKeysWith: { first, _ in first })
    }

    /// What is broken now, each as a sentence.
    func problems() -> [String] {
        refresh(after: .zero)
        switch last {
        case .failure(let failure):
            return [
                "the agent of lab '\(view.plan.lab)' (rendezvous server and clients) does not answer: \(failure)"
            ]
        case .success(nil): return []
        case .success(let status?):
            return status.clients.filter { !$0.isHealthy }.map {
                "the rendezvous client of \($0.host) (\($0.interface)): \($0.says)"
            }
        }
    }
}
