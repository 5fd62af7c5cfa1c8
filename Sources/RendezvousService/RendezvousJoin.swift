import Glibc
import NetAddress
package import RendezvousProtocol
package import SystemCalls
import WireGuardControl
package import WireGuardKeys

/// `natlab rendezvous join`: the client alone, for a WireGuard interface of this machine, until SIGINT or SIGTERM.
///
/// The key is the interface's own, its peers are read again and again; both kinds of WireGuard will do.
package struct RendezvousJoin {
    package var server: ServerName
    package var serverKey: PublicKey
    package var interface: String
    /// See `ClientOptions.takesUnsafeEndpoints`.
    package var takesUnsafeEndpoints: Bool

    package init(
        server: ServerName, serverKey: PublicKey, interface: String, takesUnsafeEndpoints: Bool = false
    ) {
        self.server = server
        self.serverKey = serverKey
        self.interface = interface
        self.takesUnsafeEndpoints = takesUnsafeEndpoints
    }

    /// What happens, for the command to print.
    package enum Report: Sendable {
        case joining(publicKey: PublicKey, interface: String, server: String)
        case event(ClientEvent)
        /// At the end.
        case ended(ClientSnapshot)
    }

    /// Runs until it is told to stop.
    ///
    /// Throws when the interface, the sockets or the event loop fail at the start.
    package func run(report: @escaping (Report) -> Void) throws(OperationFailure) {
        let transport = try WireGuardLocator.onMachine(interface: interface)
        guard let holder = transport as? any PrivateKeyHolder, let key = try holder.readPrivateKey() else {
            throw OperationFailure(
                "join rendezvous", interface, detail: "the interface has no private key",
                mend: "set one: wg set \(interface) private-key FILE")
        }
        let loop = try EventLoop()
        try loop.handleSignals([SIGINT, SIGTERM]) { [unowned loop] _ in loop.stop() }
        var options = ClientOptions()
        options.tunnelPrefixes = Self.addresses(of: interface)
        options.takesUnsafeEndpoints = takesUnsafeEndpoints
        let client = RendezvousClient(
            privateKey: key, serverKey: serverKey, options: options, blake: try Blake2s(),
            random: Randomness.fill)
        var resolver: BackgroundResolver?
        let driver = try ClientDriver(
            client: client, sockets: try ClientSockets.open(in: nil), transport: transport, loop: loop,
            resolve: { resolver?.ask() }, sink: { report(.event($0)) })
        resolver = BackgroundResolver(server, loop: loop) { [unowned driver] result in
            switch result {
            case .success(let endpoint): driver.serverResolved(endpoint)
            case .failure(let failure): driver.serverNotResolved(failure.description)
            }
        }
        report(.joining(publicKey: client.publicKey, interface: interface, server: server.description))
        resolver?.ask()
        try driver.start(server: nil)
        // A name that has no address yet is asked for again.
        func askAgain() {
            loop.schedule(at: .now() + .seconds(5)) {
                if client.server == nil { resolver?.ask() }
                askAgain()
            }
        }
        askAgain()
        try loop.run()
        driver.stop()
        report(.ended(driver.snapshot()))
        resolver = nil
    }

    /// The IPv4 networks of an interface's own addresses.
    ///
    /// The corresponding C function is `getifaddrs`.
    static func addresses(of interface: String) -> [IPPrefix] {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&list) == 0, let first = list else { return [] }
        defer { freeifaddrs(first) }
        var result: [IPPrefix] = []
        var entry: UnsafeMutablePointer<ifaddrs>? = first
        while let current = entry {
            defer { entry = current.pointee.ifa_next }
            guard String(cString: current.pointee.ifa_name) == interface,
                let address = current.pointee.ifa_addr,
                let mask = current.pointee.ifa_netmask, Int32(address.pointee.sa_family) == AF_INET
            else { continue }
            func bits(_ pointer: UnsafeMutablePointer<sockaddr>) -> UInt32 {
                pointer.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
                    UInt32(bigEndian: $0.pointee.sin_addr.s_addr)
                }
            }
            if let prefix = IPPrefix(IPAddress(v4: bits(address)), length: bits(mask).nonzeroBitCount) {
                result.append(prefix)
            }
        }
        return result
    }
}
