import LabPlanner
import Testing
import TopologyModel

struct ClientWarningTests {
    /// The rendezvous is on port 1234 behind `office`, which forwards its port 5000 there and has an address for it alone.
    private func warnings(_ endpoint: String) throws -> [Diagnostic] {
        let text = """
            name = "lab"
            [router.office]
            uplink = "internet"
            lan = "10.1.0.0/24"
            wan = ["203.0.113.20", "203.0.113.21"]
            nat = "full-cone"
            forward = [{ port = 5000, to = "server", to-port = 1234 }, { port = 5001, to = "server" }]
            one-to-one = { server = "203.0.113.22" }
            [host.server]
            on = "office"
            [host.a]
            on = "office"
            [host.a.rendezvous]
            endpoint = "\(endpoint)"
            [wireguard.wg0]
            prefix = "10.66.66.0/24"
            members = ["server", "a"]
            [rendezvous]
            host = "server"
            endpoint = "203.0.113.20:5000"
            """
        let result = TopologyFile.parse(bytes: Array(text.utf8), fileName: "lab.toml")
        return clientWarnings(
            try #require(result.topology, "\(result.diagnostics)"), fileName: "lab.toml")
    }

    @Test(arguments: ["203.0.113.20:5000", "10.1.0.2:1234", "203.0.113.22:1234"])
    func whereTheServerIsFound(_ endpoint: String) throws {
        #expect(try warnings(endpoint).isEmpty)
    }

    @Test(arguments: [
        "203.0.113.20:1234", "203.0.113.21:5000", "203.0.113.20:5001", "10.1.0.2:5000", "10.1.0.3:1234",
        "203.0.113.22:5000", "10.66.66.1:1234",
    ])
    func whereItIsNot(_ endpoint: String) throws {
        let warnings = try warnings(endpoint)
        #expect(
            warnings.map(\.message) == [
                "\(endpoint) is not where the rendezvous listens (203.0.113.20:5000): `a` will get no answer"
            ])
        #expect(warnings.map(\.severity) == [.warning])
        #expect(warnings.map(\.span.start.line) == [14])
        #expect(warnings.map(\.hint) == ["leave `endpoint` out unless you want that"])
    }
}
