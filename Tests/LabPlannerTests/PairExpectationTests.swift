import LabPlanner
import Testing
import TopologyModel

/// What a plan expects of pairs is what theory says of each by itself, although it judges only one of a kind.
struct PairExpectationTests {
    /// Hosts behind every sort of NAT: alone, two on a LAN, below a carrier, on segments, behind routers without NAT.
    private func topology(_ rest: String) -> String {
        let nats =
            [
                "full-cone", "restricted-cone", "port-restricted-cone", "symmetric", "masquerade", "adm-eif",
                "adm-adf",
                "apdm-adf", "none",
            ].map { "\"\($0)\"" } + [
                "{ mapping = \"address-dependent\", pooling = \"arbitrary\" }",
                "{ filtering = \"address-dependent\", hairpin = true }",
                "{ mapping = \"address-dependent\", filtering = \"address-dependent\", pooling = \"arbitrary\" }",
            ]
        var text = ""
        var members: [String] = ["plain", "other", "server"]
        for (number, nat) in nats.enumerated() {
            let wan =
                nat.contains("pooling")
                ? "wan = [\"203.0.113.\(100 + number)\", \"203.0.113.\(200 + number)\"]" : ""
            text += """
                [router.r\(number)]
                uplink = "\(number % 2 == 0 ? "internet" : "isp")"
                lan = "10.\(number).0.0/16"
                nat = \(nat)
                \(wan.replacing("203.0.113", with: number % 2 == 0 ? "203.0.113" : "198.51.100"))
                [router.home\(number)]
                uplink = "r\(number)"
                lan = "192.168.1.0/24"
                nat = "\(number % 3 == 0 ? "masquerade" : "full-cone")"
                [host.a\(number)]
                on = "r\(number)"
                [host.b\(number)]
                on = "r\(number)"
                [host.c\(number)]
                on = "home\(number)"

                """
            members += ["a\(number)", "b\(number)", "c\(number)"]
        }
        return """
            [segment.internet]
            prefix = "203.0.113.0/24"
            [segment.isp]
            prefix = "198.51.100.0/24"
            [host.plain]
            on = "isp"
            [host.other]
            on = "internet"
            [host.server]
            on = "internet"
            [wireguard.wg0]
            prefix = "172.16.0.0/16"
            members = [\(members.map { "\"\($0)\"" }.joined(separator: ", "))]

            """ + text + rest
    }

    @Test(arguments: [
        "", "[rendezvous]\nhost = \"server\"", "[rendezvous]\nhost = \"a4\"", "[rendezvous]\nhost = \"a8\"",
        "[rendezvous]\nhost = \"a4\"\nendpoint = \"203.0.113.99:1234\"",
        "[rendezvous]\nhost = \"server\"\n[router.dark]\nuplink = \"internet\"\nlan = \"192.168.7.0/24\"\nnat = \"blocked\"",
        "[rendezvous]\nhost = \"server\"\n[host.a1.wireguard.wg0.peer.a4]\nendpoint = \"203.0.113.99:51820\"",
    ])
    func eachIsWhatTheorySaysOfIt(_ rest: String) throws {
        let result = TopologyFile.parse(bytes: Array(topology(rest).utf8), fileName: "lab.toml")
        let plan = compile(
            try #require(
                result.topology, "\(result.diagnostics.filter { $0.severity == .error }.map(\.message))"))
        let theory = TraversalTheory(plan)
        #expect(plan.pairs.count == 39 * 38 / 2)
        let wrong = plan.pairs.filter {
            theory.verdict($0.from, $0.to, interface: "wg0").path != $0.expected
        }
        #expect(wrong.isEmpty, "\(wrong.prefix(3).map { "\($0.from) \($0.to)" })")
        #expect(Set(plan.pairs.map(\.expected)).count == 2)
    }
}
