import Glibc
package import RendezvousProtocol
package import SystemCalls
package import WireGuardKeys

/// `natlab rendezvous serve`: the server alone, in the foreground, until SIGINT or SIGTERM.
package struct RendezvousServe {
    package var privateKey: PrivateKey
    /// 0 lets the kernel choose.
    package var port: UInt16
    /// Empty: any key is served.
    package var allowed: Set<PublicKey>

    package init(privateKey: PrivateKey, port: UInt16, allowed: Set<PublicKey>) {
        self.privateKey = privateKey
        self.port = port
        self.allowed = allowed
    }

    /// What happens, for the command to print.
    package enum Report: Sendable {
        /// Once, when datagrams are answered: the public key that clients need, the port, and how many keys are served.
        case serving(publicKey: PublicKey, port: UInt16, allowed: Int?)
        case event(ServerEvent)
        /// At the end.
        case ended(ServerCounters, sendFailures: UInt64)
    }

    /// Serves until it is told to stop.
    ///
    /// Throws EADDRINUSE when the port is taken, or when the socket or the event loop fail.
    package func run(report: @escaping (Report) -> Void) throws(OperationFailure) {
        let loop = try EventLoop()
        try loop.handleSignals([SIGINT, SIGTERM]) { [unowned loop] _ in loop.stop() }
        let server = try RendezvousServer(
            privateKey: privateKey, options: ServerOptions(allowed: allowed.isEmpty ? nil : allowed),
            random: Randomness.fill)
        server.onEvent = { report(.event($0)) }
        let file = socket(AF_INET, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard file >= 0 else { throw OperationFailure("open socket", "UDP", errno: errno) }
        let driver = try ServerDriver(
            server: server, socket: Descriptor(adopting: file), port: port, loop: loop)
        report(
            .serving(
                publicKey: server.publicKey, port: driver.port, allowed: allowed.isEmpty ? nil : allowed.count
            ))
        try loop.run()
        report(.ended(server.counters, sendFailures: driver.sendFailures))
    }
}
