import FoundationEssentials
import Glibc
import LabPlanner
package import LinuxLab
import Logging
import NetAddress
import RendezvousProtocol
import RendezvousService
package import SystemCalls
import WireGuardControl
import WireGuardKeys

/// The lab's one long-running process: the rendezvous server and every client, in one event loop.
///
/// It stays in the machine's own namespace; its sockets belong to those of the lab. Nothing that a datagram, a vanished
/// interface, a dead child or a full disk does ends it.
package final class LabAgent {
    private let state: LabState
    private let plan: LabPlan
    private let loop: EventLoop
    private let log: Logger
    private let server: ServerDriver
    private var clients: [AgentClient] = []

    /// Serves until SIGTERM or SIGINT; told to `up` through the ready descriptor once all sockets are open.
    package static func run(_ state: LabState) throws(OperationFailure) {
        let agent = try LabAgent(state)
        let socket = try ControlSocket(state.agentSocket, loop: agent.loop) { [unowned agent] in
            agent.statusDocument()
        }
        agent.reportReady()
        try agent.loop.run()
        agent.log.info("ended")
        _ = consume socket
    }

    private init(_ state: LabState) throws(OperationFailure) {
        self.state = state
        plan = try state.readPlan()
        guard let rendezvous = plan.rendezvous else {
            throw OperationFailure("start agent of", state.lab, detail: "its plan has no rendezvous")
        }
        let file = try AgentLogFile("\(state.logsFolder)/agent.log")
        log = Logger(label: "natlab.agent") { _ in AgentLogHandler(file) }
        let loop = try EventLoop()
        self.loop = loop
        try loop.handleSignals([SIGINT, SIGTERM]) { [unowned loop] _ in loop.stop() }

        let keys = try AgentKeys(plan, state)
        let names = keys.names
        let serverKey = PrivateKey.generate()
        let server = try RendezvousServer(
            privateKey: serverKey, options: ServerOptions(allowed: Set(names.keys)), random: Randomness.fill)
        let log = log
        let host = rendezvous.host
        server.onEvent = { Self.report($0, host: host, names: names, to: log) }
        let flags = Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let socket = try NetworkNamespace(rendezvous.namespace).socket(domain: AF_INET, type: flags)
        self.server = try ServerDriver(server: server, socket: socket, port: rendezvous.port, loop: loop)
        log.info("serving", metadata: ["host": "\(host)", "endpoint": "\(rendezvous.endpoint)"])

        let blake = try Blake2s()
        for planned in rendezvous.clients {
            guard let tunnel = plan.tunnel(host: planned.host, interface: planned.interface) else { continue }
            let setup = AgentClient.Setup(
                tunnel: tunnel, state: state, server: planned.endpoint ?? rendezvous.endpoint,
                serverKey: try Self.serverKey(planned) ?? server.publicKey, keys: keys, blake: blake,
                loop: loop, log: log, startDelay: planned.startDelay,
                networks: plan.tunnels.map(\.address.network))
            clients.append(try AgentClient(setup))
        }
        for client in clients {
            try client.start(loop: loop) { failure in
                log.error("client-failed", metadata: ["text": "\(failure)"])
            }
        }
    }

    /// What the plan tells this client of the server's key; nil for the real one.
    private static func serverKey(_ planned: PlannedClient) throws(OperationFailure) -> PublicKey? {
        guard let text = planned.serverKey else { return nil }
        guard let key = PublicKey(base64: text) else {
            throw OperationFailure(
                "start client of", "\(planned.host).\(planned.interface)",
                detail: "'\(text)' in its plan is no public key")
        }
        return key
    }

    private func reportReady() {
        var byte = AgentProcess.readyByte
        _ = write(AgentProcess.readyDescriptor, &byte, 1)
        close(AgentProcess.readyDescriptor)
    }

    private func statusDocument() -> [UInt8] {
        let status = AgentStatus(
            pid: getpid(), server: server.snapshot(), clients: clients.map { $0.status() })
        // Nothing in it can fail to be encoded; an empty answer would be told as one that is not natlab's.
        return (try? JSONEncoder().encode(status)).map { Array($0) } ?? []
    }

    private static func report(_ event: ServerEvent, host: String, names: [PublicKey: String], to log: Logger)
    {
        let name = { (key: PublicKey) in names[key] ?? key.base64 }
        switch event {
        case .registered(let key, let endpoint):
            log.info(
                "server-registered",
                metadata: ["host": "\(host)", "peer": "\(name(key))", "endpoint": "\(endpoint)"])
        case .moved(let key, let former, let present):
            log.info(
                "server-moved",
                metadata: [
                    "host": "\(host)", "peer": "\(name(key))", "endpoint": "\(present)",
                    "text": "was \(former)",
                ])
        case .expired(let key):
            log.info("server-expired", metadata: ["host": "\(host)", "peer": "\(name(key))"])
        }
    }
}

/// The lab's keys as `up` has left them.
struct AgentKeys {
    /// HOST by public key.
    let names: [PublicKey: String]
    private let byTunnel: [String: PublicKey]

    init(_ plan: LabPlan, _ state: LabState) throws(OperationFailure) {
        var names: [PublicKey: String] = [:]
        var byTunnel: [String: PublicKey] = [:]
        for tunnel in plan.tunnels {
            let key = try state.readPublicKey(host: tunnel.host, interface: tunnel.interface)
            names[key] = tunnel.host
            byTunnel["\(tunnel.host).\(tunnel.interface)"] = key
        }
        self.names = names
        self.byTunnel = byTunnel
    }

    func key(host: String, interface: String) -> PublicKey? { byTunnel["\(host).\(interface)"] }
}
