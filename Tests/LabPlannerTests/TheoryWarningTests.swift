import LabPlanner
import LabTemplates
import Testing
import TopologyModel

/// When theory has nothing to warn of; the goldens have what it says.
struct TheoryWarningTests {
    private func warnings(_ text: String) throws -> [String] {
        let result = TopologyFile.parse(bytes: Array(text.utf8), fileName: "lab.toml")
        #expect(result.diagnostics.isEmpty, "\(result.diagnostics.map(\.message))")
        return theoryWarnings(try #require(result.topology), fileName: "lab.toml").map(\.message)
    }

    /// Two homes with two hosts in the second, and a hub.
    private func homes(
        _ first: String, _ second: String, carrier: String? = nil, rendezvous: Bool = true,
        _ rest: String = ""
    ) -> String {
        let uplink = carrier == nil ? "internet" : "carrier"
        let above = carrier.map {
            "[router.carrier]\nuplink = \"internet\"\nlan = \"100.64.0.0/10\"\nnat = \($0)"
        }
        return """
            \(above ?? "")
            [router.r1]
            uplink = "\(uplink)"
            lan = "192.168.1.0/24"
            wan = ["\(carrier == nil ? "203.0.113" : "100.64.0").20"]
            nat = \(first)
            [router.r2]
            uplink = "\(uplink)"
            lan = "192.168.1.0/24"
            nat = \(second)
            [host.a]
            on = "r1"
            [host.b]
            on = "r2"
            [host.c]
            on = "r2"
            [host.hub]
            on = "internet"
            [wireguard.wg0]
            prefix = "10.66.66.0/24"
            members = ["a", "b", "c", "hub"]
            \(rendezvous ? "[rendezvous]\nhost = \"hub\"" : "")
            \(rest)
            """
    }

    /// Apart from the one that shows what is wrong.
    @Test(arguments: LabTemplate.all.map(\.name).filter { $0 != "not-found" })
    func templatesSayWhatTheyMean(_ name: String) throws {
        #expect(try warnings(try #require(LabTemplate.all.first { $0.name == name }).text).isEmpty)
    }

    @Test func pairsThatPunchAreNoNews() throws {
        #expect(try warnings(homes("\"masquerade\"", "\"masquerade\"")).isEmpty)
        #expect(try warnings(homes("\"symmetric\"", "\"restricted-cone\"")).isEmpty)
        #expect(try warnings(homes("\"symmetric\"", "\"masquerade\"")).count == 1)
    }

    @Test func aNetworkGetsOneLineWithACount() throws {
        let told = try warnings(homes("\"symmetric\"", "\"symmetric\""))
        #expect(told.count == 1 && told.first?.hasSuffix("; nor can 1 more pair of wg0") == true)
    }

    /// A file that blocks UDP has said so.
    @Test func blockedIsMeant() throws {
        #expect(try warnings(homes("\"blocked\"", "\"symmetric\"")).isEmpty)
        #expect(
            try warnings(
                homes("\"rejected\"", "\"masquerade\"", rendezvous: false).replacing(
                    "members = ", with: "peers = [[\"a\", \"b\"], [\"c\", \"hub\"]]\nmembers = ")
            ).isEmpty)
    }

    @Test func anExpectationSaysWhatIsMeant() throws {
        let text = homes("\"symmetric\"", "\"masquerade\"")
        for path in ["none", "theory"] {
            let one = "\n[[expect]]\nbetween = [\"a\", \"b\"]\npath = \"\(path)\""
            #expect(try warnings(text + one).count == 1)
            #expect(try warnings(text + one + one.replacing("\"b\"", with: "\"c\"")).isEmpty)
        }
        #expect(try warnings(text + "\n[[expect]]\nbetween = \"*\"\npath = \"theory\"").isEmpty)
        // Of the other pairs, all with hub and b with c, theory says that they reach each other.
        let all = try warnings(text + "\n[[expect]]\nbetween = \"*\"\npath = \"none\"")
        #expect(all.count == 1 && all.first?.hasSuffix("; so do 3 more pairs of wg0") == true)
    }

    @Test func theExpectationOfAllOthersIsPlanned() throws {
        let text = homes(
            "\"symmetric\"", "\"masquerade\"",
            """
            [[expect]]
            between = "*"
            path = "direct"
            [[expect]]
            between = ["c", "hub"]
            path = "none"
            [[expect]]
            between = ["a", "c"]
            path = "theory"
            """)
        let plan = compile(
            try #require(TopologyFile.parse(bytes: Array(text.utf8), fileName: "lab.toml").topology))
        let none = plan.pairs.filter { $0.expected == .none }
        #expect(none.map { "\($0.from) \($0.to)" } == ["a c", "c hub"])
    }

    @Test func aNATThatHairpinsIsFine() throws {
        let cone = "{ filtering = \"endpoint-independent\", hairpin = true }"
        #expect(try warnings(homes("\"masquerade\"", "\"masquerade\"", carrier: cone)).isEmpty)
        let told = try warnings(homes("\"masquerade\"", "\"masquerade\"", carrier: "\"full-cone\""))
        #expect(told.count == 1 && told.first?.contains("both behind `carrier`") == true)
        // On one LAN they need no hairpin.
        #expect(
            try warnings(
                homes("\"none\"", "\"none\"", carrier: "\"full-cone\"").replacing(
                    "lan = \"192.168.1.0/24\"\nnat = \"none\"",
                    with: "lan = \"192.168.2.0/24\"\nnat = \"none\"",
                    maxReplacements: 1)
            ).isEmpty)
    }

