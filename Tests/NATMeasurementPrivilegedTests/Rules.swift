import Testing
import NATMeasurement
import TopologyModel

/// A router's rules, and what they make of it.
struct Rules: CustomTestStringConvertible {
    var name: String
    var iptables: [String] = []
    var nft: String?
    var sysctls: [(key: String, value: String)] = []
    /// What must be measured; what is nil is not looked at.
    var mapping: NATDependence?
    var filtering: NATDependence?
    var ports: NATPorts?
    var hairpin: Hairpin?
    var early: EarlyPacket?
    var exposed: Bool?
    var sharing: PortSharing?
    var sharedDelivery: Bool?
    var unsolicited: Unsolicited?
    var tcp: NATDependence?
    var remoteSource: RemoteSource?
    var inboundRefresh: Bool?

    var testDescription: String { name }

    private static let drops = [
        "-A INPUT -i wan0 -m conntrack --ctstate NEW,INVALID -j DROP",
        "-A FORWARD -i wan0 -m conntrack --ctstate NEW,INVALID -m conntrack ! --ctstate DNAT -j DROP",
    ]
    private static let masquerading = "-t nat -A POSTROUTING -o wan0 -j MASQUERADE"

    static let masquerade = Rules(
        name: "masquerade", iptables: [masquerading], mapping: .endpointIndependent,
        filtering: .addressAndPortDependent, ports: .preserve, hairpin: Hairpin.none, early: .lost,
        exposed: true,
        sharing: .overloaded, sharedDelivery: true, unsolicited: .refused, tcp: .endpointIndependent,
        remoteSource: .kept)
    static let faithful = Rules(
        name: "masquerade with drops", iptables: [masquerading] + drops, mapping: .endpointIndependent,
        filtering: .addressAndPortDependent, ports: .preserve, hairpin: Hairpin.none, early: .kept,
        exposed: false,
        sharing: .overloaded, sharedDelivery: true, unsolicited: .silent, tcp: .endpointIndependent,
        remoteSource: .kept)
    static let randomFully = Rules(
        name: "masquerade --random-fully with drops", iptables: [masquerading + " --random-fully"] + drops,
        mapping: .addressAndPortDependent, filtering: .addressAndPortDependent, ports: .random,
        exposed: false,
        unsolicited: .silent, tcp: .addressAndPortDependent)
    static let sequential = Rules(
        name: "sequential",
        nft: """
            table ip natlab {
             chain post { type nat hook postrouting priority srcnat; policy accept;
              oifname "wan0" meta l4proto udp snat to 203.0.113.10:numgen inc mod 1000 map { \
            \(pool(40_000, 1000)) }
              oifname "wan0" masquerade
             }
            }
            """, mapping: .addressAndPortDependent, filtering: .addressAndPortDependent, ports: .sequential)
    static let block = Rules(
        name: "a block of ports for each host",
        nft: """
            table ip natlab {
             chain post { type nat hook postrouting priority srcnat; policy accept;
              oifname "wan0" meta l4proto { tcp, udp } snat ip to ip saddr map { \
            192.168.1.240 : 203.0.113.10 . 40000-40099, 192.168.1.241 : 203.0.113.10 . 40100-40199 }
             }
            }
            """, mapping: .endpointIndependent, filtering: .addressAndPortDependent, ports: .block,
        sharing: .exclusive)

