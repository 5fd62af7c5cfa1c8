import Glibc
package import LabPlanner
package import SystemCalls
package import WireGuardControl

/// The machine's WireGuard: the kernel's where it has it, else wireguard-go.
package final class SystemWireGuard: WireGuardDriver {
    private var kernelHasIt: Bool?

    package init() {}

    package func resolve(_ wanted: PlannedTunnel.Backend) throws(OperationFailure) -> LabRecord.Backend {
        switch wanted {
        case .userspace: break
        case .kernel:
            guard try isInKernel() else {
                throw OperationFailure(
                    "use WireGuard of the", "kernel", errno: EOPNOTSUPP,
                    detail: "the running kernel has none",
                    mend: "load it with `modprobe wireguard`, or set backend = \"userspace\"")
            }
            return .kernel
        case .auto: if try isInKernel() { return .kernel }
        }
        try WireGuardGo.checkMachine()
        return .userspace
    }

    package func startUserspace(_ tunnels: [PlannedTunnel], in state: LabState) throws(OperationFailure) {
        // What runs goes on when its handle goes.
        _ = try WireGuardGo.startAll(tunnels.map { program(of: $0, in: state) })
    }

    package func transport(
        to tunnel: PlannedTunnel, in state: LabState
    ) throws(OperationFailure) -> any WireGuardTransport {
        try WireGuardLocator.inLab(
            interface: tunnel.interface, network: NetworkNamespace(tunnel.namespace),
            folder: state.wireGuardFolder(host: tunnel.host))
    }

    private func program(of tunnel: PlannedTunnel, in state: LabState) -> WireGuardGo {
        let mark = state.wireGuardMark
        return WireGuardGo(
            interface: tunnel.interface, network: NetworkNamespace(tunnel.namespace),
            folder: state.wireGuardFolder(host: tunnel.host),
            log: state.wireGuardLog(host: tunnel.host, interface: tunnel.interface),
            marks: [mark.name: mark.value])
    }

    private func isInKernel() throws(OperationFailure) -> Bool {
        if let kernelHasIt { return kernelHasIt }
        let found = try KernelWireGuard.isAvailable()
        kernelHasIt = found
        return found
    }
}
