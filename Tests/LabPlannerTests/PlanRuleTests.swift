import FoundationEssentials
import LabPlanner
import NetAddress
import Testing
import TopologyModel

func plan(_ text: String) throws -> LabPlan {
    let bytes = Array(("name = \"lab\"\n" + text).utf8)
    let result = TopologyFile.parse(bytes: bytes, fileName: "lab.toml")
    let errors = DiagnosticRenderer(source: bytes).text(result.diagnostics)
    return compile(try #require(result.topology, "\(errors)"))
}

extension LabPlan {
    /// The routes of a node, as ip-route(8) writes them.
    func routes(_ node: String) -> [String] {
        steps.compactMap { step in
            if case .addRoute("\(lab).\(node)", let route) = step.effect { route.description } else { nil }
        }
    }

    /// What a node's steps do, without the node's name.
    func effects(_ node: String, containing word: String) -> [String] {
        steps.map(\.effect.description).filter { $0.hasPrefix("\(lab).\(node): ") && $0.contains(word) }
            .map { String($0.dropFirst(lab.utf8.count + node.utf8.count + 3)) }
    }

    func address(_ node: String, _ interface: String) -> String? {
        self.node(node)?.interfaces.first { $0.name == interface }?.address.description
    }
}

struct PlanRuleTests {
    /// Explicit addresses are skipped, the others follow the lines of the file, routers and hosts alike.
    @Test func addressesInTheOrderOfTheFile() throws {
        let plan = try plan(
            """
            [host.late]
            on = "internet"
            [router.r]
            uplink = "internet"
            lan = "10.0.0.0/29"
            [host.fixed]
            on = "internet"
            address = "203.0.113.4"
            [host.last]
            on = "internet"
            [host.b]
            on = "r"
            [host.a]
            on = "r"
            address = "10.0.0.2"
            """)
        #expect(plan.address("internet", "br0") == "203.0.113.1/24")
        #expect(plan.address("late", "eth0") == "203.0.113.2/24")
        #expect(plan.address("r", "wan0") == "203.0.113.3/24")
        #expect(plan.address("fixed", "eth0") == "203.0.113.4/24")
        #expect(plan.address("last", "eth0") == "203.0.113.5/24")
        #expect(plan.address("r", "lan0") == "10.0.0.1/29")
        #expect(plan.address("a", "eth0") == "10.0.0.2/29")
        #expect(plan.address("b", "eth0") == "10.0.0.3/29")
    }

    /// Every segment hangs off the first.
    ///
    ///     internet ── isp2
    ///        │
    ///       far
    @Test func segmentsAreAStar() throws {
        let plan = try plan(
            """
            [segment.internet]
            prefix = "203.0.113.0/24"
            [segment.isp2]
            prefix = "198.51.100.0/24"
            [segment.far]
            prefix = "192.0.2.0/24"
            [host.a]
            on = "far"
            """)
        #expect(
            plan.routes("internet") == [
                "198.51.100.0/24 via 198.51.100.1 dev to-isp2 onlink",
                "192.0.2.0/24 via 192.0.2.1 dev to-far onlink",
            ])
        #expect(plan.routes("isp2") == ["default via 203.0.113.1 dev to-internet onlink"])
        #expect(plan.routes("far") == ["default via 203.0.113.1 dev to-internet onlink"])
        #expect(
            plan.effects("internet", containing: "veth") == [
                "make veth to-isp2 to lab.isp2:to-internet", "make veth to-far to lab.far:to-internet",
            ])
        #expect(
            plan.effects("internet", containing: "bring up") == [
                "bring up br0", "bring up to-isp2", "bring up to-far",
            ])
        #expect(
            plan.effects("far", containing: "bring up") == [
                "bring up br0", "bring up a", "bring up to-internet",
            ])
    }

    /// Routes back stop at a NAT.
    ///
    ///     internet ── isp2 ── office (none) ── floor (none) ── desk
    ///                                     └─── guest (NAT) ── box (none) ── deep
    @Test func routedLANsAreKnownUpToTheFirstNAT() throws {
        let plan = try plan(
            """
            [segment.internet]
            prefix = "203.0.113.0/24"
            [segment.isp2]
            prefix = "198.51.100.0/24"
            [router.office]
            uplink = "isp2"
            lan = "10.1.0.0/16"
            nat = "none"
            [router.floor]
            uplink = "office"
            lan = "10.2.0.0/16"
            nat = "none"
            [router.guest]
            uplink = "office"
            lan = "10.3.0.0/16"
            [router.box]
            uplink = "guest"
            lan = "10.4.0.0/16"
            nat = "none"
            [host.desk]
            on = "floor"
            [host.deep]
            on = "box"
            """)
        #expect(
            plan.routes("internet") == [
                "198.51.100.0/24 via 198.51.100.1 dev to-isp2 onlink",
                "10.1.0.0/16 via 198.51.100.1 dev to-isp2 onlink",
                "10.2.0.0/16 via 198.51.100.1 dev to-isp2 onlink",
            ])
        #expect(
            plan.routes("isp2") == [
                "default via 203.0.113.1 dev to-internet onlink", "10.1.0.0/16 via 198.51.100.2 dev br0",
                "10.2.0.0/16 via 198.51.100.2 dev br0",
            ])
        #expect(
            plan.routes("office") == [
                "default via 198.51.100.1 dev wan0", "10.2.0.0/16 via 10.1.0.2 dev lan0",
            ])
        #expect(plan.routes("floor") == ["default via 10.1.0.1 dev wan0"])
        #expect(
            plan.routes("guest") == ["default via 10.1.0.1 dev wan0", "10.4.0.0/16 via 10.3.0.2 dev lan0"])
        #expect(plan.routes("desk") == ["default via 10.2.0.1 dev eth0"])
        #expect(plan.steps.count { if case .loadFirewall = $0.effect { true } else { false } } == 1)
        #expect(plan.effects("guest", containing: "iptables") == ["iptables-restore"])
    }

    @Test func theNATIsTheThreeRules() throws {
        let plan = try plan("[router.r]\nuplink = \"internet\"\nlan = \"10.0.0.0/24\"\n")
        let texts = plan.steps.compactMap {
            if case .loadFirewall(_, let text) = $0.effect { text } else { nil }
        }
        #expect(
            texts == [
                """
                *nat
                -A POSTROUTING -o wan0 -j MASQUERADE
                COMMIT
                *filter
                -A INPUT -i wan0 -m conntrack --ctstate NEW,INVALID -j DROP
                -A FORWARD -i wan0 -m conntrack --ctstate NEW,INVALID -m conntrack ! --ctstate DNAT -j DROP
                COMMIT

                """
            ])
    }

    /// One attachment: lan0 is its veth.
    ///
    /// None or several: a bridge.
    @Test(arguments: [0, 1, 2])
    func lanBridge(_ hosts: Int) throws {
        var text = "[router.r]\nuplink = \"internet\"\nlan = \"10.0.0.0/24\"\n"
        for host in 0..<hosts { text += "[host.h\(host)]\non = \"r\"\n" }
        let plan = try plan(text)
        let bridge = plan.effects("r", containing: "bridge")
        #expect(bridge == (hosts == 1 ? [] : ["make bridge lan0"]))
        #expect(
            plan.effects("r", containing: "veth")
                == (hosts == 1
                    ? ["make veth lan0 to lab.h0:eth0"]
                    : (0..<hosts).map { "make veth h\($0) to lab.h\($0):eth0" }))
        let settings = plan.steps.flatMap { step -> [Sysctl] in
            if case .setSysctls("lab.r", let settings) = step.effect { settings } else { [] }
        }
        #expect(settings.contains { $0.key == "net.bridge.bridge-nf-call-iptables" } == (hosts != 1))
    }

    @Test func portNamesFitAndDiffer() throws {
        let names = [
            "a-very-long-host-name-1", "a-very-long-host-name-2", "br0", "lo", "all", "default", "to-far",
            "wan0", "exactly-15-char",
        ]
        var text =
            "[segment.internet]\nprefix = \"203.0.113.0/24\"\n[segment.far]\nprefix = \"192.0.2.0/24\"\n"
        text += "[segment.a-segment-with-a-very-long-name]\nprefix = \"198.51.100.0/24\"\n"
        for name in names { text += "[host.\(name)]\non = \"internet\"\n" }
        let plan = try plan(text)
        var ports: [String: [String]] = [:]
        for step in plan.steps {
            guard case .makeVeth(let end, let other) = step.effect else { continue }
            ports[end.namespace, default: ["br0", "lo"]].append(end.interface)
            ports[other.namespace, default: []].append(other.interface)
        }
        for (_, names) in ports {
            #expect(Set(names).count == names.count)
            #expect(names.allSatisfy { (1...15).contains($0.utf8.count) && $0 != "all" && $0 != "default" })
        }
        #expect(ports["lab.internet"]?.contains("exactly-15-char") == true)
        #expect(ports["lab.internet"]?.contains("to-far") == true)
    }

    @Test func namespacesThenLinksThenTheRest() throws {
        let plan = try plan(
            """
            [router.r]
            uplink = "internet"
            lan = "10.0.0.0/24"
            [host.a]
            on = "r"
            [host.b]
            on = "internet"
            [wireguard.wg0]
            prefix = "10.66.66.0/24"
            members = ["a", "b"]
            [rendezvous]
            host = "b"
            """)
        func phase(_ effect: Effect) -> Int {
            switch effect {
            case .makeNamespace, .setSysctls: 0
            case .makeBridge, .makeVeth, .joinBridge: 1
            case .addAddress(_, "wg0", _), .bringUp(_, "wg0"), .configureWireGuard: 5
            case .addAddress, .bringUp, .sendSinglePackets, .shapeLink, .addRoute, .addRule: 2
            case .loadFirewall, .loadNftables: 3
            case .makeWireGuard: 4
            case .startAgent: 6
            }
        }
        let phases = plan.steps.map { phase($0.effect) }
        #expect(phases == phases.sorted())
        #expect(Set(phases) == Set(0...6))
        #expect(plan.steps.last?.inverse == .stopAgent)
        for step in plan.steps {
            switch (step.effect, step.inverse) {
            case (.makeNamespace(let made), .removeNamespace(let removed)): #expect(made == removed)
            case (.makeWireGuard(let namespace, let host, let interface), let inverse):
                #expect(inverse == .removeWireGuard(namespace: namespace, host: host, interface: interface))
            case (.makeNamespace, _), (.startAgent, .goesWith): Issue.record("\(step)")
            default: break
            }
        }
        #expect(plan.steps.filter { $0.effect.description.hasPrefix("lab.a: give eth0") }.map(\.line) == [5])
        #expect(
            plan.steps.filter { $0.effect.description.hasPrefix("lab.internet: make the") }.map(\.line) == [
                nil
            ])
    }

    /// 1,000 hosts behind 1,000 routers, and all in one mesh: half a million pairs.
    @Test func aThousandHosts() throws {
        var text = "[segment.internet]\nprefix = \"198.18.0.0/15\"\n"
        for index in 0..<1_000 {
            text +=
                "[router.r\(index)]\nuplink = \"internet\"\nlan = \"192.168.1.0/24\"\n[host.h\(index)]\non = \"r\(index)\"\n"
        }
        text += "[wireguard.wg0]\nprefix = \"10.0.0.0/16\"\nmembers = ["
        text += (0..<1_000).map { "\"h\($0)\"" }.joined(separator: ", ") + "]\n"
        let plan = try plan(text + "peers = \"hub:h0\"\n")
        #expect(plan.nodes.count == 2_001)
        #expect(plan.pairs.count == 999)
        #expect(plan.address("h999", "eth0") == "192.168.1.2/24")
        #expect(plan.address("r999", "wan0") == "198.18.3.233/15")
        #expect(plan.tunnels.last?.address.description == "10.0.3.232/16")
    }
}
