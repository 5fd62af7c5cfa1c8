import FoundationEssentials
import Glibc
import SystemCalls
import TestSupport
import Testing

/// Two homes and a server, made with the tools of iproute2 and iptables, for natlab's commands on "real machines".
///
///     hub 203.0.113.10, .11 ---- net (a bridge) ---- home-a 203.0.113.20 | 192.168.1.1 ---- a 192.168.1.2
///                                  |
///                                  +---------------- home-b 203.0.113.21 | 192.168.1.1 ---- b 192.168.1.2
///
/// Each home is MASQUERADE, and drops what it has not asked for.
final class TwoHomes {
    let hub: NetworkNamespace
    let a: NetworkNamespace
    let b: NetworkNamespace
    let folder: String
    let cleanup: Cleanup

    init(_ cleanup: Cleanup) throws {
        self.cleanup = cleanup
        let id = uniqueName("real")
        func make(_ name: String) throws -> NetworkNamespace { try cleanup.namespace("\(id).\(name)") }
        let net = try make("net")
        hub = try make("hub")
        a = try make("a")
        b = try make("b")
        folder = try cleanup.folder()
        func ip(_ node: NetworkNamespace, _ words: String) throws {
            try tool("ip", ["-n", node.name] + words.split(separator: " ").map(String.init))
        }
        func link(_ node: NetworkNamespace, _ name: String, to other: NetworkNamespace, _ far: String) throws
        {
            try ip(node, "link add \(name) type veth peer name \(far) netns \(other.name)")
            try ip(node, "link set \(name) up")
            try ip(other, "link set \(far) up")
        }
        try ip(net, "link add br0 type bridge")
        try ip(net, "link set br0 up")
        try tool(in: net.name, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
        try link(hub, "eth0", to: net, "p0")
        try ip(net, "link set p0 master br0")
        try ip(hub, "addr add 203.0.113.10/24 dev eth0")
        try ip(hub, "addr add 203.0.113.11/24 dev eth0")
        for (number, host) in [a, b].enumerated() {
            let home = try make(number == 0 ? "home-a" : "home-b")
            try link(home, "wan0", to: net, "p\(number + 1)")
            try ip(net, "link set p\(number + 1) master br0")
            try ip(home, "addr add 203.0.113.2\(number)/24 dev wan0")
            try link(home, "lan0", to: host, "eth0")
            try ip(home, "addr add 192.168.1.1/24 dev lan0")
            try ip(host, "addr add 192.168.1.2/24 dev eth0")
            try ip(host, "route add default via 192.168.1.1")
            try tool(in: home.name, "sysctl", "-qw", "net.ipv4.ip_forward=1")
            let unasked = ["-i", "wan0", "-m", "conntrack", "--ctstate", "NEW,INVALID", "-j", "DROP"]
            for rule in [
                ["-t", "nat", "-A", "POSTROUTING", "-o", "wan0", "-j", "MASQUERADE"],
                ["-A", "INPUT"] + unasked, ["-A", "FORWARD"] + unasked,
            ] {
                try tool("ip", ["netns", "exec", home.name, "iptables"] + rule)
            }
        }
    }

    // MARK: Programs

    /// `natlab …` in a host, by way of `ip netns exec`, until the test ends.
    func natlab(in host: NetworkNamespace, _ arguments: String...) throws -> Background {
        try Background(
            ProgramCall("ip", ["netns", "exec", host.name, Natlab.binary] + arguments), folder, cleanup)
    }

    /// `natlab …` in a host to its end.
    func run(in host: NetworkNamespace, _ arguments: String...) throws -> ProgramCall.Output {
        try ProgramCall("ip", ["netns", "exec", host.name, Natlab.binary] + arguments).run()
    }

    /// `natlab rendezvous serve` on the hub's port 1234, answering.
    func serve(_ key: KeyPair, allow: [String] = []) throws -> Background {
        let server = try Background(
            ProgramCall(
                "ip",
                [
                    "netns", "exec", hub.name, Natlab.binary, "rendezvous", "serve", "--key-file", key.file,
                    "--port", "1234",
                ] + allow.flatMap { ["--allow", $0] }), folder, cleanup)
        try #require(
            try server.waits(for: "serving on UDP port 1234, public key \(key.publicKey)\n"),
            "\(server.output)\(server.error)")
        return server
    }

