import FoundationEssentials
import LabPlanner
import Testing

/// The rules of a few routers, to the byte: Tests/Goldens/nat.
///
/// NATLAB_WRITE_GOLDENS=1 writes them anew.
struct NATRuleGoldenTests {
    private static let folder = PlanGoldenTests.folder.deletingLastPathComponent().appending(path: "nat")

    /// By the golden's name: the router's `nat` and what stands beside it.
    static let routers: KeyValuePairs = [
        "eim-eif": "nat = \"eim-eif\"",
        "adm-adf-hairpin":
            "nat = { mapping = \"address-dependent\", filtering = \"address-dependent\", hairpin = true }",
        "apdm-apdf-sequential": "nat = { mapping = \"address-and-port-dependent\", ports = \"sequential\" }",
        "block-two-addresses-paired":
            "nat = { ports = \"block\", block-size = 100 }\nwan = [\"203.0.113.20\", \"203.0.113.21\"]",
        "forward-and-one-to-one":
            """
        nat = { filtering = "address-dependent", udp-timeout = "30s" }
        forward = [{ port = 51820, to = "a" }, { port = 80, to = "b", to-port = 8080, protocol = "tcp" }]
        one-to-one = { c = "203.0.113.30" }
        """,
        "masquerade-with-forward-and-one-to-one":
            """
        nat = "masquerade"
        forward = [{ port = 7000, to = "a", to-port = 51820 }]
        one-to-one = { c = "203.0.113.30" }
        """,
        "rejected": "nat = \"rejected\"",
    ]

    private func rules(_ text: String) throws -> String {
        let plan = try plan(
            """
            [router.r]
            uplink = "internet"
            lan = "192.168.1.0/24"
            \(text)
            [host.a]
            on = "r"
            [host.b]
            on = "r"
            [host.c]
            on = "r"
            """)
        let loads = plan.steps.compactMap { step -> String? in
            switch step.effect {
            case .loadNftables("lab.r", let text), .loadFirewall("lab.r", let text): text
            default: nil
            }
        }
        return try #require(loads.count == 1 ? loads.first : nil)
    }

    @Test(arguments: routers.map(\.key)) func rulesOf(_ name: String) throws {
        let text = try rules(try #require(Self.routers.first { $0.key == name }?.value))
        let url = Self.folder.appending(path: "\(name).txt")
        if ProcessInfo.processInfo.environment["NATLAB_WRITE_GOLDENS"] != nil {
            try Data(text.utf8).write(to: url)
        } else {
            #expect(text == String(decoding: try Data(contentsOf: url), as: UTF8.self))
        }
    }
}
