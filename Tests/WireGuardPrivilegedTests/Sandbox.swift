import Glibc
import NetAddress
import Synchronization
import SystemCalls
import Testing
import WireGuardControl
import WireGuardKeys

/// Namespaces and wireguard-go programs with a random id, all gone when the test is over.
final class Sandbox {
    private let id = String(UInt32.random(in: 0 ... .max), radix: 36)
    private let folder: String
    private let mountPoint: MountPointClaim
    private var networks: [NetworkNamespace] = []
    private var processes: [WireGuardGoProcess] = []

    private init() throws {
        folder = "/run/natlab-test-\(id)"
        try Files.makeFolder(folder, mode: 0o700)
        try Files.makeFolder(NetworkNamespace.directory, mode: 0o755)
        mountPoint = try MountPointClaim(id)
    }

    /// Makes a sandbox, lends it, and takes everything away again, also when `body` throws.
    static func with(_ body: (Sandbox) throws -> Void) throws {
        let sandbox = try Sandbox()
        let result = Result { try body(sandbox) }
        sandbox.remove()
        try result.get()
    }

    /// A namespace with `lo` up and nothing else.
    func network(_ name: String) throws -> NetworkNamespace {
        let network = NetworkNamespace("natlab-test-\(id).\(name)")
        _ = try network.make()
        networks.append(network)
        return network
    }

    /// The settings of a host's wireguard-go in a namespace of its own, not started.
    func host(_ name: String, interface: String = "wg0") throws -> WireGuardGo {
        let own = "\(folder)/\(name)"
        try Files.makeFolder(own, mode: 0o700)
        return WireGuardGo(
            interface: interface, network: try network(name), folder: own, log: "\(own).log")
    }

    /// A host whose wireguard-go is ready.
    func startedHost(_ name: String) throws -> WireGuardGoProcess {
        try #require(try start([try host(name)]).first)
    }

    func start(_ hosts: [WireGuardGo]) throws -> [WireGuardGoProcess] {
        let started = try WireGuardGo.startAll(hosts)
        processes += started
        return started
    }

    /// A namespace with an interface `wg0` of that kind, made and ready.
    func place(_ name: String, _ kind: Kind) throws -> Place {
        let host = try host(name)
        switch kind {
        case .userspace: _ = try start([host])
        case .kernel:
            try run(Place(host), "ip", "link", "add", "wg0", "type", "wireguard")
        }
        let transport = try WireGuardLocator.inLab(
            interface: "wg0", network: host.network, folder: host.folder)
        return Place(network: host.network, folder: host.folder, transport: transport)
    }

    func keep(_ process: WireGuardGoProcess) { processes.append(process) }

    private func remove() {
        for process in processes {
            #expect(throws: Never.self) { try process.end() }
        }
        for network in networks {
            #expect(throws: Never.self) { try network.remove() }
            #expect(!Files.exists(network.path))
        }
        #expect(throws: Never.self) { try Files.removeTree(folder) }
        #expect(!Files.exists(folder))
        #expect(throws: Never.self) { try mountPoint.release() }
    }
}

/// The kinds of WireGuard.
enum Kind: CaseIterable {
    case userspace, kernel

    /// Those that this machine has.
    static let here = allCases.filter { kind in
        switch kind {
        case .userspace: true
        case .kernel: (try? KernelWireGuard.isAvailable()) ?? false
        }
    }
}

/// A host's namespace and its interface `wg0`, of either kind.
struct Place {
    let network: NetworkNamespace
    let folder: String
    let transport: any WireGuardTransport

    init(network: NetworkNamespace, folder: String, transport: any WireGuardTransport) {
        self.network = network
        self.folder = folder
        self.transport = transport
    }

    init(_ host: WireGuardGo) {
        self.init(network: host.network, folder: host.folder, transport: host.transport())
    }
}

/// /run/wireguard, kept there while a sandbox needs it.
///
/// Removing an empty folder succeeds although other mount namespaces have a mount on it, and takes their mounts away
/// (mount_namespaces(7)): so each user puts a file in, and the last one removes the folder if the tests made it.
private struct MountPointClaim {
    private static let made = Mutex(false)
    private let marker: String

    init(_ id: String) throws {
        marker = "\(WireGuardGo.mountPoint)/natlab-test-\(id)"
        while true {
            if try Files.makeFolder(WireGuardGo.mountPoint, mode: 0o755) { Self.made.withLock { $0 = true } }
            do throws(OperationFailure) {
                _ = try Files.open(marker, O_WRONLY | O_CREAT | O_EXCL, mode: 0o600)
                return
            } catch {
                // Another one removed it between the two lines.
                guard error.errno == ENOENT else { throw error }
            }
        }
    }

    func release() throws {
        try Files.remove(marker)
        if Self.made.withLock({ $0 }) { Files.removeEmptyFolder(WireGuardGo.mountPoint) }
    }
}

/// Runs a program to its end in a host's namespaces; throws what it wrote when it fails.
@discardableResult
func run(_ host: Place, _ program: String, _ arguments: String...) throws -> String {
    let output = try ProgramCall(
        program, arguments, network: host.network, wireGuardFolder: host.folder
    ).run()
    guard output.status.isSuccess else {
        throw OperationFailure(
            "run", "\(program) \(arguments)", namespace: host.network.name,
            detail: output.error + output.output)
    }
    return output.output
}

/// The base64 of a key as text: only here, to compare with what wg(8) prints.
func base64(_ key: SecretBytes?) -> String {
    key?.withBase64 { String(decoding: $0, as: UTF8.self) } ?? "(none)"
}

/// What `wg show wg0 dump` is expected to print of a device: its line, then the peers' lines in no order.
func dumpLines(
    _ device: WireGuardDevice, privateKey: PrivateKey?, presharedKeys: [PublicKey: PresharedKey] = [:]
) -> [String] {
    let mark = device.firewallMark == 0 ? "off" : "0x" + String(device.firewallMark, radix: 16)
    let own = [base64(privateKey), device.publicKey?.base64 ?? "(none)", "\(device.listenPort)", mark]
    let peers = device.peers.map { peer in
        [
            peer.publicKey.base64, base64(presharedKeys[peer.publicKey]),
            peer.endpoint.map { "\($0)" } ?? "(none)",
            peer.allowedIPs.isEmpty ? "(none)" : peer.allowedIPs.map { "\($0)" }.joined(separator: ","),
            "\((peer.lastHandshake?.nanoseconds ?? 0) / 1_000_000_000)", "\(peer.receivedBytes)",
            "\(peer.sentBytes)", peer.persistentKeepalive == 0 ? "off" : "\(peer.persistentKeepalive)",
        ].joined(separator: "\t")
    }
    return [own.joined(separator: "\t")] + peers.sorted()
}

/// What wg(8) does print, ordered in the same way: wireguard-go lists its peers in another order each time.
func wgDump(_ host: Place) throws -> [String] {
    let lines = try run(host, "wg", "show", "wg0", "dump").split(separator: "\n").map(String.init)
    return lines.prefix(1) + lines.dropFirst().sorted()
}

func prefix(_ text: String) throws -> IPPrefix {
    try #require(IPPrefix(text), "\(text)")
}

func endpoint(_ text: String) throws -> Endpoint {
    try #require(Endpoint(text), "\(text)")
}

func newPresharedKey() throws -> PresharedKey {
    try #require(PrivateKey.generate().withBytes { PresharedKey(copying: $0) })
}
