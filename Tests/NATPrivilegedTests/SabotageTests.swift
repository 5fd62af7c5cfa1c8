import SystemCalls
import TestSupport
import Testing

/// A rule that is taken out of a router, and what `natlab nat` has to say then.
struct Sabotage {
    enum Rule {
        /// The only rule of the chain with this text, in the table `natlab`.
        case nftables(chain: String, String)
        case iptables(table: String, String)
    }

    /// The router's `nat` in TOML, and further keys of it; NAME is its name, ONE and TWO addresses that nobody has.
    var nat: String
    var hosts: [String] = []
    var rule: Rule
    /// Properties that differ, among others.
    var changed: Set<String>

    private static func cut(_ nat: String, _ chain: String, _ text: String, _ changed: Set<String>)
        -> Sabotage
    {
        Sabotage(nat: nat, rule: .nftables(chain: chain, text), changed: changed)
    }

    private static func cut(_ nat: String, iptables table: String, _ rule: String, _ changed: Set<String>)
        -> Sabotage
    {
        Sabotage(nat: nat, hosts: ["a", "b"], rule: .iptables(table: table, rule), changed: changed)
    }

    private static let everything: Set<String> = ["translated", "mapping", "ports"]
    private static let static_ =
        "\nforward = [{ port = 51820, to = \"NAME-a\" }]\none-to-one = { NAME-b = \"TWO\" }"
    /// Other ports each time, so that what an earlier measurement left counts for nothing.
    private static let sequentialHairpin = "{ ports = \"sequential\", hairpin = true }"
    private static let hairpin = "{ filtering = \"address-dependent\", hairpin = true }"

    /// Each rule whose work is seen at all while nothing has run out.
    ///
    /// Left out are those that only keep mappings alive (updates in the reply's direction), and the guard against two
    /// mappings with one port, which only a rare race would need.
    static let all: [Sabotage] = [
        cut("\"eim-eif\"", "incoming", "map @inside0", ["filtering", "unsolicited"]),
        cut("\"eim-eif\"", "choose", "map @outside", ["mapping"]),
        cut("\"eim-eif\"", "choose", "goto external0", everything),
        cut("\"eim-eif\"", "outgoing", "oifname \"wan0\"", everything),
        cut("\"eim-eif\"", "external0", "udp sport != @used0", ["ports"]),
        cut("\"eim-eif\"", "track", "jump record", ["filtering", "same port"]),
        cut("\"eim-eif\"", "record", "ct direction original update @outside", ["mapping"]),
        cut("\"eim-eif\"", "record", "ct direction original update @inside0", ["filtering"]),
        cut("\"eim-eif\"", "record", "ct direction original update @used0", ["same port"]),
        cut("\"eim-eif\"", "record", "ct direction original update @owner0", ["mapping"]),
        cut("\"eim-eif\"", "forward", "ct state", ["lan"]),
        cut("\"eim-eif\"", "external0", "meta l4proto != udp", ["TCP mapping"]),
        cut("\"eim-eif\"", "external0", "udp snat ip to numgen", ["same port"]),
        cut("\"eim-eif\"", "input", "ct state", ["closed port"]),
        cut("\"eim-adf\"", "input", "ct state", ["closed port"]),
        cut("\"apdm-adf\"", "external0", "meta l4proto != udp", ["TCP mapping"]),
        cut("{ udp = \"reject\" }", "forward", "reject", ["udp"]),
        cut("\"eim-adf\"", "incoming", "map @inside0", ["filtering"]),
        cut("\"eim-adf\"", "track", "!= @seen drop", ["filtering", "unsolicited"]),
        cut("\"eim-adf\"", "record", "ct direction original update @seen", ["filtering"]),
        cut("\"eim-apdf\"", "choose", "map @outside", ["mapping", "outside first"]),
        cut("\"eim-apdf\"", "record", "ct direction original update @used0", ["same port"]),
        cut("\"eim-apdf\"", "input", "ct state", ["outside first", "unsolicited"]),
        cut("\"eim-apdf\"", "forward", "ct state", ["lan"]),
        cut("\"adm-adf\"", "incoming", "map @inside0", ["filtering"]),
        cut("\"adm-adf\"", "choose", "map @outside", ["mapping"]),
        cut("\"adm-adf\"", "external0", "udp snat ip to numgen", everything),
        cut("\"adm-adf\"", "track", "jump record", ["mapping", "filtering"]),
        cut("\"adm-adf\"", "track", "!= @seen drop", ["filtering", "unsolicited"]),
        cut("\"adm-adf\"", "record", "ct direction original update @outside", ["mapping"]),
        cut("\"adm-adf\"", "record", "ct direction original update @inside0", ["filtering"]),
        cut("\"adm-adf\"", "record", "ct direction original update @owner0", ["mapping"]),
        cut("\"adm-adf\"", "record", "ct direction original update @seen", ["filtering"]),
        cut("\"apdm-eif\"", "incoming", "map @inside0", ["filtering", "unsolicited"]),
        cut("\"apdm-eif\"", "record", "ct direction original update @inside0", ["filtering"]),
        cut("\"apdm-eif\"", "external0", "udp snat ip to numgen", everything),
        cut("\"apdm-apdf\"", "choose", "goto external0", everything),
        cut("\"apdm-apdf\"", "external0", "udp snat ip to numgen", everything),
        cut("\"apdm-apdf\"", "forward", "ct state", ["lan"]),
        cut(hairpin, "incoming", "map @inside0", ["filtering", "hairpin"]),
        cut(hairpin, "outgoing", "iifname \"lan0\"", ["hairpin"]),
        cut(sequentialHairpin, "track", "iifname \"lan0\"", ["hairpin"]),
        cut(sequentialHairpin, "track", "!= @seen drop", ["filtering", "unsolicited"]),
        cut(sequentialHairpin, "record", "ct direction original update @seen", ["hairpin"]),
        cut("{ ports = \"sequential\" }", "external0", "numgen inc mod 1024", everything),
        cut("{ ports = \"block\" }", "external0", "udp snat ip to ip saddr & 0.0.0.15", everything),
        cut("{ pooling = \"arbitrary\" }\nwan = [\"ONE\", \"TWO\"]", "choose", "vmap", everything),
        Sabotage(
            nat: "\"eim-apdf\"" + static_, hosts: ["a", "b"],
            rule: .nftables(chain: "incoming", "map @forward_udp_in"), changed: ["forwards"]),
        Sabotage(
            nat: "\"eim-apdf\"" + static_, hosts: ["a", "b"],
            rule: .nftables(chain: "incoming", "map @one_to_one_in"), changed: ["forwards"]),
        cut("\"masquerade\"", iptables: "nat", "POSTROUTING -o wan0 -j MASQUERADE", everything),
        cut(
            "\"blocked\"", iptables: "nat", "POSTROUTING -o wan0 -j MASQUERADE",
            ["translated", "TCP mapping"]),
        cut("\"blocked\"", iptables: "filter", "FORWARD -p udp -j DROP", ["udp"]),
        cut(
            "\"rejected\"", iptables: "filter", "INPUT -i wan0 -m conntrack --ctstate NEW,INVALID -j DROP",
            ["closed port"]),
        cut(
            "\"rejected\"", iptables: "filter",
            "FORWARD -i wan0 -m conntrack --ctstate NEW,INVALID -m conntrack ! --ctstate DNAT -j DROP",
            ["lan"]),
        cut(
            "\"masquerade\"", iptables: "filter", "INPUT -i wan0 -m conntrack --ctstate NEW,INVALID -j DROP",
            ["outside first", "unsolicited"]),
        cut(
            "\"masquerade\"", iptables: "filter",
            "FORWARD -i wan0 -m conntrack --ctstate NEW,INVALID -m conntrack ! --ctstate DNAT -j DROP",
            ["lan"]),
        cut(
            "\"masquerade\"" + static_, iptables: "nat",
            "PREROUTING -i wan0 -d TWO -j DNAT --to-destination 192.168.1.3", ["forwards"]),
    ]

