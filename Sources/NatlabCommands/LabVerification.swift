import Glibc
import LabAgent
import LabPlanner
import LinuxLab
import PeeringCheck
import RendezvousProtocol
import SystemCalls
import WireGuardControl
import WireGuardKeys

/// Runs the verifier on a lab that is up: opens what it needs, listens to the agent.
struct LabVerification {
    let view: LabView
    /// Those that are looked at; the plan's, or some of theirs, or two hosts that are no peers there.
    let pairs: [PlannedPair]

    init(view: LabView, pairs: [PlannedPair]? = nil) {
        self.view = view
        self.pairs = pairs ?? view.plan.pairs
    }

    /// - Parameters:
    ///   - timeout: seconds.
    ///   - isCancelled: asked after each change and while waiting; true ends it with what is known.
    func run(timeout: Double, isCancelled: () -> Bool = { false }, progress: (_ decided: Int) -> Void)
        throws(CommandFailure) -> VerifyReport
    {
        let agent = AgentWatch(view)
        let translations = TranslationWatch(view.plan)
        var tunnels: [TunnelAccess] = []
        var sockets: [Int32] = []
        defer { for socket in sockets { close(socket) } }
        let ends = Set(pairs.flatMap { ["\($0.from).\($0.interface)", "\($0.to).\($0.interface)"] })
        for tunnel in view.plan.tunnels where ends.contains("\(tunnel.host).\(tunnel.interface)") {
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
        let verifier = Verifier(
            plan: view.plan, pairs: pairs, builtAt: WallTime(nanoseconds: view.record.started),
            tunnels: tunnels,
            words: { agent.words(host: $0, interface: $1) },
            translation: { translations.translation($0, $1) })
        var verdicts = verifier.run(timeout: .milliseconds(Int64(timeout * 1000)), isCancelled: isCancelled) {
            decided, _ in progress(decided)
        }
        let theory = TraversalTheory(view.plan)
        // Of what is direct nobody asks why; a large mesh has half a million pairs.
        for index in verdicts.indices where verdicts[index].observed == .none || !verdicts[index].ok {
            let pair = verdicts[index]
            verdicts[index].theory = theory.verdict(pair.from, pair.to, interface: pair.interface)
        }
        return VerifyReport(lab: view.plan.lab, pairs: verdicts, problems: agent.problems())
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
            // Who sits behind a router that lets no UDP through is not expected to get any.
            let theory = TraversalTheory(view.plan)
            return status.clients.filter {
                !$0.isHealthy && theory.barrierToRendezvous($0.host, interface: $0.interface) == nil
            }.map { "the rendezvous client of \($0.host) (\($0.interface)): \($0.says)" }
        }
    }
}