    /// Plain routing.
    static let nothing = Rules(name: "no rules")
    static let stateful = Rules(
        name: "a stateful firewall without NAT",
        iptables: [
            "-A FORWARD -i wan0 -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "-A FORWARD -i wan0 -j DROP",
        ])
    static let dropped = Rules(
        name: "UDP dropped", iptables: [masquerading, "-A FORWARD -p udp -j DROP"])
    static let rejected = Rules(
        name: "UDP rejected",
        iptables: [masquerading, "-A FORWARD -p udp -j REJECT --reject-with icmp-admin-prohibited"])
    /// A router that lets only STUN's port through.
    static let stunOnly = Rules(
        name: "all UDP dropped but for 53 and 3478",
        iptables: [masquerading, "-A FORWARD -o wan0 -p udp -m multiport ! --dports 53,3478 -j DROP"])
    /// Mappings that everyone is let in at, whoever's they are: what is for the second host reaches the
    /// first.
    static let naive = Rules(
        name: "a map that is written once",
        nft: """
            table ip natlab {
             map m_in { type inet_service : ipv4_addr; flags dynamic,timeout; timeout 300s; size 4096; }
             chain pre { type nat hook prerouting priority dstnat; policy accept;
              iifname "wan0" ip daddr 203.0.113.10 dnat ip to udp dport map @m_in
             }
             chain post { type nat hook postrouting priority srcnat; policy accept;
              oifname "wan0" meta l4proto udp update @m_in { udp sport : ip saddr }
              oifname "wan0" masquerade
             }
            }
            """, mapping: .endpointIndependent, filtering: .endpointIndependent, ports: .preserve,
        early: .kept,
        sharing: .overloaded, unsolicited: .delivered)
    static func forwarding(_ lines: [String]) -> Rules {
        Rules(name: "static forwards", iptables: [masquerading] + drops + lines)
    }
    static func sourcePool(_ options: String) -> Rules {
        Rules(
            name: "four addresses\(options)",
            iptables: [
                "-t nat -A POSTROUTING -o wan0 -j SNAT --to-source 203.0.113.10-203.0.113.13\(options)"
            ])
    }
    /// Connection tracking forgets after so many seconds.
    func expiring(after seconds: Int) -> Rules {
        var rules = self
        rules.sysctls = ["", "_stream"].map { ("net.netfilter.nf_conntrack_udp_timeout\($0)", "\(seconds)") }
        return rules
    }

    static func pool(_ first: Int, _ count: Int) -> String {
        (0..<count).map { "\($0) : \(first + $0)" }.joined(separator: ", ")
    }

    /// The nine behaviours and variants of them, as sets that learn; timeouts in seconds.
    static func cone(
        _ mapping: NATDependence, _ filtering: NATDependence, hairpin: Bool = false, preserve: Bool = true,
        timeout: Int = 300
    ) -> Rules {
        let isIndependent = mapping == .endpointIndependent
        return Rules(
            name: "\(mapping.rawValue) mapping, \(filtering.rawValue) filtering"
                + (hairpin ? ", hairpin" : "") + (preserve ? "" : ", in sequence"),
            nft: coneText(mapping, filtering, hairpin, preserve, timeout),
            sysctls: [
                ("net.netfilter.nf_conntrack_udp_timeout", "\(min(timeout, 30))"),
                ("net.netfilter.nf_conntrack_udp_timeout_stream", "\(min(timeout, 120))"),
            ],
            mapping: mapping, filtering: filtering,
            ports: isIndependent ? (preserve ? .preserve : .sequential) : .random,
            hairpin: hairpin
                ? .external : isIndependent || filtering == .endpointIndependent ? Hairpin.none : nil,
            early: isIndependent || filtering == .endpointIndependent ? .kept : nil, exposed: false,
            sharing: .exclusive, sharedDelivery: true,
            unsolicited: filtering == .endpointIndependent ? .delivered : .silent,
            remoteSource: isIndependent ? .kept : filtering == .endpointIndependent ? .rewritten : nil)
    }

