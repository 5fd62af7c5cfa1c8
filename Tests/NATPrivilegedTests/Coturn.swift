import SystemCalls
import TestSupport
import Testing

/// coturn, which answers RFC 5780 where it has two addresses, and its client.
struct Coturn {
    private static let addresses = ["203.0.113.200", "203.0.113.201"]
    private static let ports = [3478, 3479]
    private let lab: Lab

    /// - Parameter server: a host on the internet with the first of the addresses.
    init(_ lab: Lab, server: String, _ cleanup: Cleanup) throws {
        self.lab = lab
        try tool(in: lab.namespace(server), "ip", "addr", "add", "\(Self.addresses[1])/24", "dev", "eth0")
        let folder = try cleanup.folder()
        let server = lab.call(
            server, "turnserver", "-n", "-L", Self.addresses[0], "-L", Self.addresses[1], "--no-tls",
            "--no-dtls", "--no-auth", "--no-cli", "--log-file", "stdout", "--pidfile",
            "\(folder)/turnserver.pid", "--userdb", "\(folder)/turndb")
        let program = try Background(server, folder, cleanup)
        let sockets = Self.addresses.flatMap { address in Self.ports.map { " \(address):\($0) " } }
        let isReady = try waitUntil(timeout: .seconds(isEmulated ? 60 : 20), pause: .milliseconds(20)) {
            () throws(OperationFailure) in
            let listening = try tool("ip", "netns", "exec", lab.namespace("stun"), "ss", "-Huln")
            return sockets.allSatisfy(listening.contains) || !isRunning(program.pid)
        }
        try #require(isReady && isRunning(program.pid), "\(program.output)\(program.error)")
    }

    /// Which mapping and filtering coturn sees from each host.
    func discover(from hosts: [String]) throws -> [Behaviour] {
        let running = try hosts.map { host in
            try lab.call(host, "turnutils_natdiscovery", "-m", "-f", Self.addresses[0]).begin()
        }
        return try running.map { program in
            let output = try program.finish()
            try #require(output.status.isSuccess && output.error.isEmpty, "\(output.error)")
            return try Self.parse(output.output)
        }
    }

    /// Exactly one verdict on each; what natdiscovery says of a timeout or an answer between them is not asked.
    static func parse(_ text: String) throws -> Behaviour {
        let names = ["Endpoint Independent", "Address Dependent", "Address and Port Dependent"]
        func verdict(_ what: String) throws -> Int {
            let verdicts = text.split(separator: "\n").filter {
                $0.hasPrefix("NAT with ") && $0.hasSuffix(" \(what)!")
            }
            try #require(verdicts.count == 1, "\(what): \(text)")
            return try #require(names.firstIndex { verdicts[0] == "NAT with \($0) \(what)!" }, "\(text)")
        }
        return Behaviour(mapping: try verdict("Mapping"), filtering: try verdict("Filtering"))
    }
}
