import Glibc
import LabPlanner
import LinuxLab
import NetAddress
import SystemCalls
import TestSupport
import Testing
import TopologyModel

/// A lab to send datagrams through.
///
/// ```
///   far 203.0.113.9   other 203.0.113.8
///    │                  │
///   ─┴────────┬─────────┴── internet
///             r     the NAT in question
///             │ 192.168.1.0/24
///             a
/// ```
final class WatchedSite {
    private let root: LabRoot
    let lab: String
    let far: IPAddress
    /// Of `r` on the internet, and of `a`.
    let wan: IPAddress
    let inside: IPAddress

    init(_ cleanup: Cleanup, nat: String) throws {
        (root, lab) = cleanup.labRoot()
        let text = """
            name = "\(lab)"
            [router.r]
            uplink = "internet"
            lan = "192.168.1.0/24"
            nat = \(nat)
            [host.far]
            on = "internet"
            address = "203.0.113.9"
            [host.other]
            on = "internet"
            address = "203.0.113.8"
            [host.a]
            on = "r"
            """
        let parsed = TopologyFile.parse(bytes: Array(text.utf8), fileName: "lab.toml")
        let plan = compile(try #require(parsed.topology, "\(parsed.diagnostics)"))
        _ = try LabBuild.up(plan, filesFolder: "/", in: root, drivers: .plain())
        func address(_ node: String, _ interface: String) throws -> IPAddress {
            let found = plan.nodes.first { $0.name == node }
            return try #require(found?.interfaces.first { $0.name == interface }?.address.address)
        }
        (far, wan, inside) = (try address("far", "eth0"), try address("r", "wan0"), try address("a", "eth0"))
        try tool(in: name("far"), "ip", "route", "add", "192.168.1.0/24", "via", "\(wan)")
    }

    func name(_ node: String) -> String { "\(lab).\(node)" }
    func network(_ node: String) -> NetworkNamespace { NetworkNamespace(name(node)) }

    func watch(_ node: String) throws -> DropWatch {
        let start = MonotonicTime.now()
        let watch = try DropWatch(network(node), addresses: [far, wan, inside])
        print("a watch of \(node) took \(MonotonicTime.now() - start) to begin")
        return watch
    }

    /// A UDP socket of a node, bound to a port.
    func socket(_ node: String, _ port: UInt16) throws -> UDPSocket { try UDPSocket(network(node), port) }
}

/// A UDP socket over IPv4 in a namespace.
final class UDPSocket {
    private let file: Descriptor

    init(_ network: NetworkNamespace, _ port: UInt16) throws(OperationFailure) {
        file = try network.socket(domain: AF_INET, type: Int32(SOCK_DGRAM.rawValue))
        let bound = SocketAddress(Endpoint(IPAddress(v4: 0), port: port)).withPointer {
            bind(file.rawValue, $0, $1)
        }
        guard bound == 0 else { throw OperationFailure("bind", "\(port)", errno: errno) }
    }

    /// What the firewall says at once (EPERM from an output chain) is no failure of the test's.
    func send(_ text: String, to address: IPAddress, _ port: UInt16) throws(OperationFailure) {
        let sent = SocketAddress(Endpoint(address, port: port)).withPointer {
            sendto(file.rawValue, text, text.utf8.count, 0, $0, $1)
        }
        let code = errno
        guard sent >= 0 || code == EPERM else { throw OperationFailure("send", text, errno: code) }
    }

    /// Where the next datagram comes from; nil when none comes in five seconds.
    func receive() -> Endpoint? {
        var waiting = pollfd(fd: file.rawValue, events: Int16(POLLIN), revents: 0)
        guard poll(&waiting, 1, 5000) == 1 else { return nil }
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        var buffer = [UInt8](repeating: 0, count: 2048)
        let count = withUnsafeMutablePointer(to: &storage) { address in
            address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                recvfrom(file.rawValue, &buffer, buffer.count, 0, $0, &length)
            }
        }
        return count < 0 ? nil : SocketAddress.endpoint(of: storage)
    }
}
