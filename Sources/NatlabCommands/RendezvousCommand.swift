package import ArgumentParser
import Glibc
import LabAgent
import RendezvousProtocol
import RendezvousService
import SystemCalls
import WireGuardKeys

/// `natlab rendezvous …`: the server and the client alone, on real machines.
package struct RendezvousCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "rendezvous",
        abstract: "Runs the rendezvous server or client alone, wire-compatible with natpunch-go.",
        subcommands: [ServeCommand.self, JoinCommand.self, BenchCommand.self])

    package init() {}
}

/// `natlab rendezvous serve`.
package struct ServeCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Serves the rendezvous in the foreground, until Ctrl-C.",
        discussion: """
            Clients, natlab's and natpunch-go's, need the host, the port and the public key that is printed. The key \
            file is what `wg genkey` writes.
            """)

    @Option(help: ArgumentHelp("The file with the server's private key.", valueName: "file"))
    var keyFile: String

    @Option(help: "The UDP port to listen on.")
    var port: UInt16

    @Option(
        help: ArgumentHelp(
            "A public key to serve; may be repeated. Without it any key is served.", valueName: "key"))
    var allow: [String] = []

    package init() {}

    package func run() throws {
        var allowed: Set<PublicKey> = []
        for text in allow {
            guard let key = PublicKey(base64: text) else {
                throw CommandFailure(
                    .usage, "--allow '\(text)' is no WireGuard public key (44 characters of base64)")
            }
            allowed.insert(key)
        }
        let key = try readKey()
        try orFailed(.machine) { () throws(OperationFailure) in
            try RendezvousServe(privateKey: key, port: port, allowed: allowed).run { Self.show($0) }
        }
    }

    private func readKey() throws(CommandFailure) -> PrivateKey {
        do throws(OperationFailure) {
            let reading = try KeyFile.readPrivateKey(keyFile)
            if let warning = reading.warning { Terminal.note("warning: \(warning)") }
            return reading.key
        } catch {
            throw CommandFailure(usage: error)
        }
    }

    private static func show(_ report: RendezvousServe.Report) {
        switch report {
        case .serving(let key, let port, let allowed):
            try? Terminal.result("serving on UDP port \(port), public key \(key.base64)")
            Terminal.note(
                allowed.map { "serving \(count($0, "key"))" }
                    ?? "serving ANY key: whoever knows the public key above may register and look up others; see --allow"
            )
        case .event(.registered(let key, let endpoint)):
            Terminal.note("\(key.base64) registered from \(endpoint)")
        case .event(.moved(let key, let former, let present)):
            Terminal.note("\(key.base64) moved from \(former) to \(present)")
        case .event(.expired(let key)): Terminal.note("\(key.base64) expired")
        case .ended(let counters, let failures):
            Terminal.note(
                "ended: \(counters.handshakes) handshakes, \(counters.found) lookups found, \(counters.notFound) not found,"
                    + " \(failures) answers not sent")
        }
    }
}

/// `natlab rendezvous join`.
package struct JoinCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "join",
        abstract: "Finds the peers of a WireGuard interface through a rendezvous, until Ctrl-C.",
        discussion: """
            Works with natlab's server and with natpunch-go's, for interfaces of the kernel and of wireguard-go. Needs \
            root: it sends from WireGuard's own port.
            """)

    @Option(help: ArgumentHelp("The rendezvous server.", valueName: "host:port"))
    var server: String

    @Option(help: ArgumentHelp("The server's public key.", valueName: "key"))
    var serverKey: String

    @Option(help: "The WireGuard interface whose peers to find.")
    var interface: String

    @Flag(
        help: """
            Take a server and endpoints inside the tunnel too, and give WireGuard every endpoint untried, as \
            natpunch-go's client does; to see what comes of it (docs/not-found.md).
            """)
    var unsafeEndpoints = false

    package init() {}

    package func run() throws {
        guard let name = ServerName(server) else {
            throw CommandFailure(.usage, "--server takes HOST:PORT, not '\(server)'")
        }
        guard let key = PublicKey(base64: serverKey) else {
            throw CommandFailure(
                .usage, "--server-key '\(serverKey)' is no WireGuard public key (44 characters of base64)")
        }
        try requireRoot()
        if unsafeEndpoints {
            Terminal.note("warning: every endpoint is taken untried, also one inside the tunnel")
        }
        try orFailed(.machine) { () throws(OperationFailure) in
            try RendezvousJoin(
                server: name, serverKey: key, interface: interface, takesUnsafeEndpoints: unsafeEndpoints
            ).run { Self.show($0) }
        }
    }

    private static func show(_ report: RendezvousJoin.Report) {
        switch report {
        case .joining(let key, let interface, let server):
            Terminal.note("joining \(server) with \(interface), public key \(key.base64)")
        case .event(let event):
            var line = "\(RFC3339.text(Int64(clamping: event.time)))  \(event.kind.rawValue)"
            if let peer = event.peer { line += "  \(peer.base64)" }
            if let endpoint = event.endpoint { line += "  \(endpoint)" }
            if !event.text.isEmpty { line += "  \(event.text)" }
            try? Terminal.result(line)
        case .ended(let snapshot):
            let connected = snapshot.peers.count { $0.phase == .connected }
            Terminal.note("ended: \(connected) of \(count(snapshot.peers.count, "peer")) connected")
        }
    }
}

/// `natlab rendezvous bench`: prints what the server's core does a second; docs quote it.
package struct BenchCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Measures the rendezvous server's core on this machine.",
        shouldDisplay: false)

    package init() {}

    package func run() throws {
        let result = try orFailed { () throws(OperationFailure) in try RendezvousBenchmark.run() }
        try Terminal.result(Terminal.json(result))
    }
}