    private static func coneText(
        _ mapping: NATDependence, _ filtering: NATDependence, _ hairpin: Bool, _ preserve: Bool,
        _ timeout: Int
    ) -> String {
        let set = "flags dynamic,timeout; timeout \(timeout)s; size 4096"
        let (type, key) =
            switch mapping {
            case .endpointIndependent: ("", "")
            case .addressDependent: (" . ipv4_addr", " . ip daddr")
            case .addressAndPortDependent: (" . ipv4_addr . inet_service", " . ip daddr . udp dport")
            }
        let fromPool = "snat to 203.0.113.10:numgen inc mod 256 map { \(pool(61_000, 256)) }"
        let allocation =
            mapping != .endpointIndependent
            ? "meta l4proto udp snat to 203.0.113.10 fully-random"
            : preserve ? "udp sport @held \(fromPool)" : "meta l4proto udp \(fromPool)"
        let seen: (type: String, check: String)? =
            switch filtering {
            case .endpointIndependent: nil
            case .addressDependent: ("inet_service . ipv4_addr", "ct original proto-dst . ip saddr")
            case .addressAndPortDependent:
                ("inet_service . ipv4_addr . inet_service", "ct original proto-dst . ip saddr . udp sport")
            }
        func record(_ direction: String) -> [String] {
            let mappingKey =
                switch mapping {
                case .endpointIndependent: ""
                case .addressDependent: " . ct \(direction) ip daddr"
                case .addressAndPortDependent: " . ct \(direction) ip daddr . ct \(direction) proto-dst"
                }
            let inner = "ct \(direction) ip saddr . ct \(direction) proto-src"
            let rule = "  meta l4proto udp ct direction \(direction) update"
            let remote =
                "ct \(direction) ip daddr"
                + (filtering == .addressAndPortDependent ? " . ct \(direction) proto-dst" : "")
            return [
                "\(rule) @m_out { \(inner)\(mappingKey) : ip saddr . udp sport }",
                "\(rule) @m_in { udp sport : \(inner) }", "\(rule) @held { udp sport }",
            ] + (seen == nil ? [] : ["\(rule) @seen { udp sport . \(remote) }"])
        }
        let turned = #"iifname "lan0" oifname "lan0""#
        let lines =
            [
                "table ip natlab {",
                " map m_out { type ipv4_addr . inet_service\(type) : ipv4_addr . inet_service; \(set); }",
                " map m_in { type inet_service : ipv4_addr . inet_service; \(set); }",
                // m_in once more: kernels such as Debian's 6.1 do not take a map for a set.
                " set held { type inet_service; \(set); }",
            ] + (seen.map { [" set seen { type \($0.type); \(set); }"] } ?? []) + [
                " chain pre { type nat hook prerouting priority dstnat; policy accept;",
                (hairpin ? "  " : #"  iifname "wan0" "#)
                    + "ip daddr 203.0.113.10 dnat ip to udp dport map @m_in",
                " }",
                " chain post { type nat hook postrouting priority srcnat; policy accept;",
                #"  oifname "wan0" jump alloc"#,
                hairpin ? "  \(turned) ct status dnat jump alloc" : "",
                " }", " chain alloc {", "  snat ip to ip saddr . udp sport\(key) map @m_out",
                "  \(allocation)",
                "  snat to 203.0.113.10", " }",
                " chain track { type filter hook postrouting priority srcnat + 50; policy accept;",
                #"  oifname "wan0" meta l4proto udp jump rec"#,
                hairpin ? "  \(turned) meta l4proto udp ct status dnat jump rec" : "",
                seen.map {
                    #"  oifname "lan0" meta l4proto udp ct state new ct status dnat "#
                        + "\($0.check) != @seen drop"
                } ?? "",
                " }", " chain rec {",
            ] + record("original") + record("reply") + [
                " }", " chain inp { type filter hook input priority filter; policy accept;",
                #"  iifname "wan0" ct state new,invalid drop"#, " }",
                " chain forw { type filter hook forward priority filter; policy accept;",
                #"  iifname "wan0" ct status dnat accept"#, #"  iifname "wan0" ct state new,invalid drop"#,
                " }", "}",
            ]
        return lines.joined(separator: "\n") + "\n"
    }

    static let nine = NATDependence.allCases.flatMap { mapping in
        NATDependence.allCases.map { cone(mapping, $0) }
    }
    static let all =
        [masquerade, faithful, randomFully, sequential, block, naive] + nine + [
            cone(.endpointIndependent, .endpointIndependent, hairpin: true),
            cone(.endpointIndependent, .addressAndPortDependent, hairpin: true),
            cone(.endpointIndependent, .addressAndPortDependent, preserve: false),
        ]
}
