import Glibc
import NetAddress
import RendezvousProtocol
import RendezvousService
import SystemCalls
import TestSupport
import Testing
import WireGuardControl
import WireGuardKeys

/// All tests of this target: they use much of the machine, so one after the other.
@Suite(.serialized) enum Privileged {}

/// Two homes on the same LAN prefix, and a server between them.
///
///     hub 203.0.113.10 ---- net (a bridge) ---- home-a 203.0.113.20 | 192.168.1.1 ---- a 192.168.1.2
///                             |
///                             +---------------- home-b 203.0.113.21 | 192.168.1.1 ---- b 192.168.1.2
///
/// Each home is real MASQUERADE with the two drop rules without which it is no faithful NAT.
final class Site {
    let hub: NetworkNamespace
    let a: NetworkNamespace
    let b: NetworkNamespace
    let homeA: NetworkNamespace
    let homeB: NetworkNamespace
    let folder: String
    let loop: EventLoop
    let cleanup: Cleanup
    static let hubAddress = WireAddress(ip: 0xCB00_710A, port: 1234)

    init(_ cleanup: Cleanup) throws {
        self.cleanup = cleanup
        let id = uniqueName("rdv")
        func make(_ name: String) throws -> NetworkNamespace { try cleanup.namespace("\(id).\(name)") }
        let net = try make("net")
        hub = try make("hub")
        homeA = try make("home-a")
        homeB = try make("home-b")
        a = try make("a")
        b = try make("b")
        folder = try cleanup.folder()
        loop = try EventLoop()

        try net.write(sysctls: [("net.ipv4.ip_forward", "0")])
        try tool(in: net.name, "ip", "link", "add", "br0", "type", "bridge")
        try tool(in: net.name, "ip", "link", "set", "br0", "up")
        try connect(hub, "eth0", "203.0.113.10/24", to: net, port: "p0")
        for (home, host, number) in [(homeA, a, 0), (homeB, b, 1)] {
            try connect(home, "wan0", "203.0.113.2\(number)/24", to: net, port: "p\(number + 1)")
            try tool(
                in: host.name, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "lan0", "netns",
                home.name)
            try tool(in: home.name, "ip", "addr", "add", "192.168.1.1/24", "dev", "lan0")
            try tool(in: home.name, "ip", "link", "set", "lan0", "up")
            try tool(in: host.name, "ip", "addr", "add", "192.168.1.2/24", "dev", "eth0")
            try tool(in: host.name, "ip", "link", "set", "eth0", "up")
            try tool(in: host.name, "ip", "route", "add", "default", "via", "192.168.1.1")
            try home.write(sysctls: [("net.ipv4.ip_forward", "1")])
            let state = ["-m", "conntrack", "--ctstate", "NEW,INVALID"]
            for rule in [
                ["-t", "nat", "-A", "POSTROUTING", "-o", "wan0", "-j", "MASQUERADE"],
                ["-A", "INPUT", "-i", "wan0"] + state + ["-j", "DROP"],
                ["-A", "FORWARD", "-i", "wan0"] + state + ["-j", "DROP"],
            ] {
                try tool("ip", ["netns", "exec", home.name, "iptables"] + rule)
            }
        }
    }

    private func connect(
        _ node: NetworkNamespace, _ interface: String, _ address: String, to net: NetworkNamespace,
        port: String
    ) throws {
        try tool(
            in: node.name, "ip", "link", "add", interface, "type", "veth", "peer", "name", port, "netns",
            net.name)
        try tool(in: net.name, "ip", "link", "set", port, "master", "br0", "up")
        try tool(in: node.name, "ip", "addr", "add", address, "dev", interface)
        try tool(in: node.name, "ip", "link", "set", interface, "up")
    }

    /// Runs the loop until the condition holds; whether it does within the time.
    func run(seconds: Double, until condition: () -> Bool) throws -> Bool {
        let deadline = MonotonicTime.now() + .seconds(seconds)
        // The condition may depend on what is not the loop's: look at it every 10 ms at least.
        while try !loop.run(until: min(deadline, .now() + .milliseconds(10)), condition) {
            if MonotonicTime.now() >= deadline { return condition() }
        }
        return true
    }

    // MARK: Server and clients

