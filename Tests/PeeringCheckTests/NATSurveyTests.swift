import LabPlanner
import NATMeasurement
import NetAddress
import PeeringCheck
import SystemCalls
import Testing
import TopologyModel

/// ```
///   hub 203.0.113.254                                  internet 203.0.113.0/24
///     │
///   ──┴──────┬──────────────┬─────────────────┬─────
///          carrier        wide .100, .101   routed (none)
///            ├── home        ├─ a (forwarded)   └─ c
///            └── bare        └─ b 192.168.2.253 (1:1 .253)
/// ```
private let topology =
    """
    name = "t"
    [host.hub]
    on = "internet"
    address = "203.0.113.254"
    [router.carrier]
    uplink = "internet"
    lan = "100.64.0.0/24"
    nat = "eim-eif"
    [router.home]
    uplink = "carrier"
    lan = "192.168.1.0/24"
    nat = { preset = "symmetric", udp-timeout = "30s" }
    [router.bare]
    uplink = "carrier"
    lan = "192.168.1.0/24"
    nat = { filtering = "address-dependent", udp-timeout = "120s" }
    [router.wide]
    uplink = "internet"
    lan = "192.168.2.0/24"
    nat = "eim-adf"
    wan = ["203.0.113.100", "203.0.113.101"]
    forward = [{ port = 2000, to = "a", to-port = 51820 }, { port = 80, to = "a", protocol = "tcp" }]
    one-to-one = { b = "203.0.113.253" }
    [router.routed]
    uplink = "internet"
    lan = "10.0.0.0/24"
    nat = "none"
    [host.h]
    on = "home"
    [host.a]
    on = "wide"
    [host.b]
    on = "wide"
    address = "192.168.2.253"
    [host.c]
    on = "routed"
    [wireguard.wg0]
    prefix = "10.66.66.0/24"
    members = ["hub", "h"]
    peers = "mesh"
    listen-port = 1100

    """

struct NATSurveyTests {
    private func compiled(_ text: String) throws -> LabPlan {
        let bytes = Array(text.utf8)
        let result = TopologyFile.parse(bytes: bytes, fileName: "t.toml")
        let errors = DiagnosticRenderer(source: bytes).text(result.diagnostics)
        return LabPlanner.compile(try #require(result.topology, "\(errors)"))
    }

    private func request(_ name: String) throws -> MeasurementRequest {
        let jobs = NATSurvey(try compiled(topology)).jobs([name])
        #expect(jobs.problems == [] && jobs.routers.count == 1)
        return try #require(jobs.routers.first).request
    }

    @Test func eachRouterOnceAndEachPathThroughSeveralNATs() throws {
        let jobs = NATSurvey(try compiled(topology)).jobs([])
        #expect(jobs.problems == [])
        #expect(jobs.routers.map(\.request.router) == ["carrier", "home", "bare", "wide", "routed"])
        #expect(jobs.routers.allSatisfy { $0.theory == nil && $0.request.scope == .router })
        #expect(jobs.paths.map(\.request.router) == ["home", "bare"])
        let home = try #require(jobs.paths.first)
        #expect(home.theory?.hops.map(\.router) == ["home", "carrier"])
        #expect(home.request.scope == .composite && home.request.above == [NetworkNamespace("t.carrier")])
        // At the carrier's uplink.
        #expect(home.request.outside.namespace == NetworkNamespace("t.internet"))
        #expect(home.request.externalAddresses == jobs.routers[0].request.externalAddresses)
        #expect(home.request.lifetime == nil)
        #expect(NATSurvey(try compiled(topology)).jobs(["home"]).routers.count == 1)
    }

    /// The far ends of the router's own links.
    @Test func farEnds() throws {
        let home = try request("home")
        #expect(home.network == NetworkNamespace("t.home"))
        #expect(home.inside == FarEnd(NetworkNamespace("t.h"), "eth0"))
        #expect(home.outside == FarEnd(NetworkNamespace("t.carrier"), "home"))
        #expect(try request("carrier").inside == FarEnd(NetworkNamespace("t.home"), "wan0"))
        #expect(try request("carrier").outside == FarEnd(NetworkNamespace("t.internet"), "carrier"))
        #expect(try request("bare").inside == nil)
    }

    /// The last addresses of the prefix that nobody has: hosts, WAN and 1:1 addresses.
    @Test func candidatesSkipTakenAddresses() throws {
        let wide = try request("wide")
        #expect(wide.outsideCandidates.first == IPAddress("203.0.113.252"))
        #expect(
            Array(wide.insideCandidates.prefix(2)) == [
                IPAddress("192.168.2.254"), IPAddress("192.168.2.252"),
            ])
        #expect(wide.externalAddresses == [IPAddress("203.0.113.100"), IPAddress("203.0.113.101")])
        let own = try request("routed")
        #expect(own.lanAddress == IPAddress("10.0.0.1") && own.insideCandidates.count == 16)
        #expect(own.externalAddresses.count == 1, "its own, though it translates nothing")
        for name in ["carrier", "home", "bare", "wide", "routed"] {
            let found = try request(name)
            for node in try compiled(topology).nodes where node.uplink == "internet" {
                #expect(!node.interfaces.contains { found.outsideCandidates.contains($0.address.address) })
            }
        }
    }

