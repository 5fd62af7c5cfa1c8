import FoundationEssentials
import SystemCalls
import TestSupport
import Testing

/// A remote's source port that Linux rewrites, because the answer to its packet would clash with a flow of another
/// mapping: WireGuard then has an endpoint that exists on no NAT.
///
/// ```
///   a ── ra apdm-eif ──┐
///                    internet ── hub (rendezvous)
///   b ── rb eim-apdf ──┘
/// ```
@Suite(.serialized) struct TranslationTests {
    private struct Document: Decodable {
        struct Translation: Decodable {
            var router: String
            var original: String
        }
        struct Pair: Decodable {
            var ok: Bool
            var observed: String
            var endpoint: String
            var endpoint_owner: String
            var endpoint_translation: Translation?
            var return_endpoint_translation: Translation?
            var reason: String
        }
        var pairs: [Pair]
    }

    @Test(arguments: 0..<3) func isKeptAndNamed(_ run: Int) throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = natlab.adopt(uniqueName("e2e"))
            try natlab.write(
                lab.file,
                """
                name = "\(lab.name)"
                [router.ra]
                uplink = "internet"
                lan = "192.168.1.0/24"
                nat = "apdm-eif"
                [router.rb]
                uplink = "internet"
                lan = "192.168.1.0/24"
                nat = "eim-apdf"
                [host.a]
                on = "ra"
                [host.b]
                on = "rb"
                [host.hub]
                on = "internet"
                [wireguard.wg0]
                prefix = "10.66.66.0/24"
                members = ["a", "b"]
                [rendezvous]
                host = "hub"
                """)
            try lab.up()
            let pair = try #require(
                try natlab.json(Document.self, "verify", "--lab", lab.name).pairs.first)
            #expect(pair.ok && pair.observed == "direct", "\(pair.reason)")
            #expect(pair.endpoint_owner == "rb")
            #expect(pair.return_endpoint_translation == nil)
            let translation = try #require(pair.endpoint_translation, "\(pair.reason)")
            #expect(translation.router == "ra")
            #expect(translation.original == "203.0.113.3:51820")
            #expect(pair.endpoint != translation.original)
            #expect(pair.reason.contains("rb's 203.0.113.3:51820, translated by ra"))
            // conntrack(8) is the witness: ra has such a flow, rb has no such port.
            let port = try #require(pair.endpoint.split(separator: ":").last)
            let flows = try tool(in: lab.namespace("ra"), "conntrack", "-L", "-p", "udp")
            #expect(
                flows.split(separator: "\n").contains {
                    $0.contains("src=203.0.113.3 dst=203.0.113.2 sport=51820") && $0.contains("dport=\(port)")
                }, "\(flows)")
            let other = try tool(in: lab.namespace("rb"), "conntrack", "-L", "-p", "udp")
            #expect(!other.contains("=\(port) "), "\(other)")
        }
    }
}