    /// `natlab rendezvous join` for the host's own wg0.
    func join(_ host: NetworkNamespace, serverKey: String, server: String = "203.0.113.10:1234") throws
        -> Background
    {
        try Background(inside(host, Natlab.binary, Self.joinArguments(serverKey, server)), folder, cleanup)
    }

    static func joinArguments(
        _ key: String, _ server: String = "203.0.113.10:1234", _ interface: String = "wg0"
    )
        -> [String]
    {
        ["rendezvous", "join", "--server", server, "--server-key", key, "--interface", interface]
    }

    /// A program that sees the host's wireguard-go as its machine's own.
    func inside(_ host: NetworkNamespace, _ program: String, _ arguments: [String]) -> ProgramCall {
        ProgramCall(program, arguments, network: host, wireGuardFolder: "\(folder)/\(host.name)")
    }

    /// The independent implementation of natpunch-go's protocol.
    func witness(in host: NetworkNamespace, _ key: KeyPair, _ arguments: String...) throws -> Background {
        let script = "\(Natlab.checkout)/Tests/RendezvousPrivilegedTests/Witness/natpunch_peer.py"
        // The test's own key, made for this run; a real one would never go into an environment.
        return try Background(
            ProgramCall(
                "/usr/bin/python3", [script] + arguments,
                environment: ["NATPUNCH_KEY": try hex(key.privateKey), "PATH": "/usr/bin:/bin"], network: host
            ),
            folder, cleanup)
    }

    // MARK: WireGuard

    /// A key pair as users make it; the private one in a file of its own, mode 0600.
    func keyPair() throws -> KeyPair {
        let made = try ProgramCall("wg", ["genkey"]).run()
        let derived = try ProgramCall("wg", ["pubkey"]).run(input: Array(made.output.utf8))
        try #require(made.status.isSuccess && derived.status.isSuccess)
        let file = "\(folder)/\(uniqueName("key"))"
        try Files.writeAtomically(file, Array(made.output.utf8), mode: 0o600)
        func line(_ text: String) -> String { String(text.prefix { $0 != "\n" }) }
        return KeyPair(privateKey: line(made.output), publicKey: line(derived.output), file: file)
    }

    /// wireguard-go's wg0, without any key.
    func bareTunnel(_ host: NetworkNamespace) throws {
        let mountPoint = "/run/wireguard"
        if try Files.makeFolder(mountPoint, mode: 0o755) {
            cleanup.add(mountPoint) { Files.removeEmptyFolder(mountPoint) }
        }
        try Files.makeFolder("\(folder)/\(host.name)", mode: 0o700)
        var call = inside(host, "wireguard-go", ["wg0"])
        call.environment = [
            "WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "verbose", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        ]
        let program = try Background(call, folder, cleanup)
        // Not by asking wg(8) again and again: it unlinks a socket that is bound but does not listen yet, which ends
        // wireguard-go.
        try #require(try program.waits(for: "UAPI listener started"), "\(program.output)\(program.error)")
    }

    /// wireguard-go's wg0 at this address, up on port 51820, with one peer and no endpoint for it.
    func tunnel(
        _ host: NetworkNamespace, _ key: KeyPair, at address: String, peer: KeyPair, at peerAddress: String
    )
        throws
    {
        try bareTunnel(host)
        let set = try inside(
            host, "wg",
            [
                "set", "wg0", "private-key", key.file, "listen-port", "51820", "peer", peer.publicKey,
                "allowed-ips", "\(peerAddress)/32",
            ]
        ).run()
        try #require(set.status.isSuccess, "\(set.error)")
        try tool("ip", "-n", host.name, "addr", "add", "\(address)/24", "dev", "wg0")
        try tool("ip", "-n", host.name, "link", "set", "wg0", "up")
    }

    /// What `wg show wg0 endpoints` says: "KEY<tab>ADDRESS:PORT".
    func endpoints(_ host: NetworkNamespace) throws -> String {
        try inside(host, "wg", ["show", "wg0", "endpoints"]).run().output
    }
}

/// WireGuard keys in base64.
struct KeyPair {
    var privateKey: String
    var publicKey: String
    var file: String
}

/// A key as the witness takes and says it.
func hex(_ key: String) throws -> String {
    let digits = Array("0123456789abcdef")
    return try #require(Data(base64Encoded: key)).map { byte in
        String([digits[Int(byte >> 4)], digits[Int(byte & 15)]])
    }.joined()
}
