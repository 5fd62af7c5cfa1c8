import NetAddress
import PathTrace
import TestSupport
import Testing
import TopologyModel
import WireGuardKeys

@testable import LabAgent
@testable import LabPlanner
@testable import LinuxLab
@testable import PeeringCheck
@testable import PeeringDiagnosis
@testable import RendezvousProtocol
@testable import WireGuardControl

extension Endpoint: ExpressibleByStringLiteral {
    public init(stringLiteral text: String) {
        self = Endpoint(text) ?? Endpoint(IPAddress(v4: 0), port: 0)
    }
}

extension IPPrefix: ExpressibleByStringLiteral {
    public init(stringLiteral text: String) { self = IPPrefix(text) ?? IPPrefix(host: IPAddress(v4: 0)) }
}

/// Two hosts, and what was found out about them, written by hand.
///
/// To begin with they are set up as the plan says, the rendezvous has told them of each other, no NAT has a flow, and
/// nothing was sent.
struct Case {
    let plan: LabPlan
    let privateKeys: [String: PrivateKey]
    let keys: [String: PublicKey]
    var evidence: PairEvidence

    static let began = WallTime(seconds: 1_000, nanoseconds: 0)
    static let ended = WallTime(seconds: 1_006, nanoseconds: 0)

    init(_ text: String, _ from: String, _ to: String) throws {
        let bytes = Array("name = \"t\"\n\(text)".utf8)
        let result = TopologyFile.parse(bytes: bytes, fileName: "t.toml")
        let errors = DiagnosticRenderer(source: bytes).text(result.diagnostics)
        let plan = compile(try #require(result.topology, "\(errors)"))
        privateKeys = Dictionary(
            plan.tunnels.map { ($0.host, PrivateKey.generate()) }, uniquingKeysWith: { first, _ in first })
        let keys = privateKeys.mapValues(\.publicKey)
        self.plan = plan
        self.keys = keys
        let sides = [try Self.side(from, plan, keys), try Self.side(to, plan, keys)]
        let reason = "\(from) sends to nobody knows whom"
        evidence = PairEvidence(
            interface: "wg0", from: sides[0], to: sides[1],
            verdict: PairVerdict(
                from: from, to: to, interface: "wg0", expected: .direct, observed: .none, ok: false,
                reason: reason),
            theory: TraversalTheory(plan).verdict(from, to, interface: "wg0"), began: Self.began,
            ended: Self.ended)
        evidence.hostsByKey = Dictionary(uniqueKeysWithValues: keys.map { ($1, $0) })
        evidence.links = plan.nodes.flatMap { node in
            node.interfaces.map {
                PairEvidence.Link(
                    node: node.name, interface: $0.name, isUp: true, hasCarrier: true, mtu: 1500)
            }
        }
        var routers = sides[0].routers
        for name in sides[1].routers.reversed() where !routers.contains(name) { routers.append(name) }
        evidence.routers = routers.map {
            PairEvidence.Router(name: $0, nat: plan.node($0)?.translation, before: [], after: [])
        }
        try meetAtRendezvous()
    }

    /// Two homes and a hub with the rendezvous; a is 203.0.113.2 outside, b is 203.0.113.3.
    ///
    /// ```
    ///   a 192.168.1.2 ── ra ──┐
    ///                      internet ── hub 203.0.113.10 (rendezvous)
    ///   b 192.168.2.2 ── rb ──┘
    /// ```
    static func homes(
        ra: String = #""masquerade""#, rb: String = #""masquerade""#, further: String = ""
    ) throws -> Case {
        try Case(
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
            members = ["a", "b", "hub"]
            [rendezvous]
            host = "hub"
            port = 1234
            \(further)
            """, "a", "b")
    }

    /// A home and a host on the internet that is told nothing of it; no rendezvous.
    ///
    /// ```
    ///   a 192.168.1.2 ── ra 203.0.113.2 ── internet ── hub 203.0.113.10
    /// ```
    static func spoke(_ nat: String = #""masquerade""#, further: String = "") throws -> Case {
        try Case(
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
            members = ["a", "hub"]
            \(further)
            """, "a", "hub")
    }

    /// Two homes behind one carrier; outside all are 203.0.113.2.
    ///
    /// ```
    ///   a 192.168.1.2 ── ra 100.64.0.2 ──┐
    ///                                 carrier ── internet ── hub 203.0.113.10 (rendezvous)
    ///   b 192.168.2.2 ── rb 100.64.0.3 ──┘
    /// ```
    static func neighbours(
        _ from: String = "a", _ to: String = "b", ra: String = #""masquerade""#,
        carrier: String = #""masquerade""#
    )
        throws -> Case
    {
        try Case(
            """
            [router.carrier]
            uplink = "internet"
            lan = "100.64.0.0/24"
            nat = \(carrier)
            [router.ra]
            uplink = "carrier"
            lan = "192.168.1.0/24"
            nat = \(ra)
            [router.rb]
            uplink = "carrier"
            lan = "192.168.2.0/24"
            [router.rc]
            uplink = "internet"
            lan = "192.168.3.0/24"
            [host.a]
            on = "ra"
            [host.b]
            on = "rb"
            [host.c]
            on = "rc"
            [host.hub]
            on = "internet"
            address = "203.0.113.10"
            [wireguard.wg0]
            prefix = "10.66.66.0/24"
            members = ["a", "b", "c", "hub"]
            [rendezvous]
            host = "hub"
            port = 1234
            """, from, to)
    }

    private static func side(_ host: String, _ plan: LabPlan, _ keys: [String: PublicKey]) throws
        -> PairEvidence.Side
    {
        let tunnel = try #require(plan.tunnel(host: host, interface: "wg0"))
        var side = PairEvidence.Side(
            tunnel: tunnel, way: NodeMap(plan).way(from: host), labKey: try #require(keys[host]))
        side.device = WireGuardDevice(
            interface: "wg0", publicKey: keys[host], listenPort: 51820, firewallMark: 0,
            peers: try tunnel.peers.map { peer in
                WireGuardPeer(
                    publicKey: try #require(keys[peer.host]), endpoint: peer.endpoint,
                    allowedIPs: peer.allowedIPs, persistentKeepalive: peer.keepalive)
            })
        side.deviceBefore = side.device
        side.serverInterface = "eth0"
        return side
    }

    /// The rendezvous has both hosts' external endpoints, and each has set that of the other.
    private mutating func meetAtRendezvous() throws {
        guard let rendezvous = plan.rendezvous else { return }
        let serverKey = PrivateKey.generate().publicKey
        let server = ServerSnapshot(
            publicKey: serverKey,
            entries: [evidence.from, evidence.to].map { side in
                ServerEntry(
                    publicKey: side.labKey, endpoint: outside(side.host), idleSeconds: 1, takesPushes: true,
                    firstSeen: 900_000_000_000, lastSeen: 1_005_000_000_000)
            }, pending: 0, counters: ServerCounters(), refusals: [])
        evidence.rendezvous = PairEvidence.Rendezvous(
            host: rendezvous.host, port: rendezvous.port, endpoint: rendezvous.endpoint,
            way: NodeMap(plan).way(from: rendezvous.host), server: server)
        for (host, other) in [(evidence.from.host, evidence.to), (evidence.to.host, evidence.from)] {
            var counters = ClientCounters()
            counters.handshakesSent = 1
            let word = ClientPeerStatus(
                publicKey: other.labKey, phase: .punching, says: "tries", resolved: outside(other.host),
                endpoint: outside(other.host), attempts: 3, lookups: 3, punchesSent: 3, punchesReceived: 0)
            let key = try #require(keys[host])
            change(host) { side in
                side.client = ClientStatus(
                    host: host, interface: "wg0", publicKey: key, listenPort: 51820,
                    server: rendezvous.endpoint, serverKey: serverKey, standing: .registered,
                    says: "is registered", counters: counters, peers: [word])
            }
            let endpoint = outside(other.host)
            peer(of: host) { $0.endpoint = endpoint }
        }
    }

    // MARK: The hosts

    /// Where a host is seen, if its NATs keep its port.
    func outside(_ host: String) -> Endpoint {
        let node = NodeMap(plan).way(from: host).dropLast().compactMap { plan.node($0) }
        let outermost = node.last { $0.kind == .host || $0.translation != nil }
        return Endpoint(
            outermost?.interfaces.first?.address.address ?? IPAddress(v4: 0),
            port: plan.tunnel(host: host, interface: "wg0")?.listenPort ?? 0)
    }

    func key(_ host: String) -> PublicKey { keys[host] ?? evidence.from.labKey }

    mutating func change(_ host: String, _ change: (inout PairEvidence.Side) -> Void) {
        if evidence.from.host == host { change(&evidence.from) } else { change(&evidence.to) }
    }

    /// Changes how a host's WireGuard has the other one, now and before the watch.
    mutating func peer(of host: String, _ change: (inout WireGuardPeer) -> Void) {
        let other = evidence.from.host == host ? evidence.to.labKey : evidence.from.labKey
        func edit(_ device: inout WireGuardDevice?) {
            guard let place = device?.peers.firstIndex(where: { $0.publicKey == other }) else { return }
            if var peer = device?.peers[place] {
                change(&peer)
                device?.peers[place] = peer
            }
        }
        self.change(host) { side in
            edit(&side.device)
            edit(&side.deviceBefore)
        }
    }

    mutating func client(of host: String, _ change: (inout ClientStatus) -> Void) {
        self.change(host) { side in
            if var client = side.client {
                change(&client)
                side.client = client
            }
        }
    }

    /// The pair had a session when the watch began.
    mutating func hadSession(secondsAgo: Int64 = 60) {
        for host in [evidence.from.host, evidence.to.host] {
            peer(of: host) { $0.lastHandshake = WallTime(seconds: 1_000 - secondsAgo, nanoseconds: 0) }
        }
    }

    // MARK: The ways

    /// A mapping of a router, by default before and after.
    mutating func map(
        _ router: String, _ inner: Endpoint, to outer: Endpoint, towards remote: Endpoint,
        before: Bool = true, after: Bool = true
    ) {
        let flow = PairEvidence.Flow(
            source: inner, destination: remote, replySource: remote, replyDestination: outer,
            isReplied: true)
        add(flow, to: router, before: before, after: after)
    }

    mutating func add(_ flow: PairEvidence.Flow, to router: String, before: Bool = true, after: Bool = true) {
        guard let place = evidence.routers.firstIndex(where: { $0.name == router }) else { return }
        if before { evidence.routers[place].before.append(flow) }
        if after { evidence.routers[place].after.append(flow) }
    }

    mutating func drop(
        _ node: String, _ rule: String?, from source: Endpoint, to destination: Endpoint, size: Int = 148,
        hook: String = "forward"
    ) {
        evidence.drops[node, default: []].append(
            PacketDrop(
                source: source, destination: destination, family: "ip", table: "filter",
                chain: hook.uppercased(), hook: hook, rule: rule, isPolicy: rule == nil, payloadSize: size,
                time: 1_001_000_000_000))
    }

    /// A datagram of one side on its way to the other or to an endpoint, as far as a point that is written like
    /// "ra:lan0<": into ra by lan0.
    ///
    /// - Parameters:
    ///   - out: what the outermost NAT makes of its source; by default it keeps the port.
    ///   - seconds: after the watch began.
    mutating func fly(
        _ kind: DatagramKind, from host: String, to target: Endpoint? = nil, out: Endpoint? = nil,
        until last: String? = nil, seconds: Double = 1
    ) {
        let other = evidence.from.host == host ? evidence.to.host : evidence.from.host
        let map = NodeMap(plan)
        let (up, down) = (map.way(from: host).dropLast(), map.way(from: other).dropLast())
        var source = Endpoint(map.addresses(of: host)[0], port: 51820)
        var destination = target ?? outside(other)
        var legs = [("\(host):eth0>", source, destination)]
        for name in up.dropFirst() where !down.contains(name) {
            legs.append(("\(name):lan0<", source, destination))
            if plan.node(name)?.translation != nil {
                source = Endpoint(map.addresses(of: name)[0], port: source.port)
                if name == up.last { source = out ?? source }
            }
            legs.append(("\(name):wan0>", source, destination))
        }
        for name in down.dropFirst().reversed() where !up.contains(name) {
            legs.append(("\(name):wan0<", source, destination))
            if plan.node(name)?.translation != nil, let place = down.firstIndex(of: name) {
                destination = Endpoint(map.addresses(of: down[place - 1])[0], port: 51820)
            }
            legs.append(("\(name):lan0>", source, destination))
        }
        legs.append(("\(other):eth0<", source, destination))
        if let last, let end = legs.firstIndex(where: { $0.0 == last }) { legs = Array(legs[...end]) }
        see(kind, legs, seconds: seconds)
    }

    /// A datagram, and each point that it was seen at, a microsecond after the one before.
    mutating func see(_ kind: DatagramKind, _ legs: [(String, Endpoint, Endpoint)], seconds: Double = 1) {
        let began = Self.began.nanoseconds + Int64(seconds * 1e9)
        let sightings = legs.enumerated().map { index, leg in
            let words = leg.0.dropLast().split(separator: ":").map(String.init)
            return Sighting(
                point: WatchPoint(node: words[0], namespace: "t.\(words[0])", interface: words[1]),
                isOutgoing: leg.0.hasSuffix(">"), time: began + Int64(index) * 1000, source: leg.1,
                destination: leg.2, ttl: 64)
        }
        let size =
            switch kind {
            case .handshakeInitiation: 148
            case .handshakeResponse: 92
            case .cookie: 64
            case .keepalive: 32
            default: 128
            }
        evidence.datagrams.append(Datagram(kind: kind, size: size, payload: [], sightings: sightings))
    }

    /// One's initiation, made for a key, comes to the other from an endpoint and is read with its private key.
    mutating func read(
        from host: String, at other: String, for key: PublicKey? = nil, source: Endpoint
    ) throws {
        let message = try handshakeInitiation(
            from: try #require(privateKeys[host]), to: key ?? self.key(other), sender: 1,
            timestamp: 1_001_000_000_000)
        let reading = try HandshakeInitiation.reading(message, responder: try #require(privateKeys[other]))
        change(other) {
            $0.initiations.append(
                PairEvidence.Initiation(time: 1_001_000_000_000, source: source, reading: reading))
        }
    }

    // MARK: What is made of it

    var diagnosis: Diagnosis { DiagnosisJudge(evidence, plan: plan).diagnosis() }
    /// Each with its place: "lost@internet".
    var findings: [String] {
        diagnosis.findings.map { "\($0.cause.rawValue)\($0.node.map { "@\($0)" } ?? "")" }
    }
    /// What remains to be said where no rule has found anything.
    static let nothing = ["unexplained"]
}
