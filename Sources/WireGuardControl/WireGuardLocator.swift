import Glibc
package import SystemCalls

/// Finds the way to an interface: the kernel's WireGuard or a program behind a socket.
package enum WireGuardLocator {
    /// The interface of a lab's host, whose folder for sockets is `folder` (STATE/hosts/HOST/wg).
    ///
    /// The socket's file decides: natlab gives the folder sockets only where the interface is wireguard-go's. It stays
    /// when the program is killed, so that the failure of a dead one is told as that. EOPNOTSUPP: neither kind.
    package static func inLab(
        interface: String, network: NetworkNamespace, folder: String, timeout: Duration = .seconds(5)
    ) throws(OperationFailure) -> any WireGuardTransport {
        let program = socketPath(interface, folder)
        if Files.exists(program) {
            return UserspaceWireGuard(
                interface: interface, path: program, namespace: network.name, timeout: timeout)
        }
        return try KernelWireGuard(interface: interface, in: network)
    }

    /// An interface of this machine itself, outside any lab: the kernel's, else the one behind /run/wireguard.
    ///
    /// Throws ENODEV when there is neither, EPERM without CAP_NET_ADMIN.
    package static func onMachine(
        interface: String, folder: String = WireGuardGo.mountPoint
    ) throws(OperationFailure) -> any WireGuardTransport {
        do throws(OperationFailure) {
            let kernel = try KernelWireGuard(interface: interface, in: nil)
            _ = try kernel.read()
            return kernel
        } catch {
            // No WireGuard in the kernel, no such interface, or one of another kind (wireguard-go's is a TUN).
            guard [EOPNOTSUPP, ENODEV].contains(error.errno) else { throw error }
        }
        let program = socketPath(interface, folder)
        guard Files.exists(program) else {
            throw OperationFailure(
                "find WireGuard interface", interface, errno: ENODEV,
                detail: "the kernel has no such WireGuard interface, and there is no \(program)",
                mend: "set it up first, for instance with `wg-quick up \(interface)`")
        }
        return UserspaceWireGuard(interface: interface, path: program)
    }

    private static func socketPath(_ interface: String, _ folder: String) -> String {
        "\(folder)/\(interface).sock"
    }
}
