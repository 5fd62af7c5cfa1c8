import SystemCalls
import TestSupport
import Testing

/// What `why` says of the experiment that docs/not-found.md tells, and of its mend.
///
/// ```
///                      server 203.0.113.10 (rendezvous, asked at 10.66.66.1:1234: through the tunnel)
///                       │
///       ────────────────┴──────────── internet 203.0.113.0/24
///          │                        │
///        home-a  MASQUERADE       home-b  MASQUERADE
///          │                        │
///        alpine1 10.66.66.2       alpine2 10.66.66.3
/// ```
@Suite(.serialized) struct NotFoundCauseTests {
    @Test func bothCausesAreNamed() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = WhyLab(lab: try natlab.writeTemplate("not-found"))
            try lab.up()
            for (from, to) in [("alpine1", "alpine2"), ("alpine2", "alpine1")] {
                let why = try lab.expect("not-mutual-peers", at: nil, from, to)
                #expect(why.verdict.contains("each has only server"), "\(why.verdict)")
                #expect(why.findings.dropFirst().map(\.cause) == Self.throughTunnel, "\(why.findings)")
                #expect(why.findings.map(\.node) == [nil, from, to], "\(why.findings)")
                for finding in why.findings.dropFirst() {
                    #expect(finding.text.contains("10.66.66.1:1234"), "\(finding)")
                    #expect(finding.mend?.contains("203.0.113.10:1234") == true, "\(finding)")
                }
                #expect(why.directions.allSatisfy { $0.sent == 0 }, "\(why.directions)")
                #expect(why.gaps.isEmpty, "\(why.gaps)")
            }
            // The hub's tunnel needs no rendezvous.
            for host in ["alpine1", "alpine2"] {
                let hub = try lab.why(host, "server")
                #expect(hub.connected && hub.findings.isEmpty, "\(hub)")
            }
        }
    }

    private static let throughTunnel = ["rendezvous-through-tunnel", "rendezvous-through-tunnel"]

    /// Half of the mend leaves the other cause.
    @Test func eachCauseIsFoundAlone() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let peers = WhyLab(lab: try natlab.writeTemplate("not-found", edit: Self.withPeers))
            try peers.up()
            let inside = try peers.expect("rendezvous-through-tunnel", at: "alpine1", "alpine1", "alpine2")
            #expect(inside.findings.map(\.cause) == Self.throughTunnel, "\(inside.findings)")
            try natlab.succeed("down", "--lab", peers.lab.name)
            let outside = WhyLab(lab: try natlab.writeTemplate("not-found", edit: Self.withServerOutside))
            try outside.up()
            let strangers = try outside.expect("not-mutual-peers", at: nil, "alpine1", "alpine2")
            #expect(strangers.findings.count == 1, "\(strangers.findings)")
        }
    }

    @Test func theMendConnectsThem() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = WhyLab(
                lab: try natlab.writeTemplate("not-found") { Self.withServerOutside(Self.withPeers($0)) })
            // quickstart.toml is the same, but for the names.
            let quickstart = try natlab.writeTemplate("quickstart")
            #expect(
                try Self.lines("\(natlab.folder)/\(lab.lab.file)").map { $0.replacing("server", with: "hub") }
                    == Self.lines("\(natlab.folder)/\(quickstart.file)"))
            try lab.up()
            try lab.connect()
            let why = try lab.why("alpine1", "alpine2")
            #expect(why.connected && why.findings.isEmpty, "\(why)")
            #expect(why.directions.allSatisfy { !$0.nodes.contains("server") }, "\(why)")
        }
    }

    private static func withPeers(_ text: String) -> String {
        text.replacing("\"hub:server\"", with: "\"mesh\"")
    }

    private static func withServerOutside(_ text: String) -> String {
        text.replacing("endpoint = \"10.66.66.1:1234\"", with: "")
    }

    /// Without comments, empty lines and the lab's name.
    private static func lines(_ file: String) throws -> [String] {
        try Files.readText(file).split(separator: "\n").map(String.init).filter {
            !$0.hasPrefix("#") && !$0.hasPrefix("name = ")
        }
    }
}
