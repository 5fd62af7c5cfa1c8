import LabAgent
import LabPlanner
import LinuxLab
import SystemCalls
import WireGuardControl
import WireGuardKeys

/// A running lab as the commands see it: its plan, its record, the ways to its interfaces.
struct LabView {
    let state: LabState
    let plan: LabPlan
    let record: LabRecord

    /// wireguard-go answers in about a millisecond.
    private static let patience = Duration.milliseconds(500)

    init(_ state: LabState) throws(CommandFailure) {
        self.state = state
        plan = try orFailed(.lab) { () throws(OperationFailure) in try state.readPlan() }
        record = try orFailed(.lab) { () throws(OperationFailure) in try state.readRecord() }
    }

    func publicKey(host: String, interface: String) throws(OperationFailure) -> PublicKey {
        try state.readPublicKey(host: host, interface: interface)
    }

    /// The way to an interface, by what `up` made it.
    ///
    /// A dead wireguard-go takes its socket along, and must not be taken for an interface of the kernel. One that is
    /// stuck is given up soon: there are others to look at.
    func transport(to tunnel: PlannedTunnel) throws(OperationFailure) -> any WireGuardTransport {
        let network = NetworkNamespace(tunnel.namespace)
        if record.backend(host: tunnel.host, interface: tunnel.interface) == .kernel {
            return try KernelWireGuard(interface: tunnel.interface, in: network)
        }
        return UserspaceWireGuard(
            interface: tunnel.interface,
            path: "\(state.wireGuardFolder(host: tunnel.host))/\(tunnel.interface).sock",
            namespace: network.name, timeout: Self.patience)
    }

    /// The agent's status; nil where the lab has no rendezvous.
    func agentStatus() throws(OperationFailure) -> AgentStatus? {
        plan.rendezvous == nil ? nil : try AgentStatus.ask(state.agentSocket)
    }
}
