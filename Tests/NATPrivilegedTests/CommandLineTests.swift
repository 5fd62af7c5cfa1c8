import FoundationEssentials
import Glibc
import SystemCalls
import TestSupport
import Testing

/// `natlab nat` as people call it, in labs that are easy to forget.
@Suite(.serialized) struct CommandLineTests {
    @Test func refusesWhatIsNotThere() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let missing = try natlab.run("nat", "--lab", uniqueName("missing"))
            #expect(missing.status == .exited(4) && missing.error.contains("no lab"), "\(missing.error)")
            let lab = try natlab.writeLab(Lab.home("one", "\"eim-eif\"") + Lab.home("two", "\"eim-adf\""))
            try lab.up()
            let unknown = try natlab.run("nat", "--lab", lab.name, "one", "three")
            #expect(unknown.status == .exited(2) && unknown.output == "")
            #expect(unknown.error.contains("no router 'three'; its routers are one, two"), "\(unknown.error)")
            #expect(try natlab.run("nat", "--lab", lab.name, "--lifetime", "0").status == .exited(2))
        }
    }

    @Test func aLabWithoutRouters() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeLab("[host.a]\non = \"internet\"\n")
            try lab.up()
            let text = try natlab.succeed("nat", "--lab", lab.name)
            #expect(text == "lab '\(lab.name)' has no router: nothing to measure\n")
            let result = try lab.expectAsDeclared()
            #expect(result.routers.isEmpty && result.paths.isEmpty && result.problems == [])
        }
    }

    /// No host, no WireGuard, no rendezvous: a router is measured all the same.
    @Test(arguments: ["apdm-adf", "masquerade", "none", "blocked", "rejected"]) func aRouterAlone(
        _ nat: String
    ) throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeLab(Lab.home("alone", "\"\(nat)\""))
            try lab.up()
            let result = try lab.expectAsDeclared()
            let router = try #require(result.router("alone"))
            let udp = ["blocked": "drop", "rejected": "reject"][nat] ?? "forward"
            #expect(router.measured("udp") == .word(udp))
            if nat == "none" { #expect(router.measured("translated") == false) }
        }
    }

    /// Where the probes find no addresses, it says which prefix is too small, and measures the others.
    @Test func prefixesWithoutRoom() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeLab(
                """
                [segment.internet]
                prefix = "203.0.113.0/24"
                [segment.narrow]
                prefix = "198.51.100.0/30"
                [router.tight]
                uplink = "internet"
                lan = "10.1.1.0/30"
                [host.h]
                on = "tight"
                [router.squeezed]
                uplink = "narrow"
                lan = "192.168.1.0/24"
                [router.roomy]
                uplink = "internet"
                lan = "10.1.2.0/29"

                """)
            try lab.up()
            let (status, result) = try lab.nat()
            #expect(status == .exited(1) && !result.ok)
            #expect(result.routers.map(\.router) == ["roomy"] && result.routers.allSatisfy(\.ok))
            #expect(result.problems.count == 2)
            for (router, prefix) in [("tight", "10.1.1.0/30"), ("squeezed", "198.51.100.0/30")] {
                #expect(
                    result.problems.contains {
                        $0.hasPrefix("\(router) cannot be measured: ") && $0.contains("\(prefix) has no room")
                            && $0.contains("give it a larger prefix")
                    }, "\(result.problems)")
            }
        }
    }

    @Test func twoAtOnce() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeLab(
                Lab.home("one", "\"eim-eif\"") + Lab.home("two", "\"adm-adf\"")
                    + Lab.home("three", "\"masquerade\""))
            try lab.up()
            let running = try (0..<2).map { _ in try natlab.begin(["nat", "--lab", lab.name]) }
            for program in running {
                let output = try program.finish()
                #expect(output.status == .exited(0), "\(output.output)\(output.error)")
            }
            try lab.expectAsDeclared()
        }
    }

    @Test func jUnitAndText() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeLab(
                Lab.home("good", "\"eim-eif\"") + Lab.home("bad", "\"masquerade\""))
            try lab.up()
            let count = "len(t.findall('.//testcase')), [f.get('message') for f in t.findall('.//failure')]"
            try natlab.succeed("nat", "--lab", lab.name, "--junit", "good.xml")
            #expect(try xml(natlab, "good.xml", count) == "2 []\n")
            try RouterRules(lab: lab, router: "bad").delete(
                iptables: "POSTROUTING -o wan0 -j MASQUERADE", from: "nat")
            let output = try natlab.run("nat", "--lab", lab.name, "--junit", "bad.xml")
            #expect(output.status == .exited(1))
            #expect(output.output.contains("NOT AS DECLARED"))
            #expect(output.output.contains("bad: translated: declared yes, measured no"))
            let cases = try xml(natlab, "bad.xml", count)
            #expect(cases.hasPrefix("2 [") && cases.contains("translated: declared yes, measured no"))
            // One that is named is shown whole.
            let card = try natlab.succeed("nat", "--lab", lab.name, "good")
            #expect(card.hasPrefix("good (eim-eif)\nPROPERTY") && card.contains("ICMP errors"))
        }
    }

    /// Each key of a router is there, null where there is nothing.
    @Test func keys() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeLab(Lab.home("one", "\"eim-eif\""))
            try lab.up()
            let output = try natlab.succeed("nat", "--lab", lab.name, "--json")
            let result = try JSONDecoder().decode([String: Keys].self, from: Data(output.utf8))
            #expect(Set(result.keys) == ["lab", "ok", "routers", "paths", "problems"])
            let router = try #require(result["routers"]?.elements.first)
            #expect(
                Set(router.keys) == [
                    "router", "nat", "ok", "declared", "measured", "differences", "evidence",
                ])
            let properties: Set<String> = [
                "translated", "udp", "mapping", "filtering", "ports", "hairpin", "pooling", "udp_timeout_s",
                "same_port", "outside_first", "unsolicited", "remote_port", "lan", "port_preservation",
                "port_parity", "outbound_refresh", "inbound_refresh", "icmp_errors", "fragments",
                "tcp_mapping", "forwards",
            ]
            for card in ["declared", "measured"] {
                #expect(properties.isSubset(of: Set(try #require(router[card]).keys)))
            }
        }
    }
}

/// Any JSON value, as far as its keys go.
private struct Keys: Decodable {
    var keys: [String]
    var elements: [[String: Keys]]

    init(from decoder: any Decoder) throws {
        keys = (try? [String: Keys](from: decoder)).map { Array($0.keys) } ?? []
        elements = (try? [[String: Keys]](from: decoder)) ?? []
    }
}