    @Test func anEndpointThatAForwardLeadsToNeedsNoRendezvous() throws {
        let text = homes("\"masquerade\"", "\"masquerade\"", rendezvous: false)
        let told = try warnings(text)
        #expect(told.count == 1 && told.first?.contains("nobody tells either") == true)
        let forward = text.replacing(
            "wan = ", with: "forward = [{ port = 51820, to = \"a\" }]\nwan = ")
        let endpoints = ["b", "c"].map {
            "\n[host.\($0).wireguard.wg0.peer.a]\nendpoint = \"203.0.113.20:51820\""
        }
        // b and c stay without each other's endpoints, as theory has it.
        let pairs = forward.replacing(
            "members = ", with: "peers = [[\"a\", \"b\"], [\"a\", \"c\"], [\"b\", \"hub\"]]\nmembers = ")
        #expect(try warnings(pairs + endpoints.joined()).isEmpty)
        #expect(try warnings(pairs).count == 1)
    }

    @Test func oneSourcePortDoesNoHarmWithoutAForward() throws {
        // b and c both send from 51820.
        let text = homes("\"masquerade\"", "\"masquerade\"")
        let forward = text.replacing(
            "nat = \"masquerade\"\n[host.a]",
            with: "nat = \"masquerade\"\nforward = [{ port = 51820, to = \"c\" }]\n[host.a]")
        let told = try warnings(forward)
        #expect(told.count == 1 && told.first?.contains("MASQUERADE gives it to `b` too") == true)
        // Another port, a table that keeps the port free, a peer who lets in any port.
        #expect(try warnings(forward + "\n[host.b.wireguard.wg0]\nlisten-port = 51821").isEmpty)
        #expect(
            try warnings(
                forward.replacing(
                    "nat = \"masquerade\"\nforward", with: "nat = \"port-restricted-cone\"\nforward")
            ).isEmpty)
        #expect(
            try warnings(
                forward.replacing(
                    "wan = [\"203.0.113.20\"]\nnat = \"masquerade\"",
                    with: "wan = [\"203.0.113.20\"]\nnat = \"full-cone\"")
            ).isEmpty)
    }

    /// A file of 1 MiB has room for meshes of hundreds of millions of pairs.
    @Test func aHugeMeshIsNotLookedAtToTheEnd() throws {
        let hosts = (0..<1500).map { "h\($0)" }
        let text =
            "[segment.internet]\nprefix = \"100.64.0.0/10\"\n"
            + hosts.map {
                "[router.r-\($0)]\nuplink = \"internet\"\nlan = \"192.168.1.0/24\"\nnat = \"symmetric\"\n"
                    + "[host.\($0)]\non = \"r-\($0)\"\n"
            }.joined()
                + """
                [host.hub]
                on = "internet"
                [rendezvous]
                host = "hub"
                [wireguard.wg0]
                prefix = "10.66.0.0/16"
                members = [\(hosts.map { "\"\($0)\"" }.joined(separator: ", "))]
                """
        let told = try warnings(text)
        #expect(told.count == 1)
        #expect(told.first?.hasSuffix("; nor can at least 1048575 more pairs of wg0") == true)
    }

    /// Two hosts behind one NAT that begin with different hubs, and a peer in another home.
    private func twoHubs(_ nat: String, port: String = "", second: String = "h2") -> String {
        """
        [router.ra]
        uplink = "internet"
        lan = "192.168.1.0/24"
        nat = "\(nat)"
        [router.rb]
        uplink = "internet"
        lan = "192.168.2.0/24"
        [host.a1]
        on = "ra"
        [host.a2]
        on = "ra"
        \(port)
        [host.b]
        on = "rb"
        [host.h1]
        on = "internet"
        [host.h2]
        on = "internet"
        [wireguard.wg0]
        prefix = "10.66.66.0/24"
        members = ["a1", "a2", "b", "h1", "h2"]
        peers = [["a1", "h1"], ["a2", "\(second)"], ["a1", "b"], ["a2", "b"], ["h1", "h2"]]
        [rendezvous]
        host = "h1"
        """
    }

    @Test func hostsThatShareAPortAndBeginApart() throws {
        let found = try warnings(twoHubs("masquerade"))
        #expect(found.count == 1)
        #expect(
            found.first?.contains(
                "`a1` and `a2` both send from port 51820 through `ra`, and begin with different hosts")
                == true, "\(found)")
        #expect(try warnings(twoHubs("masquerade", second: "h1")).isEmpty, "the same first remote")
        #expect(try warnings(twoHubs("port-restricted-cone")).isEmpty, "exclusive ports")
        #expect(
            try warnings(
                twoHubs("masquerade", port: "[host.a2.wireguard.wg0]\nlisten-port = 51821")
            ).isEmpty, "a port of its own")
    }
}
