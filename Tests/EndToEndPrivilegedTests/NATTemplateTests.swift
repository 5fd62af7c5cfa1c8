import SystemCalls
import TestSupport
import Testing

/// The templates about NATs, each as a user runs it; each is drawn in its file.
@Suite(.serialized) struct NATTemplateTests {
    /// `natlab nat --json`, as far as it is judged here.
    private struct Measured: Decodable {
        struct Router: Decodable {
            var router: String
            var ok: Bool
            var differences: [String]
        }
        struct Path: Decodable {
            var via: [String]
            var ok: Bool
            var differences: [String]
        }
        var ok: Bool
        var routers: [Router]
        var paths: [Path]
        var problems: [String]
    }

    /// up, verify, nat, down; what verify saw is for the caller to look at.
    private func run(
        _ template: String, routers: Int, paths: [[String]] = [], _ judge: (Verdicts) throws -> Void
    )
        throws
    {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate(template)
            try natlab.succeed("check", "--strict", lab.file)
            try lab.up()
            let verdicts = try natlab.json(Verdicts.self, "verify", "--lab", lab.name)
            for pair in verdicts.pairs { #expect(pair.ok, "\(pair.from) - \(pair.to): \(pair.reason)") }
            #expect(verdicts.ok && verdicts.problems.isEmpty, "\(verdicts.problems)")
            try judge(verdicts)
            let measured = try natlab.json(Measured.self, "nat", "--lab", lab.name)
            #expect(
                measured.ok,
                "\(measured.routers.flatMap(\.differences) + measured.paths.flatMap(\.differences) + measured.problems)"
            )
            #expect(measured.routers.count == routers && measured.paths.map(\.via) == paths)
            // The measurement has left nothing that would keep the hosts from each other.
            let again = try natlab.json(Verdicts.self, "verify", "--lab", lab.name)
            #expect(again.ok, "\(again.pairs.filter { !$0.ok }.map(\.reason))")
            let down = try natlab.succeed("down", "--lab", lab.name)
            #expect(down.contains("nothing is left"))
            try MachineSnapshot.expectNothing(named: lab.name)
        }
    }

    @Test func sameNAT() throws {
        try run("same-nat", routers: 1) { verdicts in
            let pair = try #require(verdicts.pair("desktop", "laptop"))
            #expect(pair.observed == "direct" && pair.endpoint == "192.168.1.3:51820")
            #expect([pair.endpoint_owner, pair.return_endpoint_owner] == ["laptop", "desktop"])
        }
    }

    @Test func fullCone() throws {
        try run("full-cone", routers: 2) { verdicts in
            #expect(verdicts.pairs.count == 6 && verdicts.pairs.allSatisfy { $0.observed == "direct" })
            // Two hosts with one source port have two ports outside, one of them its own.
            let seen = try ["alice", "bob"].map { try #require(verdicts.pair("hub", $0)?.endpoint) }
            #expect(seen[0] != seen[1] && seen.contains("203.0.113.2:51820"), "\(seen)")
            #expect(seen.allSatisfy { $0.hasPrefix("203.0.113.2:") }, "\(seen)")
        }
    }

    @Test func symmetric() throws {
        try run("symmetric", routers: 3) { verdicts in
            let failing = try #require(verdicts.pair("phone", "laptop"))
            #expect(failing.expected == "none" && failing.observed == "none")
            for pair in verdicts.pairs where Set([pair.from, pair.to]) != ["phone", "laptop"] {
                #expect(pair.expected == "direct" && pair.observed == "direct")
            }
        }
    }

    @Test func hairpin() throws {
        try run("hairpin", routers: 3, paths: [["home-a", "carrier"], ["home-b", "carrier"]]) { verdicts in
            let pair = try #require(verdicts.pair("alpine1", "alpine2"))
            #expect(pair.observed == "direct")
            #expect([pair.endpoint_owner, pair.return_endpoint_owner] == ["carrier", "carrier"])
        }
    }

    /// The lifetime is measured too, so this takes its 20 s and some more.
    @Test func carrier() throws {
        try run("carrier", routers: 3, paths: [["home", "carrier"]]) { verdicts in
            #expect(verdicts.pairs.count == 6 && verdicts.pairs.allSatisfy { $0.observed == "direct" })
            // Each has an external address and the first block of ports there.
            for (host, address) in [("laptop", "203.0.113.20"), ("phone", "203.0.113.21")] {
                let endpoint = try #require(verdicts.pair("hub", host)?.endpoint)
                let parts = endpoint.split(separator: ":")
                try #require(parts.count == 2)
                #expect(parts[0] == address && (1024..<1280).contains(Int(parts[1]) ?? 0), "\(endpoint)")
            }
        }
    }

    @Test func matrix() throws {
        try run("matrix", routers: 4) { verdicts in
            #expect(verdicts.pairs.count == 10)
            let failing = verdicts.pairs.filter { $0.observed == "none" }
            #expect(failing.map { Set([$0.from, $0.to]) } == [["port-restricted", "symmetric"]])
            #expect(failing.allSatisfy { $0.expected == "none" })
        }
    }
}
