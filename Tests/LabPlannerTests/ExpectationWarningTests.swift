import LabPlanner
import Testing
import TopologyModel

struct ExpectationWarningTests {
    private func warnings(_ nat: String, _ path: String) throws -> [Diagnostic] {
        let text =
            """
            name = "lab"
            [router.r1]
            uplink = "internet"
            lan = "192.168.1.0/24"
            nat = "\(nat)"
            [router.r2]
            uplink = "internet"
            lan = "192.168.1.0/24"
            nat = "symmetric"
            [host.a]
            on = "r1"
            [host.b]
            on = "r2"
            [host.hub]
            on = "internet"
            [rendezvous]
            host = "hub"
            [wireguard.wg0]
            prefix = "10.66.66.0/24"
            members = ["a", "b"]
            [[expect]]
            between = ["b", "a"]
            path = "\(path)"
            """
        let topology = try #require(
            TopologyFile.parse(bytes: Array(text.utf8), fileName: "lab.toml").topology)
        return theoryWarnings(topology, fileName: "lab.toml")
    }

    @Test func whatTheorySaysIsNoNews() throws {
        #expect(try warnings("full-cone", "direct").isEmpty)
        #expect(try warnings("symmetric", "none").isEmpty)
    }

    @Test func theOtherIsToldWithTheReason() throws {
        let hopeless = try #require(try warnings("symmetric", "direct").first)
        #expect(hopeless.severity == .warning && hopeless.file == "lab.toml")
        #expect(hopeless.span.start == SourcePosition(line: 23, column: 8))
        #expect(
            hopeless.message.hasPrefix("by theory `a` and `b` cannot reach each other directly: r2 filters"))
        let gloomy = try #require(try warnings("full-cone", "none").first)
        #expect(
            gloomy.message
                == "by theory `a` and `b` reach each other: r1 lets in whoever sends to a's external endpoint"
                + " (endpoint-independent filtering)")
    }
}
