import Glibc
import NetAddress
import PathTrace
import SystemCalls
import TestSupport
import Testing

/// All suites here, one test at a time: they share the processor that they measure.
@Suite(.serialized) enum Privileged {}

/// Two hosts behind two routers; all rules by the real iptables.
///
///     a 192.168.1.2 eth0 -- host0 [lan0 192.168.1.1 | r | wan0 203.0.113.10] -- port0 [net br0] port1 --
///         [wan0 203.0.113.11 | s | lan0 192.168.2.1] -- eth0 192.168.2.2 b
///
/// r masquerades and its lan0 is a bridge; s masquerades too, forwards port 51820 to b, and its lan0 is the link.
final class TwoHomes {
    let a: NetworkNamespace
    let r: NetworkNamespace
    let net: NetworkNamespace
    let s: NetworkNamespace
    let b: NetworkNamespace

    init(_ cleanup: Cleanup) throws {
        let id = uniqueName("trace")
        a = try cleanup.namespace("\(id).a")
        r = try cleanup.namespace("\(id).r")
        net = try cleanup.namespace("\(id).net")
        s = try cleanup.namespace("\(id).s")
        b = try cleanup.namespace("\(id).b")
        for namespace in [a, r, net, s, b] {
            try namespace.write(sysctls: [
                ("net.ipv6.conf.all.disable_ipv6", "1"), ("net.ipv6.conf.default.disable_ipv6", "1"),
                ("-net.bridge.bridge-nf-call-iptables", "0"), ("net.ipv4.icmp_ratelimit", "0"),
            ])
        }
        try tool(in: net.name, "ip", "link", "add", "br0", "type", "bridge")
        try tool(in: net.name, "ip", "link", "set", "br0", "up")
        try tool(in: r.name, "ip", "link", "add", "lan0", "type", "bridge")
        for (router, port, address) in [(r, "port0", "203.0.113.10"), (s, "port1", "203.0.113.11")] {
            try veth(router, "wan0", net, port)
            try tool(in: net.name, "ip", "link", "set", port, "master", "br0")
            try tool(in: router.name, "ip", "addr", "add", "\(address)/24", "dev", "wan0")
            try router.write(sysctls: [("net.ipv4.ip_forward", "1")])
            try iptables(router, "-t nat -A POSTROUTING -o wan0 -j MASQUERADE")
        }
        try veth(r, "host0", a, "eth0")
        try tool(in: r.name, "ip", "link", "set", "host0", "master", "lan0")
        try veth(s, "lan0", b, "eth0")
        for (router, host, network) in [(r, a, "192.168.1"), (s, b, "192.168.2")] {
            try tool(in: router.name, "ip", "addr", "add", "\(network).1/24", "dev", "lan0")
            try tool(in: router.name, "ip", "link", "set", "lan0", "up")
            try tool(in: host.name, "ip", "addr", "add", "\(network).2/24", "dev", "eth0")
            try tool(in: host.name, "ip", "route", "add", "default", "via", "\(network).1")
        }
        try iptables(
            s, "-t nat -A PREROUTING -i wan0 -p udp --dport 51820 -j DNAT --to-destination 192.168.2.2")
    }

    private func veth(
        _ one: NetworkNamespace, _ name: String, _ other: NetworkNamespace, _ peer: String
    ) throws {
        try tool(
            in: one.name, "ip", "link", "add", name, "type", "veth", "peer", "name", peer, "netns",
            other.name)
        try tool(in: one.name, "ip", "link", "set", name, "up")
        try tool(in: other.name, "ip", "link", "set", peer, "up")
    }

    func iptables(_ namespace: NetworkNamespace, _ rule: String) throws {
        try tool(
            "ip",
            ["netns", "exec", namespace.name, "iptables"] + rule.split(separator: " ").map(String.init))
    }

    /// Every place on the way from a to b.
    var points: [WatchPoint] {
        [
            (a, "a", "eth0"), (r, "r", "host0"), (r, "r", "lan0"), (r, "r", "wan0"), (net, "net", "port0"),
            (net, "net", "port1"), (s, "s", "wan0"), (s, "s", "lan0"), (b, "b", "eth0"),
        ].map { WatchPoint(node: $1, namespace: $0.name, interface: $2) }
    }

    static let behindS = Endpoint(IPAddress(v4: 0xCB00_710B), port: 51820)
}

/// A real UDP socket.
final class UDPSocket {
    let socket: Descriptor

    init(_ namespace: NetworkNamespace, port: UInt16) throws {
        socket = try namespace.socket(domain: AF_INET, type: Int32(SOCK_DGRAM.rawValue))
        let address = SocketAddress(Endpoint(IPAddress(v4: 0), port: port))
        try #require(address.withPointer { bind(socket.rawValue, $0, $1) } == 0, "bind: errno \(errno)")
    }

    func set(_ level: Int32, _ option: Int32, _ value: Int32) throws {
        var value = value
        let size = socklen_t(MemoryLayout<Int32>.size)
        try #require(
            setsockopt(socket.rawValue, level, option, &value, size) == 0, "setsockopt: errno \(errno)")
    }

    func send(_ payload: [UInt8], to endpoint: Endpoint = TwoHomes.behindS) throws {
        let sent = SocketAddress(endpoint).withPointer {
            sendto(socket.rawValue, payload, payload.count, 0, $0, $1)
        }
        // What an earlier datagram caused is reported at the next.
        try #require(sent == payload.count || errno == ECONNREFUSED, "sendto: errno \(errno)")
    }

    /// Throws away what waits; the number of datagrams.
    func drain() -> Int {
        var buffer = [UInt8](repeating: 0, count: 2048)
        var count = 0
        while recv(socket.rawValue, &buffer, buffer.count, Int32(MSG_DONTWAIT)) >= 0 { count += 1 }
        return count
    }
}

/// `count` bytes that begin with a number and are those of no other number.
func payload(_ number: Int, count: Int = 100) -> [UInt8] {
    (0..<count).map { position in
        position < 4 ? UInt8(truncatingIfNeeded: number >> (8 * position)) : UInt8.random(in: 0...255)
    }
}

extension PathWatch {
    /// Collects until the condition holds; false after 5 s.
    func collects(until condition: () -> Bool) throws -> Bool {
        try waitUntil(timeout: .seconds(5)) {
            collect()
            return condition()
        }
    }

    func datagram(_ payload: [UInt8]) -> Datagram? {
        datagrams.first { $0.payload == Array(payload.prefix(Datagram.keptPayload)) }
    }
}
