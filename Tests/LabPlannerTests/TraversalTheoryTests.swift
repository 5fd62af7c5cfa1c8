import LabPlanner
import Testing
import TopologyModel

/// What the theory says of pairs; `natlab matrix` holds it against real packets.
struct TraversalTheoryTests {
    private func verdict(
        _ text: String, _ a: String = "a", _ b: String = "b", members: [String] = ["hub", "a", "b"],
        rendezvous: String = "hub"
    ) throws -> TraversalTheory.Verdict {
        let list = members.map { "\"\($0)\"" }.joined(separator: ", ")
        let plan = try plan(
            """
            \(text)
            [host.hub]
            on = "internet"
            [wireguard.wg0]
            prefix = "10.66.66.0/24"
            members = [\(list)]
            [rendezvous]
            host = "\(rendezvous)"
            """)
        let verdict = TraversalTheory(plan).verdict(a, b, interface: "wg0")
        // The plan expects what theory says.
        let pair = try #require(plan.pairs.first { Set([$0.from, $0.to]) == Set([a, b]) })
        #expect(pair.expected == verdict.path)
        return verdict
    }

    private func home(_ name: String, _ nat: String, host: String, uplink: String = "internet", lan: Int = 1)
        -> String
    {
        """
        [router.\(name)]
        uplink = "\(uplink)"
        lan = "192.168.\(lan).0/24"
        nat = \(nat)
        [host.\(host)]
        on = "\(name)"

        """
    }

    /// Of the 45 unordered pairs of the nine behaviours 31 can punch.
    @Test func theNine() throws {
        var direct = 0
        var names: Set<String> = []
        let nine = NATPreset.nine.map(\.name)
        for (index, one) in nine.enumerated() {
            for other in nine[index...] {
                let text = home("r1", "\"\(one)\"", host: "a") + home("r2", "\"\(other)\"", host: "b")
                let there = try verdict(text)
                let back = try verdict(text, "b", "a")
                #expect(there.path == back.path, "\(one) \(other)")
                if there.path == .direct { direct += 1 } else { names.insert("\(one) \(other)") }
            }
        }
        #expect(direct == 31)
        // All that fail: neither side lets a first packet in.
        let deaf = ["eim-apdf", "adm-adf", "adm-apdf", "apdm-adf", "apdm-apdf"]
        var expected: Set<String> = []
        for (index, one) in deaf.enumerated() {
            for other in deaf[index...] where one != "eim-apdf" || other != "eim-apdf" {
                expected.insert("\(one) \(other)")
            }
        }
        #expect(names == expected)
    }