    /// For the router of this number.
    func text(_ text: String, number: Int) -> String {
        text.replacing("NAME", with: Self.name(number)).replacing(
            "ONE", with: "203.0.113.\(100 + 2 * number)"
        )
        .replacing("TWO", with: "203.0.113.\(101 + 2 * number)")
    }

    static func name(_ number: Int) -> String { "r\(number)" }
}

/// Every rule does something that is measured: without it `natlab nat` says which property changed.
@Suite(.serialized) struct SabotageTests {
    @Test func eachIsNoticedAndItsMendToo() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let cases = Sabotage.all.enumerated().map { (number: $0.offset, sabotage: $0.element) }
            let lab = try natlab.writeLab(
                cases.map { number, sabotage in
                    let name = Sabotage.name(number)
                    return Lab.home(
                        name, sabotage.text(sabotage.nat, number: number),
                        hosts: sabotage.hosts.map { "\(name)-\($0)" })
                }.joined())
            try lab.up()
            try lab.expectAsDeclared()
            for (number, sabotage) in cases {
                let rules = RouterRules(lab: lab, router: Sabotage.name(number))
                switch sabotage.rule {
                case .nftables(let chain, let text): try rules.delete(text, in: chain)
                case .iptables(let table, let rule):
                    try rules.delete(iptables: sabotage.text(rule, number: number), from: table)
                }
            }
            let (status, result) = try lab.nat()
            #expect(status == .exited(1) && !result.ok && result.problems == [])
            for (number, sabotage) in cases {
                let router = try #require(result.router(Sabotage.name(number)))
                #expect(
                    !router.ok && router.changed.isSuperset(of: sabotage.changed),
                    "\(sabotage.nat) without \(sabotage.rule): \(router.differences)")
            }
            for (number, _) in cases { try RouterRules(lab: lab, router: Sabotage.name(number)).reload() }
            try lab.expectAsDeclared()
        }
    }
}
