import FoundationEssentials
import LabPlanner
import NetAddress
import Testing

struct TunnelPlanTests {
    /// hub on the internet; a and b behind one NAT each; c behind a router that only routes.
    private let nodes = """
        [router.home-a]
        uplink = "internet"
        lan = "192.168.1.0/24"
        [router.home-b]
        uplink = "internet"
        lan = "192.168.1.0/24"
        [router.office]
        uplink = "internet"
        lan = "10.1.0.0/24"
        nat = "none"
        [host.hub]
        on = "internet"
        [host.a]
        on = "home-a"
        [host.b]
        on = "home-b"
        [host.c]
        on = "office"

        """
    private let network = """
        [wireguard.wg0]
        prefix = "10.66.66.0/24"
        members = ["hub", "a", "b", "c"]

        """

    private func peers(_ plan: LabPlan, _ host: String, _ interface: String = "wg0") throws -> [String:
        PlannedPeer]
    {
        let tunnel = try #require(plan.tunnel(host: host, interface: interface))
        return Dictionary(uniqueKeysWithValues: tunnel.peers.map { ($0.host, $0) })
    }

    @Test func aMesh() throws {
        let plan = try plan(nodes + network)
        #expect(plan.tunnels.map(\.address.description) == (1...4).map { "10.66.66.\($0)/24" })
        #expect(plan.tunnels.map { $0.peers.map(\.host) }.first == ["a", "b", "c"])
        let ofA = try peers(plan, "a")
        #expect(ofA["hub"]?.allowedIPs.map(\.description) == ["10.66.66.1/32"])
        // On a segment, or behind a router that only routes: known from the start. Behind a NAT: not.
        #expect(ofA["hub"]?.endpoint == Endpoint("203.0.113.5:51820"))
        #expect(ofA["c"]?.endpoint == Endpoint("10.1.0.2:51820"))
        #expect(ofA["b"]?.endpoint == nil)
        #expect(ofA.values.allSatisfy { $0.keepalive == 25 })
        #expect(try peers(plan, "hub").values.allSatisfy { $0.keepalive == 0 })
        #expect(try peers(plan, "c").values.allSatisfy { $0.keepalive == 0 })
        #expect(
            plan.pairs.map { "\($0.from)-\($0.to)" } == ["hub-a", "hub-b", "hub-c", "a-b", "a-c", "b-c"])
        #expect(plan.pairs.allSatisfy { $0.interface == "wg0" })
        // Without a rendezvous nobody tells two hosts behind NATs of each other.
        #expect(plan.pairs.filter { $0.expected == .none }.map { "\($0.from)-\($0.to)" } == ["a-b"])
    }

    @Test func aHubServesItsSpokes() throws {
        let plan = try plan(nodes + network + "peers = \"hub:a\"\nkeepalive = \"off\"\n")
        #expect(
            try peers(plan, "hub").mapValues { $0.allowedIPs.map(\.description) } == ["a": ["10.66.66.0/24"]])
        #expect(
            try peers(plan, "a").mapValues { $0.allowedIPs.map(\.description) } == [
                "hub": ["10.66.66.1/32"], "b": ["10.66.66.3/32"], "c": ["10.66.66.4/32"],
            ])
        #expect(try peers(plan, "b").values.allSatisfy { $0.keepalive == 0 })
        #expect(plan.pairs.map { "\($0.from)-\($0.to)" } == ["hub-a", "a-b", "a-c"])
    }

    @Test func pairsAndExpectations() throws {
        let plan = try plan(
            nodes + network + """
                peers = [["b", "a"], ["hub", "b"]]
                [[expect]]
                between = ["b", "a"]
                path = "none"
                """)
        #expect(plan.pairs.map { "\($0.from)-\($0.to) \($0.expected)" } == ["hub-b direct", "a-b none"])
        #expect(try peers(plan, "c").isEmpty)
        #expect(try peers(plan, "b").keys.sorted() == ["a", "hub"])
    }

    @Test func overridesWin() throws {
        let plan = try plan(
            nodes + network + """
                listen-port = 4000
                backend = "kernel"
                [host.hub.wireguard.wg0]
                listen-port = 0
                mtu = 1280
                private-key-file = "keys/hub"
                [host.a.wireguard.wg0.peer.hub]
                endpoint = "203.0.113.99:9"
                keepalive = "7s"
                preshared-key-file = "psk"
                [host.hub.wireguard.wg0.peer.a]
                preshared-key-file = "psk"
                """)
        let hub = try #require(plan.tunnel(host: "hub", interface: "wg0"))
        #expect(hub.listenPort == 0)
        #expect(hub.mtu == 1280)
        #expect(hub.privateKeyFile == "keys/hub")
        #expect(hub.backend == .kernel)
        let ofA = try peers(plan, "a")
        #expect(ofA["hub"]?.endpoint == Endpoint("203.0.113.99:9"))
        #expect(ofA["hub"]?.keepalive == 7)
        #expect(ofA["hub"]?.presharedKeyFile == "psk")
        // A port that nobody knows yet makes no endpoint.
        #expect(try peers(plan, "b")["hub"]?.endpoint == nil)
        #expect(try peers(plan, "b")["c"]?.endpoint == Endpoint("10.1.0.2:4000"))
    }

    private func allTraffic(_ table: String) throws -> LabPlan {
        try plan(
            nodes + network + """
                peers = "hub:hub"
                [host.a.wireguard.wg0]
                \(table)
                [host.a.wireguard.wg0.peer.hub]
                allowed-ips = ["0.0.0.0/0", "10.66.66.0/25", "172.16.0.0/12"]
                """)
    }

    private func tunnelRoutes(_ plan: LabPlan) -> [String] { plan.routes("a").filter { $0.contains("wg0") } }

    @Test func allTrafficAsWGQuickDoesIt() throws {
        let plan = try allTraffic("")
        #expect(tunnelRoutes(plan) == ["default dev wg0 table 51820", "172.16.0.0/12 dev wg0"])
        #expect(
            plan.effects("a", containing: "rule") == [
                "rule priority 32765 not fwmark 51820 table 51820",
                "rule priority 32764 table main suppress_prefixlength 0",
            ])
        #expect(plan.tunnel(host: "a", interface: "wg0")?.firewallMark == 51820)
        #expect(plan.tunnel(host: "b", interface: "wg0")?.firewallMark == 0)
    }

    @Test func aTableByNumber() throws {
        let plan = try allTraffic("table = 1000")
        #expect(
            tunnelRoutes(plan) == [
                "default dev wg0 table 1000", "10.66.66.0/25 dev wg0 table 1000",
                "172.16.0.0/12 dev wg0 table 1000",
            ])
        #expect(plan.effects("a", containing: "rule").isEmpty)
        #expect(plan.tunnel(host: "a", interface: "wg0")?.firewallMark == 0)
    }

    @Test func noTable() throws {
        let plan = try allTraffic("table = \"off\"")
        #expect(tunnelRoutes(plan).isEmpty)
        #expect(plan.effects("a", containing: "rule").isEmpty)
        #expect(plan.tunnel(host: "a", interface: "wg0")?.firewallMark == 0)
    }

    @Test func twoTunnelsForAllTraffic() throws {
        let plan = try plan(
            nodes + network + """
                [wireguard.wg1]
                prefix = "10.77.77.0/24"
                members = ["hub", "a"]
                listen-port = 51821
                [host.a.wireguard.wg0.peer.hub]
                allowed-ips = ["0.0.0.0/0"]
                [host.a.wireguard.wg1.peer.hub]
                allowed-ips = ["0.0.0.0/0"]
                """)
        #expect(plan.tunnel(host: "a", interface: "wg1")?.firewallMark == 51821)
        #expect(
            plan.effects("a", containing: "rule").map { $0.split(separator: " ")[2] } == [
                "32765", "32764", "32763", "32762",
            ])
        #expect(plan.pairs.last.map { "\($0.interface) \($0.from)-\($0.to)" } == "wg1 hub-a")
    }

    @Test func theRendezvous() throws {
        let lab = try plan(nodes + network + "[rendezvous]\nhost = \"hub\"\nport = 99\n")
        #expect(lab.rendezvous?.endpoint == Endpoint("203.0.113.5:99"))
        #expect(lab.rendezvous?.clients.map(\.host) == ["hub", "a", "b", "c"])
        #expect(lab.steps.last?.effect == .startAgent)
        let inside = try plan(
            nodes + network + "[rendezvous]\nhost = \"hub\"\nendpoint = \"10.66.66.1:1234\"\n")
        #expect(inside.rendezvous?.endpoint == Endpoint("10.66.66.1:1234"))
        #expect(inside.rendezvous?.port == 1234)
        let without = try plan(nodes + network)
        #expect(without.rendezvous == nil)
        #expect(!without.steps.contains { $0.effect == .startAgent })
    }

    /// Only a delay is written: plans without one are as they were.
    @Test func startDelayInJSON() throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        for (delay, text) in [(UInt32(0), ""), (250, #","start_delay_ms":250"#)] {
            let client = PlannedClient(host: "a", interface: "wg0", startDelay: delay)
            let json = try encoder.encode(client)
            #expect(String(decoding: json, as: UTF8.self) == #"{"host":"a","interface":"wg0"\#(text)}"#)
            #expect(try JSONDecoder().decode(PlannedClient.self, from: json) == client)
        }
    }

    @Test func aClientThatIsToldOtherwise() throws {
        let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
        let lab = try plan(
            nodes + network + """
                [rendezvous]
                host = "hub"
                [host.a.rendezvous]
                server-key = "\(key)"
                [host.b.rendezvous]
                endpoint = "203.0.113.9:99"
                """)
        let clients = try #require(lab.rendezvous?.clients)
        #expect(clients.map(\.serverKey) == [nil, key, nil, nil])
        #expect(clients.map(\.endpoint) == [nil, nil, Endpoint("203.0.113.9:99"), nil])
        #expect(lab.rendezvous?.endpoint == Endpoint("203.0.113.5:1234"))
        let text = lab.text()
        #expect(text.contains("\n  a.wg0 is told that its key is \(key)\n"))
        #expect(text.contains("\n  b.wg0 is told 203.0.113.9:99 instead\n"))
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        let json = try clients.map { String(decoding: try encoder.encode($0), as: UTF8.self) }
        #expect(json[0] == #"{"host":"hub","interface":"wg0"}"#)
        #expect(json[2] == #"{"endpoint":"203.0.113.9:99","host":"b","interface":"wg0"}"#)
        for (text, client) in zip(json, clients) {
            #expect(try JSONDecoder().decode(PlannedClient.self, from: Data(text.utf8)) == client)
        }
    }

    /// Every kind of step, as it is written and read back.
    @Test func stepsInJSON() throws {
        let prefix = try #require(IPPrefix("10.0.0.1/24"))
        let gateway = try #require(IPAddress("10.0.0.1"))
        let effects: [(Effect, String)] = [
            (.makeNamespace(namespace: "l.a"), #"{"effect":"make-namespace","namespace":"l.a"}"#),
            (
                .setSysctls(namespace: "l.a", settings: [Sysctl("a.b", "1", ifPresent: true)]),
                #"{"effect":"set-sysctls","namespace":"l.a","settings":[{"if_present":true,"key":"a.b","value":"1"}]}"#
            ),
            (
                .makeBridge(namespace: "l.a", interface: "br0"),
                #"{"effect":"make-bridge","interface":"br0","namespace":"l.a"}"#
            ),
            (
                .makeVeth(
                    end: Port(namespace: "l.a", interface: "x"),
                    otherEnd: Port(namespace: "l.b", interface: "y")),
                #"{"effect":"make-veth","end":{"interface":"x","namespace":"l.a"},"other_end":{"interface":"y","namespace":"l.b"}}"#
            ),
            (
                .joinBridge(namespace: "l.a", interface: "x", bridge: "br0"),
                #"{"bridge":"br0","effect":"join-bridge","interface":"x","namespace":"l.a"}"#
            ),
            (
                .addAddress(namespace: "l.a", interface: "x", address: prefix),
                #"{"address":"10.0.0.1/24","effect":"add-address","interface":"x","namespace":"l.a"}"#
            ),
            (
                .bringUp(namespace: "l.a", interface: "x"),
                #"{"effect":"bring-up","interface":"x","namespace":"l.a"}"#
            ),
            (
                .addRoute(
                    namespace: "l.a",
                    route: Route(to: prefix, via: gateway, interface: "x", onLink: true, table: 7)),
                #"{"effect":"add-route","namespace":"l.a","route":{"destination":"10.0.0.1/24","gateway":"10.0.0.1","interface":"x","on_link":true,"table":7}}"#
            ),
            (
                .addRule(
                    namespace: "l.a",
                    rule: RoutingRule(
                        family: .ipv4, priority: 3, firewallMark: 4, invert: true, table: 5,
                        suppressPrefixLength: 0)),
                #"{"effect":"add-rule","namespace":"l.a","rule":{"family":"ipv4","firewall_mark":4,"invert":true,"priority":3,"suppress_prefix_length":0,"table":5}}"#
            ),
            (
                .loadFirewall(namespace: "l.a", text: "*nat\n"),
                #"{"effect":"load-firewall","namespace":"l.a","text":"*nat\n"}"#
            ),
            (
                .makeWireGuard(namespace: "l.a", host: "a", interface: "wg0"),
                #"{"effect":"make-wireguard","host":"a","interface":"wg0","namespace":"l.a"}"#
            ),
            (
                .configureWireGuard(namespace: "l.a", host: "a", interface: "wg0"),
                #"{"effect":"configure-wireguard","host":"a","interface":"wg0","namespace":"l.a"}"#
            ),
            (.startAgent, #"{"effect":"start-agent"}"#),
        ]
        let inverses: [(Inverse, String)] = [
            (.removeNamespace(namespace: "l.a"), #"{"inverse":"remove-namespace","namespace":"l.a"}"#),
            (
                .removeWireGuard(namespace: "l.a", host: "a", interface: "wg0"),
                #"{"host":"a","interface":"wg0","inverse":"remove-wireguard","namespace":"l.a"}"#
            ),
            (.stopAgent, #"{"inverse":"stop-agent"}"#),
            (.goesWith(namespace: "l.a"), #"{"inverse":"goes-with","namespace":"l.a"}"#),
        ]
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        for (effect, text) in effects {
            let data = try encoder.encode(effect)
            #expect(String(decoding: data, as: UTF8.self) == text)
            #expect(try JSONDecoder().decode(Effect.self, from: data) == effect)
        }
        for (inverse, text) in inverses {
            let data = try encoder.encode(inverse)
            #expect(String(decoding: data, as: UTF8.self) == text)
            #expect(try JSONDecoder().decode(Inverse.self, from: data) == inverse)
        }
        #expect(throws: DecodingError.self) {
            try JSONDecoder().decode(Effect.self, from: Data(#"{"effect":"x"}"#.utf8))
        }
    }
}