    @Test func theReasonNamesTheRouters() throws {
        let text = home("house", "\"masquerade\"", host: "a") + home("phone", "\"symmetric\"", host: "b")
        let verdict = try verdict(text)
        #expect(verdict.path == .none)
        #expect(
            verdict.reason
                == "phone filters (address-and-port-dependent), and what b sends to a opens another port than the one that a"
                + " knows (phone: address-and-port-dependent mapping); house filters (address-and-port-dependent), and b"
                + " sends to a from another port than the one that a knows (phone: address-and-port-dependent mapping)"
        )
    }

    @Test(arguments: ["blocked", "rejected"])
    func withoutUDP(_ nat: String) throws {
        let text = home("wall", "\"\(nat)\"", host: "a") + home("open", "\"full-cone\"", host: "b")
        #expect(try verdict(text).path == .none)
        #expect(try verdict(text).reason.hasPrefix("wall lets none of a's UDP through"))
        #expect(try verdict(text, "hub", "a").path == .none)
        #expect(try verdict(text, "hub", "b").path == .direct)
    }

    /// Routed is reached, also through a symmetric NAT; the address is known from the start.
    @Test func routedOnly() throws {
        let routed = home("plain", "\"none\"", host: "a", lan: 7)
        #expect(try verdict(routed + home("far", "\"symmetric\"", host: "b")).path == .direct)
        #expect(try verdict(routed + home("flat", "\"none\"", host: "b", lan: 8)).path == .direct)
        #expect(try verdict(routed + home("far", "\"blocked\"", host: "b")).path == .none)
    }

    /// A path is as strict as its strictest NAT.
    ///
    ///     internet ── carrier ── home ── a
    ///        └─ far ── b
    @Test(arguments: [
        ("full-cone", "full-cone", NATDependence.endpointIndependent, NATDependence.endpointIndependent),
        ("full-cone", "symmetric", .addressAndPortDependent, .addressAndPortDependent),
        ("adm-eif", "restricted-cone", .addressDependent, .addressDependent),
        ("masquerade", "full-cone", .endpointIndependent, .addressAndPortDependent),
    ])
    func behindACarrier(
        _ carrier: String, _ homeNAT: String, _ mapping: NATDependence, _ filtering: NATDependence
    ) throws {
        // The other side is symmetric: only an open filter lets it in.
        let text =
            """
            [router.carrier]
            uplink = "internet"
            lan = "100.64.0.0/10"
            nat = "\(carrier)"

            """ + home("home", "\"\(homeNAT)\"", host: "a", uplink: "carrier")
            + home("far", "\"symmetric\"", host: "b")
        #expect(try verdict(text).path == (filtering == .endpointIndependent ? .direct : .none))
        let composite = TraversalTheory(try plan(text)).composite(of: "home")
        #expect(composite.hops.map(\.router) == ["home", "carrier"])
        #expect(composite.mapping == mapping)
        #expect(composite.filtering == filtering)
    }

    /// One LAN: the rendezvous tells them each other's local addresses.
    @Test func oneLAN() throws {
        let text = home("home", "\"masquerade\"", host: "a") + "[host.b]\non = \"home\"\n"
        let verdict = try verdict(text)
        #expect(verdict.path == .direct)
        #expect(verdict.reason == "both are behind home, and a reaches b's own address inside")
        // Two external addresses: the server does not know that they are neighbours.
        let apart = text.replacing(
            "nat = \"masquerade\"",
            with: "nat = \"restricted-cone\"\nwan = [\"203.0.113.80\", \"203.0.113.81\"]")
        #expect(try self.verdict(apart).path == .none)
        #expect(
            try self.verdict(apart.replacing("\"restricted-cone\"", with: "{ hairpin = true }")).path
                == .direct)
    }

    /// Two homes of one carrier: without hairpinning there is no way, with it the filters decide.
    @Test func twoHomesOfOneCarrier() throws {
        func text(_ carrier: String, _ homes: String) -> String {
            "[router.carrier]\nuplink = \"internet\"\nlan = \"100.64.0.0/10\"\nnat = \(carrier)\n"
                + home("h1", "\"\(homes)\"", host: "a", uplink: "carrier")
                + home("h2", "\"\(homes)\"", host: "b", uplink: "carrier")
        }
        let shut = try verdict(text("\"masquerade\"", "masquerade"))
        #expect(shut.path == .none)
        #expect(shut.reason == "a and b are both behind carrier, which does not hairpin")
        #expect(try verdict(text("{ hairpin = true }", "masquerade")).path == .direct)
        #expect(try verdict(text("{ hairpin = true }", "symmetric")).path == .none)
        // One home routes only: its host has an address of the carrier's realm.
        let mixed = text("\"masquerade\"", "masquerade").replacing(
            "lan = \"192.168.1.0/24\"\nnat = \"masquerade\"\n[host.b]",
            with: "lan = \"192.168.2.0/24\"\nnat = \"none\"\n[host.b]")
        let local = try verdict(mixed)
        #expect(local.path == .direct)
        #expect(local.reason == "both are behind carrier, and a reaches b's own address inside")
    }

    @Test func forwardsAndOwnAddresses() throws {
        let symmetric = home("far", "\"symmetric\"", host: "b")
        #expect(try verdict(home("near", "\"symmetric\"", host: "a") + symmetric).path == .none)
        #expect(
            try verdict(
                home("near", "\"symmetric\"\nforward = [{ port = 51820, to = \"a\" }]", host: "a") + symmetric
            ).path
                == .direct)
        #expect(
            try verdict(
                home("near", "\"symmetric\"\nforward = [{ port = 4000, to = \"a\" }]", host: "a") + symmetric
            ).path
                == .none)
        #expect(
            try verdict(
                home("near", "\"masquerade\"\none-to-one = { a = \"203.0.113.90\" }", host: "a") + symmetric
            ).path
                == .direct)
        // MASQUERADE does not use a forward for what goes out: the rendezvous sees another port.
        let other = "\"masquerade\"\nforward = [{ port = 4000, to-port = 51820, to = \"a\" }]"
        #expect(try verdict(home("near", other, host: "a") + symmetric).path == .none)
        let told = "[host.b.wireguard.wg0.peer.a]\nendpoint = \"203.0.113.90:4000\"\n"
        let wan = other + "\nwan = [\"203.0.113.90\"]"
        #expect(try verdict(home("near", wan, host: "a") + symmetric + told).path == .direct)
    }

    /// A mapping that is the same towards everybody has one address, however that was chosen.
    @Test func arbitraryAddresses() throws {
        func two(_ mapping: String) -> String {
            home(
                "r1",
                "{ mapping = \"\(mapping)\", filtering = \"address-dependent\", pooling = \"arbitrary\" }\nwan = [\"203.0.113.80\", \"203.0.113.81\"]",
                host: "a")
                + home("r2", "\"restricted-cone\"", host: "b")
        }
        #expect(try verdict(two("endpoint-independent")).path == .direct)
        #expect(try verdict(two("address-and-port-dependent")).path == .none)
    }

    /// Who is seen at one address is told of his neighbours' own; a forward decides at which.
    @Test func aForwardHasAnAddress() throws {
        let text =
            home(
                "home",
                "\"restricted-cone\"\nwan = [\"203.0.113.80\", \"203.0.113.81\"]\n"
                    + "forward = [{ port = 51820, to = \"a\", address = \"203.0.113.81\" }]", host: "a")
            + "[host.b]\non = \"home\"\n[host.c]\non = \"home\"\n"
        let members = ["hub", "a", "b", "c"]
        #expect(try verdict(text, "a", "b", members: members).path == .direct)
        #expect(try verdict(text, "a", "c", members: members).path == .none)
    }

    @Test func fixedEndpointsLeadOnlyWhereTheyLead() throws {
        func told(_ endpoint: String) -> String {
            "[host.b.wireguard.wg0.peer.a]\nendpoint = \"\(endpoint)\"\n"
        }
        let lan = home("home", "\"masquerade\"", host: "a") + "[host.b]\non = \"home\"\n"
        #expect(try plan(lan + told("192.168.1.2:51820") + network).pairs.map(\.expected) == [.direct])
        #expect(try plan(lan + network).pairs.map(\.expected) == [.none])
        // Its own router's forward, without hairpinning.
        let forward =
            home(
                "home", "\"masquerade\"\nwan = [\"203.0.113.9\"]\nforward = [{ port = 51820, to = \"a\" }]",
                host: "a")
            + "[host.b]\non = \"home\"\n"
        #expect(try plan(forward + told("203.0.113.9:51820") + network).pairs.map(\.expected) == [.none])
        // A neighbour's forward, in the carrier's network.
        let neighbours =
            "[router.carrier]\nuplink = \"internet\"\nlan = \"100.64.0.0/10\"\nnat = \"masquerade\"\n"
            + home(
                "h1", "\"masquerade\"\nwan = [\"100.64.0.9\"]\nforward = [{ port = 51820, to = \"a\" }]",
                host: "a", uplink: "carrier") + home("h2", "\"masquerade\"", host: "b", uplink: "carrier")
        #expect(try plan(neighbours + told("100.64.0.9:51820") + network).pairs.map(\.expected) == [.direct])
    }

    /// Two members and no rendezvous.
    private var network: String {
        "[wireguard.wg0]\nprefix = \"10.66.66.0/24\"\nmembers = [\"a\", \"b\"]\n"
    }

    /// A rendezvous in a home serves that home.
    @Test func aRendezvousBehindANAT() throws {
        let text =
            home("house", "\"masquerade\"", host: "a") + home("far", "\"masquerade\"", host: "b")
            + "[host.c]\non = \"house\"\n"
        let members = ["hub", "a", "b", "c"]
        #expect(try verdict(text, "a", "b", members: members, rendezvous: "a").path == .none)
        #expect(try verdict(text, "a", "c", members: members, rendezvous: "a").path == .direct)
        #expect(try verdict(text, "hub", "b", members: members, rendezvous: "a").path == .direct)
    }
}
