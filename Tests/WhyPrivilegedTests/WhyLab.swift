import FoundationEssentials
import SystemCalls
import TestSupport
import Testing

/// `natlab why --json`, as its readers see it.
struct Why: Decodable {
    struct Finding: Decodable {
        var cause: String
        var node: String?
        var text: String
        var mend: String?
    }
    struct Hop: Decodable {
        var node: String
        var interface: String
        var outgoing: Bool
        var source: String
        var destination: String
    }
    struct Direction: Decodable {
        struct Loss: Decodable {
            var node: String
            var rule: String?
            var reason: String
        }
        var from: String
        var to: String
        var sent: Int
        var arrived: Int
        var nodes: [String]
        var hops: [Hop]
        var loss: Loss?
    }
    struct Mapping: Decodable {
        var inner: String
        var outer: String
        var remote: String
    }
    struct NAT: Decodable {
        var router: String
        var mappings: [Mapping]
    }
    var connected: Bool
    var cause: String?
    var verdict: String
    var findings: [Finding]
    var directions: [Direction]
    var nats: [NAT]
    var gaps: [String]
}

/// A lab for `why`, and what breaks it.
struct WhyLab {
    let lab: Lab
    private var natlab: Natlab { lab.natlab }

    /// Two homes and a hub with the rendezvous, a and b each other's only peers.
    ///
    /// ```
    ///   a 192.168.1.2 ── ra ──┐
    ///                      internet ── hub (rendezvous)
    ///   b 192.168.2.2 ── rb ──┘
    /// ```
    static func homes(
        _ natlab: Natlab, ra: String = #""masquerade""#, rb: String = #""masquerade""#, further: String = ""
    ) throws -> WhyLab {
        try WhyLab(
            lab: natlab.writeLab(
                """
                [router.ra]
                uplink = "internet"
                lan = "192.168.1.0/24"
                nat = \(ra)
                [router.rb]
                uplink = "internet"
                lan = "192.168.2.0/24"
                nat = \(rb)
                [host.a]
                on = "ra"
                [host.b]
                on = "rb"
                [host.hub]
                on = "internet"
                address = "203.0.113.10"
                [wireguard.wg0]
                prefix = "10.66.66.0/24"
                members = ["a", "b"]
                [rendezvous]
                host = "hub"
                port = 1234
                \(further)
                """))
    }

    /// A host behind a NAT, and one on the internet that is told nothing of it; no rendezvous.
    ///
    /// ```
    ///   a 192.168.1.2 ── ra ── internet ── hub 203.0.113.10
    /// ```
    static func spoke(_ natlab: Natlab, nat: String = #""masquerade""#, further: String = "") throws -> WhyLab
    {
        try WhyLab(
            lab: natlab.writeLab(
                """
                [router.ra]
                uplink = "internet"
                lan = "192.168.1.0/24"
                nat = \(nat)
                [host.a]
                on = "ra"
                [host.hub]
                on = "internet"
                address = "203.0.113.10"
                [wireguard.wg0]
                prefix = "10.66.66.0/24"
                members = ["hub", "a"]
                \(further)
                """))
    }

    /// What `why` says, and that its exit status says the same.
    func why(
        _ a: String, _ b: String, timeout: Double? = nil, sourceLocation: SourceLocation = #_sourceLocation
    )
        throws -> Why
    {
        let limit = timeout.map { ["--timeout", "\($0)"] } ?? []
        let output = try natlab.run(["why", a, b, "--lab", lab.name, "--json"] + limit)
        let why = try JSONDecoder().decode(Why.self, from: Data(output.output.utf8))
        #expect(
            output.status == .exited(why.connected ? 0 : 1), "\(output.output)\(output.error)",
            sourceLocation: sourceLocation)
        #expect(why.connected == (why.cause == nil), sourceLocation: sourceLocation)
        return why
    }

    /// Expects the verdict to be this cause at this node.
    @discardableResult
    func expect(
        _ cause: String, at node: String?, _ a: String, _ b: String, timeout: Double? = nil,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> Why {
        let why = try why(a, b, timeout: timeout, sourceLocation: sourceLocation)
        #expect(why.cause == cause, "\(why)", sourceLocation: sourceLocation)
        #expect(why.findings.first?.node == node, "\(why.findings)", sourceLocation: sourceLocation)
        return why
    }

    func up() throws { try lab.up() }

    /// Waits until the pair is connected.
    func connect(sourceLocation: SourceLocation = #_sourceLocation) throws {
        let verdicts = try natlab.json(Verdicts.self, "verify", "--lab", lab.name)
        try #require(
            verdicts.pairs.allSatisfy { $0.observed == "direct" }, "\(verdicts)",
            sourceLocation: sourceLocation)
    }

    /// Runs a program in a node, as the user would.
    @discardableResult
    func exec(_ node: String, _ words: String..., sourceLocation: SourceLocation = #_sourceLocation) throws
        -> String
    {
        let output = try natlab.run(["exec", "--lab", lab.name, node, "--"] + words)
        try #require(
            output.status == .exited(0), "\(node): \(words): \(output.error)\(output.output)",
            sourceLocation: sourceLocation)
        return output.output
    }

    func publicKey(_ host: String) throws -> String {
        String(try exec(host, "wg", "show", "wg0", "public-key").prefix { $0 != "\n" })
    }

    /// Takes the peers out at both hosts and adds them again, without endpoints or sessions.
    func forgetPeers(
        _ a: String, _ b: String, allowedIPs: (a: String, b: String) = ("10.66.66.1/32", "10.66.66.2/32")
    ) throws {
        let keys = (a: try publicKey(a), b: try publicKey(b))
        try exec(a, "wg", "set", "wg0", "peer", keys.b, "remove")
        try exec(b, "wg", "set", "wg0", "peer", keys.a, "remove")
        try exec(a, "wg", "set", "wg0", "peer", keys.b, "allowed-ips", allowedIPs.b)
        try exec(b, "wg", "set", "wg0", "peer", keys.a, "allowed-ips", allowedIPs.a)
    }

    /// The lab's own processes that have this text in their environment or command line.
    func processes(_ isMeant: (Int32) -> Bool) throws -> [Int32] {
        try Files.list("/proc").compactMap { Int32($0) }.filter(isMeant)
    }

    var agent: Int32 {
        get throws {
            let mark = "NATLAB_AGENT_OF=/run/natlab/\(lab.name)"
            let found = try processes { pid in
                let environment = (try? Files.read("/proc/\(pid)/environ")) ?? []
                return environment.split(separator: 0).contains { $0.elementsEqual(mark.utf8) }
            }
            return try #require(found.first)
        }
    }
}