    func server(key: PrivateKey, allowed: Set<PublicKey>? = nil, port: UInt16 = 1234) throws -> ServerDriver {
        let server = try RendezvousServer(
            privateKey: key, options: ServerOptions(allowed: allowed), random: Randomness.fill)
        let socket = try hub.socket(domain: AF_INET, type: Int32(SOCK_DGRAM.rawValue))
        return try ServerDriver(server: server, socket: socket, port: port, loop: loop)
    }

    func client(
        _ key: PrivateKey, in host: NetworkNamespace, server: PublicKey, transport: any WireGuardTransport,
        options: ClientOptions = ClientOptions()
    ) throws -> TestClient {
        let client = RendezvousClient(
            privateKey: key, serverKey: server, options: options, blake: try Blake2s(),
            random: Randomness.fill)
        return try TestClient(
            client, sockets: try ClientSockets.open(in: host), transport: transport, loop: loop)
    }

    // MARK: WireGuard

    /// wireguard-go with `wg0` at this tunnel address, up, on port 51820.
    func tunnel(
        _ host: NetworkNamespace, key: PrivateKey, address: String, peers: [(key: PublicKey, address: String)]
    ) throws -> UserspaceWireGuard {
        if try Files.makeFolder(WireGuardGo.mountPoint, mode: 0o755) {
            cleanup.add(WireGuardGo.mountPoint) { Files.removeEmptyFolder(WireGuardGo.mountPoint) }
        }
        let settings = WireGuardGo(
            interface: "wg0", network: host, folder: "\(folder)/\(host.name)",
            log: "\(folder)/\(host.name).log")
        let process = try WireGuardGo.startAll([settings])[0]
        cleanup.add("wireguard-go of \(host.name)") { try process.end() }
        let transport = settings.transport()
        try transport.apply(
            WireGuardChange(
                privateKey: key, listenPort: 51820,
                peers: try peers.map { peer in
                    WireGuardPeerChange(
                        publicKey: peer.key, allowedIPs: [try #require(IPPrefix("\(peer.address)/32"))])
                }))
        try tool(in: host.name, "ip", "addr", "add", "\(address)/24", "dev", "wg0")
        try tool(in: host.name, "ip", "link", "set", "wg0", "up")
        return transport
    }
}

/// A client with its events kept.
final class TestClient {
    let driver: ClientDriver
    private let log: Log

    private final class Log { var events: [ClientEvent] = [] }

    init(
        _ client: RendezvousClient, sockets: consuming ClientSockets, transport: any WireGuardTransport,
        loop: EventLoop
    ) throws {
        let log = Log()
        self.log = log
        driver = try ClientDriver(
            client: client, sockets: sockets, transport: transport, loop: loop,
            sink: { log.events.append($0) })
    }

    var events: [ClientEvent] { log.events }
    var standing: ServerStanding { driver.client.standing }
    func start(_ server: WireAddress = Site.hubAddress) throws { try driver.start(server: server.endpoint) }
    func has(_ kind: ClientEvent.Kind) -> Bool { events.contains { $0.kind == kind } }
    func peer(_ key: PublicKey) -> ClientPeerSnapshot? {
        driver.snapshot().peers.first { $0.publicKey == key }
    }
}

/// Stands for WireGuard where only the rendezvous is tested: a bound port that takes everything and says nothing.
final class SilentWireGuard: WireGuardTransport {
    var device: WireGuardDevice
    private(set) var changes: [WireGuardPeerChange] = []
    private let socket: Descriptor

    init(_ host: NetworkNamespace, key: PrivateKey, peers: [PublicKey], port: UInt16 = 51820) throws {
        device = WireGuardDevice(
            interface: "wg0", publicKey: key.publicKey, listenPort: port, firewallMark: 0,
            peers: peers.map { WireGuardPeer(publicKey: $0) })
        socket = try host.socket(domain: AF_INET, type: Int32(SOCK_DGRAM.rawValue))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        let status = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(socket.rawValue, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard status == 0 else { throw OperationFailure("bind", "\(port)", errno: errno) }
    }

    func read() throws(OperationFailure) -> WireGuardDevice { device }

    func apply(_ change: WireGuardChange) throws(OperationFailure) {
        for peer in change.peers {
            changes.append(peer)
            guard let index = device.peers.firstIndex(where: { $0.publicKey == peer.publicKey }) else {
                continue
            }
            if let endpoint = peer.endpoint { device.peers[index].endpoint = endpoint }
            if let keepalive = peer.persistentKeepalive {
                device.peers[index].persistentKeepalive = keepalive
            }
        }
    }
}
