import FoundationEssentials
import SystemCalls
import TestSupport
import Testing

/// `verify` finds out why of many pairs at once.
@Suite(.serialized) struct ManyPairsTests {
    /// `verify --json` with what it says of why.
    private struct Explained: Decodable {
        struct Pair: Decodable {
            struct Explanation: Decodable {
                var cause: String?
                var verdict: String
            }
            var from: String
            var to: String
            var observed: String
            var ok: Bool
            var why: Explanation?

            var hosts: Set<String> { [from, to] }
        }
        var pairs: [Pair]
    }

    /// Homes in a mesh around a hub with the rendezvous, all expected to reach each other.
    ///
    /// ```
    ///   h1 ── r1 ──┐
    ///   h2 ── r2 ──┤
    ///    ...     internet ── hub (rendezvous)
    ///   hN ── rN ──┘
    /// ```
    private func homes(_ natlab: Natlab, _ nats: [String]) throws -> WhyLab {
        var text = ""
        for (number, nat) in zip(1..., nats) {
            text += """
                [router.r\(number)]
                uplink = "internet"
                lan = "192.168.\(number).0/24"
                nat = "\(nat)"
                [host.h\(number)]
                on = "r\(number)"

                """
        }
        let members = (1...nats.count).map { "\"h\($0)\"" }.joined(separator: ", ")
        return WhyLab(
            lab: try natlab.writeLab(
                text + """
                    [host.hub]
                    on = "internet"
                    [wireguard.wg0]
                    prefix = "10.66.66.0/24"
                    members = [\(members)]
                    [rendezvous]
                    host = "hub"
                    [[expect]]
                    between = "*"
                    path = "direct"
                    """))
    }

    /// How long `verify` may take beyond its own timeout: the watch, and the reading before and after it.
    private static let extra = Duration.seconds(isEmulated ? 60 : 12)

    private func verify(_ lab: WhyLab, _ further: String...) throws -> ProgramCall.Output {
        let start = MonotonicTime.now()
        let output = try lab.lab.natlab.run(["verify", "--lab", lab.lab.name, "--timeout", "8"] + further)
        let took = MonotonicTime.now() - start
        print("verify with a timeout of 8 s took \(took)")
        #expect(output.status == .exited(1), "\(output.error)")
        #expect(took < .seconds(8) + Self.extra)
        return output
    }

    private func explained(_ output: ProgramCall.Output) throws -> Explained {
        try JSONDecoder().decode(Explained.self, from: Data(output.output.utf8))
    }

    /// Two homes are blocked, two symmetric, of one the user drops what WireGuard sends, three are as one likes them.
    @Test func eachPairHasItsOwnCause() throws {
        try withCleanup { cleanup in
            let nats =
                ["blocked", "blocked", "symmetric", "symmetric"] + [String](repeating: "masquerade", count: 4)
            let lab = try homes(try Natlab(cleanup), nats)
            try lab.up()
            try lab.exec(
                "r5", "iptables", "-I", "FORWARD", "-i", "lan0", "-p", "udp", "--dport", "51820", "-j", "DROP"
            )
            let found = try explained(try verify(lab, "--json", "--junit", "result.xml"))
            #expect(found.pairs.count == 28)
            let direct = found.pairs.filter(\.ok)
            #expect(direct.map(\.hosts) == [["h6", "h7"], ["h6", "h8"], ["h7", "h8"]])
            #expect(direct.allSatisfy { $0.why == nil })
            let file = try Files.readText("\(lab.lab.natlab.folder)/result.xml")
            for pair in found.pairs where !pair.ok {
                let why = try #require(pair.why, "\(pair)")
                let (cause, routers) = Self.expected(of: pair.hosts)
                #expect(why.cause == cause, "\(pair)")
                // The node at fault is the one that the sentence is about.
                #expect(
                    routers.contains { why.verdict.contains(" do not reach each other directly: \($0) ") },
                    "\(pair)")
                #expect(file.contains("; why: \(JUnitText.escape(why.verdict))\""), "\(why.verdict)")
            }
        }
    }

    /// The cause, and the routers that it may be found at.
    private static func expected(of hosts: Set<String>) -> (cause: String, routers: Set<String>) {
        for (cause, culprits) in [
            // The user's rule does not stop what goes to a symmetric NAT's port, which is not 51820.
            ("udp-dropped-outbound", ["h1", "h2"]), ("symmetric-nat", ["h3", "h4"]),
            ("udp-dropped-outbound", ["h5"]),
        ] {
            let found = hosts.intersection(culprits)
            if !found.isEmpty { return (cause, Set(found.map { "r\($0.dropFirst())" })) }
        }
        return ("", [])
    }

    /// What JUnit's reader undoes.
    private enum JUnitText {
        static func escape(_ text: String) -> String {
            text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
                .replacing("\"", with: "&quot;")
        }
    }

    @Test func aFewDozenAreLookedAtAndTheOthersCounted() throws {
        try withCleanup { cleanup in
            let lab = try homes(try Natlab(cleanup), [String](repeating: "blocked", count: 9))
            try lab.up()
            let found = try explained(try verify(lab, "--json"))
            #expect(found.pairs.count == 36 && found.pairs.allSatisfy { !$0.ok })
            #expect(found.pairs.prefix(32).allSatisfy { $0.why?.cause == "udp-dropped-outbound" })
            #expect(found.pairs.suffix(4).allSatisfy { $0.why == nil })
            let lines = try verify(lab).output.split(separator: "\n")
            #expect(lines.count { $0.hasPrefix("  why: ") } == 32)
            #expect(lines.contains("4 further pairs not looked at: natlab why A B"))
        }
    }

    /// Of a pair that is connected nothing has to be waited for.
    @Test func connectedPairsTakeNoTime() throws {
        try withCleanup { cleanup in
            let lab = try WhyLab.homes(try Natlab(cleanup))
            try lab.up()
            try lab.connect()
            let start = MonotonicTime.now()
            let why = try lab.why("a", "b")
            let took = MonotonicTime.now() - start
            print("why of a connected pair took \(took)")
            #expect(why.connected && took < .seconds(isEmulated ? 20 : 1))
        }
    }
}