    @Test func portsOfTheirOwn() throws {
        let jobs = NATSurvey(try compiled(topology)).jobs([])
        let starts = jobs.routers.map(\.request.firstPort)
        #expect(Set(starts).count == starts.count)
        // WireGuard's 1100 and the forward's 2000.
        let span = MeasurementRequest.portSpan
        for start in starts {
            #expect(![1100, 2000].contains { ($0 as UInt16) >= start && $0 < start + span })
        }
    }

    @Test func lifetimesThatAreShortOrAskedFor() throws {
        let plan = try compiled(topology)
        func lifetimes(_ longest: Int?) -> [Int?] {
            NATSurvey(plan, longestLifetime: longest).jobs([]).routers.map(\.request.lifetime)
        }
        #expect(lifetimes(nil) == [nil, 36, nil, nil, nil])
        #expect(lifetimes(200) == [200, 36, 200, 200, nil])
    }

    /// UDP forwards and 1:1 addresses, each at its host.
    @Test func forwards() throws {
        let found = try request("wide").forwards
        let (a, b) = (FarEnd(NetworkNamespace("t.a"), "eth0"), FarEnd(NetworkNamespace("t.b"), "eth0"))
        let address = try #require(IPAddress("203.0.113.100"))
        let inner = try #require(IPAddress("192.168.2.2"))
        #expect(
            found == [
                StaticForward(
                    external: address, externalPort: 2000, internal: inner, internalPort: 51820, at: a),
                StaticForward(
                    external: try #require(IPAddress("203.0.113.253")),
                    internal: try #require(IPAddress("192.168.2.253")), at: b),
            ])
    }

    @Test func prefixesWithoutRoom() throws {
        let plan = try compiled(
            """
            name = "t"
            [segment.narrow]
            prefix = "198.51.100.0/30"
            [router.r]
            uplink = "narrow"
            lan = "192.168.1.0/24"
            [router.inner]
            uplink = "r"
            lan = "10.0.0.0/30"
            [host.h]
            on = "inner"
            """)
        let jobs = NATSurvey(plan).jobs([])
        #expect(jobs.routers.isEmpty && jobs.paths.isEmpty)
        #expect(
            jobs.problems.contains { $0.hasPrefix("r cannot be measured") && $0.contains("198.51.100.0/30") })
        #expect(
            jobs.problems.contains { $0.hasPrefix("inner cannot be measured") && $0.contains("10.0.0.0/30") })
        #expect(jobs.problems.allSatisfy { $0.hasSuffix("; give it a larger prefix") })
    }
}
