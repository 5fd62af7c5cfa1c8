import Glibc
import NATMeasurement
import NetAddress
import SystemCalls
import TestSupport
import Testing

/// All suites here, one test at a time: they count what is on the machine.
@Suite(.serialized) enum Privileged {}

/// A router with real rules, and a neighbour on either side.
///
///     net: a bridge, or a router's lan0 ---- wan0 203.0.113.10 | router | lan0 192.168.1.1 ---- eth0 host
final class Rig {
    enum LAN {
        /// lan0 is a bridge with one port.
        case bridge
        /// lan0 is the link to the only host.
        case single
        /// lan0 is a bridge without a port.
        case empty
    }
    enum Uplink {
        case segment
        case upperRouter
    }

    let id = uniqueName("meter")
    let router: NetworkNamespace
    let host: NetworkNamespace
    let net: NetworkNamespace
    private let lan: LAN
    private let uplink: Uplink
    /// Which of the routers on the segment.
    private let number: Int

    /// With `neighbour` on the same segment as that one's router.
    init(
        _ cleanup: Cleanup, lan: LAN = .bridge, uplink: Uplink = .segment, addresses: [String] = [],
        neighbour: Rig? = nil
    ) throws {
        self.lan = lan
        self.uplink = uplink
        number = neighbour.map { $0.number + 1 } ?? 0
        router = try cleanup.namespace("\(id).r")
        host = try cleanup.namespace("\(id).h")
        net = try neighbour?.net ?? cleanup.namespace("\(id).net")
        for namespace in [router, net] {
            try namespace.write(sysctls: [
                ("net.ipv6.conf.all.disable_ipv6", "1"), ("net.ipv6.conf.default.disable_ipv6", "1"),
                ("-net.bridge.bridge-nf-call-iptables", "0"),
                // One measurement stays within the limit, many in a row do not: refused would look like
                // silent.
                ("net.ipv4.icmp_ratelimit", "0"),
            ])
        }
        try router.write(sysctls: [("net.ipv4.ip_forward", "1")])
        try makeUplink()
        for address in [wanAddress] + addresses {
            try tool(in: router.name, "ip", "addr", "add", "\(address)/24", "dev", "wan0")
        }
        try makeLAN()
        try tool(in: router.name, "ip", "addr", "add", "192.168.1.1/24", "dev", "lan0")
        try tool(in: router.name, "ip", "link", "set", "lan0", "up")
    }

    private func veth(_ name: String, to peer: String, in other: NetworkNamespace) throws {
        try tool(
            in: router.name, "ip", "link", "add", name, "type", "veth", "peer", "name", peer, "netns",
            other.name)
        try tool(in: router.name, "ip", "link", "set", name, "up")
    }

    private func makeUplink() throws {
        switch uplink {
        case .segment:
            if number == 0 {
                try tool(in: net.name, "ip", "link", "add", "br0", "type", "bridge")
                try tool(in: net.name, "ip", "link", "set", "br0", "up")
            }
            try veth("wan0", to: "port\(number)", in: net)
            try tool(in: net.name, "ip", "link", "set", "port\(number)", "master", "br0", "up")
        case .upperRouter:
            try veth("wan0", to: "lan0", in: net)
            try tool(in: net.name, "ip", "addr", "add", "203.0.113.1/24", "dev", "lan0")
            try tool(in: net.name, "ip", "link", "set", "lan0", "up")
            try net.write(sysctls: [("net.ipv4.ip_forward", "1")])
        }
    }

    private func makeLAN() throws {
        if lan != .single {
            try tool(in: router.name, "ip", "link", "add", "lan0", "type", "bridge")
        }
        guard lan != .empty else { return }
        let name = lan == .single ? "lan0" : "host0"
        try veth(name, to: "eth0", in: host)
        if lan == .bridge { try tool(in: router.name, "ip", "link", "set", name, "master", "lan0") }
        try tool(in: host.name, "ip", "addr", "add", "192.168.1.2/24", "dev", "eth0")
        try tool(in: host.name, "ip", "link", "set", "eth0", "up")
    }

    /// Gives the upper router an uplink: `top` (a bridge, port0) ---- wan0 198.51.100.10.
    func addTop(_ cleanup: Cleanup) throws -> FarEnd {
        let top = try cleanup.namespace("\(id).top")
        try tool(in: top.name, "ip", "link", "add", "br0", "type", "bridge")
        try tool(in: top.name, "ip", "link", "set", "br0", "up")
        try tool(
            in: net.name, "ip", "link", "add", "wan0", "type", "veth", "peer", "name", "port0", "netns",
            top.name)
        try tool(in: top.name, "ip", "link", "set", "port0", "master", "br0", "up")
        try tool(in: net.name, "ip", "addr", "add", "198.51.100.10/24", "dev", "wan0")
        try tool(in: net.name, "ip", "link", "set", "wan0", "up")
        try tool(in: router.name, "ip", "route", "add", "default", "via", "203.0.113.1")
        return FarEnd(top, "port0")
    }

    var wanAddress: String { "203.0.113.\(10 + number)" }
    var outside: FarEnd { FarEnd(net, uplink == .segment ? "port\(number)" : "lan0") }
    var inside: FarEnd? { lan == .empty ? nil : FarEnd(host, "eth0") }

    /// Loads rules with the real tools, into `router` where nothing else is said.
    func load(_ rules: Rules, into other: NetworkNamespace? = nil) throws {
        let router = other ?? router
        for line in rules.iptables {
            try tool(
                "ip",
                ["netns", "exec", router.name, "iptables"] + line.split(separator: " ").map(String.init))
        }
        if let nft = rules.nft {
            let output = try ProgramCall("ip", ["netns", "exec", router.name, "nft", "-f", "-"])
                .run(input: Array(nft.replacing("203.0.113.10", with: wanAddress).utf8))
            guard output.status.isSuccess else {
                throw OperationFailure("load rules", rules.name, detail: output.error)
            }
        }
        try router.write(sysctls: rules.sysctls)
    }

    func addresses(_ prefix: String, _ numbers: ClosedRange<Int>) throws -> [IPAddress] {
        try numbers.map { try #require(IPAddress("\(prefix).\($0)")) }
    }

    func request(lifetime: Int? = nil) throws -> MeasurementRequest {
        return MeasurementRequest(
            router: "r", network: router, inside: inside, lanAddress: try #require(IPAddress("192.168.1.1")),
            insideCandidates: try addresses("192.168.1", 240...245), outside: outside,
            outsideCandidates: try addresses("203.0.113", 240...246),
            externalAddresses: [try #require(IPAddress(wanAddress))], firstPort: 20_000, lifetime: lifetime)
    }

    /// What the probes could leave behind, as text.
    func traces() throws -> [String] {
        var traces: [String] = []
        for namespace in [router, host, net] {
            for arguments in [
                ["ip", "-o", "link"], ["ip", "-o", "addr"], ["ip", "neigh"], ["conntrack", "-L"],
            ] {
                let output = try tool("ip", ["netns", "exec", namespace.name] + arguments)
                traces += output.split(separator: "\n").map { "\(namespace.name): \($0)" }
            }
        }
        return traces.filter { trace in
            trace.contains("probe") || [".240", ".241", ".242", ".243"].contains { trace.contains($0) }
        }
    }
}

/// How often each measurement is repeated: NATLAB_ROUNDS.
var rounds: Int { getenv("NATLAB_ROUNDS").flatMap { Int(String(cString: $0)) } ?? 1 }
