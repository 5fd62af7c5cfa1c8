import Testing
import TopologyModel

/// `link = { … }` of hosts and routers.
struct LinkTests {
    private func link(_ text: String) throws -> Topology.Link? {
        let source = Array("name = \"lab\"\n[host.a]\non = \"internet\"\n\(text)".utf8)
        let result = TopologyFile.parse(bytes: source, fileName: "lab.toml")
        let errors = DiagnosticRenderer(source: source).text(result.diagnostics)
        return try #require(result.topology, "\(errors)").hosts.first?.link
    }

    private func refusal(_ text: String) -> String? {
        let source = Array("name = \"lab\"\n[host.a]\non = \"internet\"\n\(text)".utf8)
        let result = TopologyFile.parse(bytes: source, fileName: "lab.toml")
        return result.topology == nil ? result.diagnostics.first?.message : nil
    }

    @Test func allAndNone() throws {
        let all = try #require(
            try link("link = { delay = \"40ms\", jitter = \"5ms\", loss = \"2%\", rate = \"10mbit\" }"))
        #expect(all.delay == 40_000 && all.jitter == 5000 && all.loss == 20_000 && all.rate == 10_000_000)
        #expect(try link("") == nil)
        let table = try #require(try link("[host.a.link]\nloss = \"0.5%\""))
        #expect(table.delay == 0 && table.jitter == 0 && table.loss == 5000 && table.rate == nil)
    }

    @Test(
        arguments: [
            ("1us", 1), ("0.001ms", 1), ("0.5ms", 500), ("40ms", 40_000), ("1.25s", 1_250_000),
            ("10s", 10_000_000),
            ("0040.000ms", 40_000), ("10.000000000s", 10_000_000),
        ] as [(String, UInt64)])
    func delays(_ text: String, _ microseconds: UInt64) throws {
        #expect(try link("link = { delay = \"\(text)\" }")?.delay == microseconds)
    }

    @Test(
        arguments: [("0%", 0), ("0.0001%", 1), ("2.5%", 25_000), ("100%", 1_000_000), ("99.9999%", 999_999)]
            as [(String, UInt64)])
    func losses(_ text: String, _ ppm: UInt64) throws {
        #expect(try link("link = { loss = \"\(text)\" }")?.loss == ppm)
    }

    @Test(
        arguments: [
            ("1000bit", 1000), ("56kbit", 56_000), ("1.544mbit", 1_544_000), ("0.001gbit", 1_000_000),
            ("100gbit", 100_000_000_000),
        ] as [(String, UInt64)])
    func rates(_ text: String, _ bits: UInt64) throws {
        #expect(try link("link = { rate = \"\(text)\" }")?.rate == bits)
    }

    @Test(arguments: [
        "delay = \"10001ms\"", "delay = \"0s\"", "delay = \"1e3ms\"", "delay = \"+1ms\"", "delay = \"1,5ms\"",
        "delay = \"١ms\"", "delay = \"18446744073709551616s\"", "delay = \"1ms\\u0000\"",
        "loss = \"100.0001%\"",
        "rate = \"100.1gbit\"", "rate = \"999bit\"", "rate = \"0.5bit\"", "rate = \"10mbps\"",
        "delay = \"1.99999999999999999999999999s\"", "delay = \"1ms\", jitter = \"1.001ms\"",
    ])
    func refused(_ text: String) { #expect(refusal("link = { \(text) }") != nil) }

    @Test func aRoutersLinkIsItsUplink() throws {
        let source = """
            name = "lab"
            [router.r]
            uplink = "internet"
            lan = "10.0.0.0/24"
            nat = "masquerade"
            link = { delay = "1ms", jitter = "1ms" }
            """
        let result = TopologyFile.parse(bytes: Array(source.utf8), fileName: "lab.toml")
        #expect(result.topology?.routers.first?.link?.jitter == 1000)
    }
}
