import Testing
import TopologyModel

/// Topologies next to those that are warned of, and which are fine; the goldens have the warnings.
struct WarningTests {
    private static let hosts =
        """
        [router.home]
        uplink = "internet"
        lan = "192.168.1.0/24"
        wan = ["203.0.113.20"]
        [host.hub]
        on = "internet"
        address = "203.0.113.10"
        [host.a]
        on = "home"
        [host.b]
        on = "home"
        address = "192.168.1.30"

        """

    private func messages(_ text: String) -> [String] {
        TopologyFile.parse(bytes: Array((Self.hosts + text).utf8), fileName: "lab.toml").diagnostics
            .map(\.message)
    }

    private func network(_ members: String, _ rest: String = "") -> String {
        "[wireguard.wg0]\nprefix = \"10.66.66.0/24\"\nmembers = [\(members)]\n\(rest)\n"
    }

    private let all = "\"hub\", \"a\", \"b\""

    // MARK: Hosts without peers

    @Test func aLabWithoutTunnelsNeedsNoMembers() {
        #expect(messages("").isEmpty)
    }

    @Test func aMemberOfSomePairIsSomebodysPeer() {
        #expect(messages(network(all, "peers = [[\"a\", \"hub\"], [\"hub\", \"b\"]]")).isEmpty)
        #expect(messages(network(all, "peers = \"hub:hub\"")).isEmpty)
        #expect(
            messages(network(all, "peers = [[\"a\", \"hub\"]]")) == ["`b` is nobody's peer in wg0"])
    }

    /// The rendezvous, what a forward leads to, what lies behind a peer.
    @Test func aHostInNoNetworkMayBeOfUse() {
        let two = network("\"hub\", \"a\"")
        #expect(messages(two) == ["`b` is in no WireGuard network, and no tunnel leads to it"])
        let behindA = "[host.hub.wireguard.wg0.peer.a]\nallowed-ips = [\"10.66.66.2\", \"192.168.1.0/24\"]"
        #expect(messages(two + behindA).isEmpty)
        #expect(messages(two + behindA.replacing("1.0/24", with: "1.30")).isEmpty)
        #expect(messages(two + behindA.replacing("1.0/24", with: "1.31")).count == 1)
        #expect(messages(two + "[router.home.one-to-one]\nb = \"203.0.113.21\"").isEmpty)
        #expect(messages(network("\"a\", \"b\"") + "[rendezvous]\nhost = \"hub\"").isEmpty)
    }

    // MARK: Allowed IPs

    private func allowed(_ prefixes: String, table: String = "", _ rest: String = "") -> [String] {
        messages(
            network(all)
                + """
                [rendezvous]
                host = "hub"
                [host.a.wireguard.wg0]
                \(table)
                [host.a.wireguard.wg0.peer.hub]
                allowed-ips = ["10.66.66.1", \(prefixes)]
                \(rest)
                """)
    }

    @Test func whatIsNotRoutedIntoTheTunnelTakesNothingIn() {
        #expect(allowed("\"128.0.0.0/1\"").count == 1)
        #expect(allowed("\"0.0.0.0/0\"").isEmpty)
        #expect(allowed("\"128.0.0.0/1\"", table: "table = \"off\"").isEmpty)
        #expect(allowed("\"128.0.0.0/1\"", table: "table = 1000").isEmpty)
        #expect(allowed("\"128.0.0.0/1\"", table: "table = 254").count == 1)
    }

    /// Whichever way they are routed.
    @Test func clientsRefuseWhatAnAllowedIPTakesIn() {
        for table in ["\"off\"", "1000"] {
            #expect(allowed("\"203.0.113.10\"", table: "table = \(table)").count == 1)
            #expect(allowed("\"192.168.1.0/24\"", table: "table = \(table)").count == 1)
            #expect(allowed("\"192.168.2.0/24\"", table: "table = \(table)").isEmpty)
        }
    }

    /// The gateway is found on its link, and the route to the host's own LAN is longer than one to more.
    @Test func theOwnLANIsNotTakenInByMore() {
        #expect(allowed("\"192.168.1.1\"").isEmpty)
        let more = "[host.a.wireguard.wg0.peer.hub]\nallowed-ips = [\"10.66.66.1\", \"192.168.0.0/16\"]\n"
        #expect(messages(network(all) + more).isEmpty)
        #expect(messages(network(all) + more + "[rendezvous]\nhost = \"hub\"").count == 1)
        #expect(allowed("\"192.168.1.30\"").count == 1)
        #expect(
            allowed("\"192.168.1.0/24\"") == [
                "`a` has a route to 192.168.1.0/24 already, which is the LAN of `home`"
            ])
    }

    /// One prefix, one warning, although the rendezvous and a peer are there.
    @Test func oneCauseIsToldOnce() {
        let told = allowed("\"203.0.113.0/24\"")
        #expect(told.count == 1 && told.first?.contains("where the rendezvous is") == true)
    }

    @Test func aPeerThatMustNotBeReachedMayBeLeftOut() {
        let text = network(all) + "[host.a.wireguard.wg0.peer.b]\nallowed-ips = []\n"
        #expect(messages(text).count == 1)
        for between in ["\"*\"", "[\"b\", \"a\"]"] {
            #expect(messages(text + "[[expect]]\nbetween = \(between)\npath = \"none\"").isEmpty)
        }
        #expect(messages(text.replacing("[]", with: "[\"10.66.0.0/17\"]")).isEmpty)
    }

    // MARK: The rendezvous

    @Test func aRendezvousThatAForwardLeadsToIsFine() {
        func rendezvous(_ endpoint: String, port: Int = 1234, _ router: String) -> [String] {
            let text =
                network("\"hub\", \"a\", \"b\"")
                + "[rendezvous]\nhost = \"b\"\nport = \(port)\nendpoint = \"\(endpoint)\"\n"
            let hosts = Self.hosts.replacing(
                "[host.hub]", with: "nat = \"symmetric\"\n\(router)\n[host.hub]")
            return TopologyFile.parse(bytes: Array((hosts + text).utf8), fileName: "lab.toml").diagnostics
                .map(\.message)
        }
        #expect(rendezvous("203.0.113.20:1234", "forward = [{ port = 1234, to = \"b\" }]").isEmpty)
        #expect(
            rendezvous("203.0.113.20:99", "forward = [{ port = 99, to = \"b\", to-port = 1234 }]").isEmpty)
        #expect(rendezvous("203.0.113.21:1234", "one-to-one = { b = \"203.0.113.21\" }").isEmpty)
        let told = rendezvous("203.0.113.20:1234", "forward = [{ port = 1234, to = \"a\" }]")
        #expect(told.count == 1 && told.first?.contains("symmetric NAT of `home`") == true)
    }
}
