import LabAgent
import NetAddress
import PathTrace
import PeeringDiagnosis
import Testing
import WireGuardControl

/// Where packets get lost: firewalls, links, and networks where nobody has their address.
@Suite struct WayRuleTests {
    /// The NAT's own filtering of what comes to the router itself, as nft lists it.
    static let own = "iifname \"wan0\" ct state invalid,new drop"

    // MARK: Outbound

    @Test func droppedOutbound() throws {
        var it = try Case.homes()
        it.fly(.handshakeInitiation, from: "a", until: "ra:lan0<")
        it.drop("ra", "udp dport 51820 drop", from: "192.168.1.2:51820", to: "203.0.113.3:51820")
        #expect(it.findings == ["udp-dropped-outbound@ra"])
        let loss = try #require(it.diagnosis.journeys[0].loss)
        #expect(loss.reason == "dropped by filter FORWARD: udp dport 51820 drop")
    }

    @Test func withoutARuleNothingWasDroppedOutbound() throws {
        var it = try Case.homes()
        it.fly(.handshakeInitiation, from: "a", until: "ra:lan0<")
        #expect(it.findings == ["lost@ra"])
    }

    @Test func aFirewallThatWasNotTracedMayHaveDroppedIt() throws {
        var it = try Case.homes()
        it.fly(.handshakeInitiation, from: "a", until: "ra:lan0<")
        it.evidence.untraced = ["rb"]
        #expect(!it.diagnosis.verdict.contains("traced"))
        it.evidence.untraced = ["ra"]
        #expect(it.findings == ["lost@ra"])
        #expect(
            it.diagnosis.verdict.hasSuffix("; ra's firewall, which could not be traced, may have dropped it"))
        // Not what left it.
        it.evidence.datagrams = []
        it.fly(.handshakeInitiation, from: "a", until: "ra:wan0>")
        #expect(!it.diagnosis.verdict.contains("traced"))
    }

    @Test func aPolicyDropsToo() throws {
        var it = try Case.homes()
        it.fly(.handshakeInitiation, from: "a", until: "ra:lan0<")
        it.drop("ra", nil, from: "192.168.1.2:51820", to: "203.0.113.3:51820")
        #expect(it.findings == ["udp-dropped-outbound@ra"])
        #expect(it.diagnosis.verdict.contains("policy of filter FORWARD"))
    }

    @Test func whatWasDroppedOfOthersIsAnothers() throws {
        // To somebody else, of another size, or from somebody else.
        for (source, target, size): (Endpoint, Endpoint, Int) in [
            ("192.168.1.2:51820", "203.0.113.10:51820", 148),
            ("192.168.1.2:51820", "203.0.113.3:51820", 92),
            ("192.168.1.7:51820", "203.0.113.3:51820", 148),
        ] {
            var it = try Case.homes()
            it.fly(.handshakeInitiation, from: "a", until: "ra:lan0<")
            it.drop("ra", "udp drop", from: source, to: target, size: size)
            #expect(it.findings == ["lost@ra"], "\(source) \(target) \(size)")
        }
    }

    @Test func behindTheNATTheSourceIsTheExternalOne() throws {
        var it = try Case.homes()
        it.fly(.handshakeInitiation, from: "a", until: "ra:lan0<")
        it.drop(
            "ra", "udp drop", from: "203.0.113.2:51820", to: "203.0.113.3:51820", hook: "postrouting")
        #expect(it.findings == ["udp-dropped-outbound@ra"])
    }

    @Test func aHostsOwnFirewallLetsNothingOut() throws {
        var it = try Case.homes()
        it.drop("a", "udp drop", from: "192.168.1.2:51820", to: "203.0.113.3:51820", hook: "output")
        #expect(it.findings == ["udp-dropped-outbound@a"])
        // What it sends to others is of no interest.
        it.evidence.drops = [:]
        it.drop("a", "udp drop", from: "192.168.1.2:51820", to: "203.0.113.10:53", hook: "output")
        #expect(it.findings == Case.nothing)
    }

    // MARK: Routers that send nothing on

    @Test func notForwarded() throws {
        var it = try Case.homes()
        it.fly(.handshakeInitiation, from: "a", until: "ra:lan0<")
        for index in it.evidence.links.indices where it.evidence.links[index].node == "ra" {
            it.evidence.links[index].forwards = it.evidence.links[index].interface != "lan0"
        }
        #expect(it.findings == ["not-forwarded@ra"])
        #expect(it.diagnosis.verdict.contains("net.ipv4.conf.lan0.forwarding is 0"))
        for index in it.evidence.links.indices where it.evidence.links[index].node == "ra" {
            it.evidence.links[index].forwards = false
        }
        #expect(it.diagnosis.verdict.contains("net.ipv4.ip_forward is 0"))
        #expect(it.diagnosis.journeys[0].loss?.reason == "it does not forward")
        // What a rule has dropped is not blamed on that.
        it.drop("ra", "udp drop", from: "192.168.1.2:51820", to: "203.0.113.3:51820")
        #expect(it.findings == ["udp-dropped-outbound@ra"])
    }

    @Test func noRoute() throws {
        let b = IPAddress(v4: 0xCB00_7103)
        var it = try Case.homes()
        it.fly(.handshakeInitiation, from: "a", until: "ra:lan0<")
        it.evidence.missingRoutes["ra"] = [b: "a blackhole route"]
        #expect(it.findings == ["no-route@ra"])
        #expect(it.diagnosis.verdict.hasSuffix("ra has a blackhole route to 203.0.113.3"))
        // A host that sends nothing.
        it = try Case.homes()
        it.evidence.missingRoutes["a"] = [b: "no route"]
        #expect(it.findings == ["no-route@a"])
    }

    // MARK: Inbound

    @Test func droppedInbound() throws {
        for rule in ["udp dport 51820 drop", "iifname \"wan0\" udp dport 51820 ct state new drop"] {
            var it = try Case.homes()
            it.fly(.handshakeInitiation, from: "a", until: "rb:wan0<")
            it.map("rb", "192.168.2.2:51820", to: "203.0.113.3:51820", towards: "203.0.113.2:51820")
            // Behind the NAT's first chains the destination is b's own.
            it.drop("rb", rule, from: "203.0.113.2:51820", to: "192.168.2.2:51820")
            #expect(it.findings == ["udp-dropped-inbound@rb"], "\(rule)")
            #expect(it.diagnosis.verdict.contains(rule))
        }
    }

    @Test func aNATsOwnFilteringIsNoFirewall() throws {
        for rule in [Self.own, "ct state new ip daddr . ip saddr != @seen drop", "udp sport != @owner0 drop"]
        {
            var it = try Case.homes()
            it.fly(.handshakeInitiation, from: "a", until: "rb:wan0<")
            it.drop("rb", rule, from: "203.0.113.2:51820", to: "203.0.113.3:51820", hook: "input")
            #expect(it.findings == ["no-mapping@rb"], "\(rule)")
            #expect(it.diagnosis.journeys[0].loss?.reason == "no mapping for 203.0.113.3:51820")
        }
    }

    @Test func aMappingThatLetsInOthersOnly() throws {
        var it = try Case.homes()
        it.fly(.handshakeInitiation, from: "a", until: "rb:wan0<")
        it.map("rb", "192.168.2.2:51820", to: "203.0.113.3:51820", towards: "203.0.113.10:1234")
        #expect(it.findings == ["udp-dropped-inbound@rb"])
        #expect(
            it.diagnosis.verdict.hasSuffix("the mapping 203.0.113.3:51820 lets in 203.0.113.10:1234 only"))
    }

    @Test func aMappingThatIsForThem() throws {
        var it = try Case.homes()
        it.fly(.handshakeInitiation, from: "a", until: "rb:wan0<")
        it.map("rb", "192.168.2.2:51820", to: "203.0.113.3:51820", towards: "203.0.113.2:51820")
        #expect(it.findings == ["lost@rb"])
        #expect(it.diagnosis.verdict.hasSuffix("is for them: something else there drops them"))
        // Also where what b sends arrives.
        it.fly(.handshakeInitiation, from: "b")
        #expect(it.findings == ["lost@rb"])
    }

    @Test func aHostsOwnFirewallLetsNothingIn() throws {
        var it = try Case.homes()
        it.fly(.handshakeInitiation, from: "a")
        it.drop("b", "udp drop", from: "203.0.113.2:51820", to: "192.168.2.2:51820", hook: "input")
        #expect(it.findings == ["udp-dropped-inbound@b"])
        #expect(it.diagnosis.journeys[0].arrived == 0)
        // Of the same size, from somebody else: a's came in.
        it.evidence.drops = [:]
        it.drop("b", "udp drop", from: "203.0.113.10:51820", to: "192.168.2.2:51820", hook: "input")
        #expect(it.findings == Case.nothing)
        #expect(it.diagnosis.journeys[0].arrived == 1)
    }

    // MARK: Elsewhere

    @Test func nobodyHasTheAddress() throws {
        var it = try Case.spoke()
        it.fly(.handshakeInitiation, from: "a", to: "203.0.113.99:51820", until: "ra:wan0>")
        it.peer(of: "a") { $0.endpoint = "203.0.113.99:51820" }
        #expect(it.findings == ["endpoint-overwritten@a", "lost@internet"])
        #expect(it.diagnosis.journeys[0].loss?.reason == "nobody has 203.0.113.99")
        #expect(it.diagnosis.journeys[0].nodes == ["a", "ra", "internet"])
    }

    @Test func aRouterThatNobodyAnswersSendsNothingOn() throws {
        // ARP fails: what came into ra never leaves it.
        var it = try Case.spoke()
        it.fly(.handshakeInitiation, from: "a", to: "203.0.113.99:51820", until: "ra:lan0<")
        it.peer(of: "a") { $0.endpoint = "203.0.113.99:51820" }
        #expect(it.findings == ["endpoint-overwritten@a", "lost@internet"])
        #expect(it.diagnosis.journeys[0].nodes == ["a", "ra", "internet"])
    }

    @Test func aLinkLosesWhatSomebodyHas() throws {
        var it = try Case.homes()
        it.fly(.handshakeInitiation, from: "a", until: "ra:wan0>")
        #expect(it.findings == ["lost@rb"])
        #expect(it.diagnosis.journeys[0].loss?.reason == "it did not get there")
    }

    @Test func whatHasJustLeftIsNotLost() throws {
        var it = try Case.homes()
        it.fly(.handshakeInitiation, from: "a", until: "ra:wan0>", seconds: 5.9)
        #expect(it.findings == Case.nothing)
        // A rule has dropped it for good.
        it.evidence.datagrams = []
        it.fly(.handshakeInitiation, from: "a", until: "ra:lan0<", seconds: 5.9)
        it.drop("ra", "udp drop", from: "192.168.1.2:51820", to: "203.0.113.3:51820")
        #expect(it.findings == ["udp-dropped-outbound@ra"])
    }

    @Test func aLocalAddressMayFailWhereTheExternalOneWorks() throws {
        var it = try Case.homes()
        it.client(of: "a") { $0.peers[0].local = "192.168.1.7:51820" }
        it.see(.punch, [("a:eth0>", "192.168.1.2:51820", "192.168.1.7:51820")])
        it.fly(.punch, from: "a")
        #expect(it.findings == Case.nothing)
        #expect(it.diagnosis.journeys[0].loss == nil)
        #expect(it.diagnosis.journeys[0].nodes == ["a", "ra", "internet", "rb", "b"])
    }

    @Test func theEndpointThatWireGuardHasIsLookedAtFirst() throws {
        // A local address was tried too, and what was sent there came further.
        var it = try Case.homes()
        it.client(of: "a") { $0.peers[0].local = "192.168.2.2:51820" }
        it.fly(.punch, from: "a", to: "192.168.2.2:51820", until: "ra:wan0>", seconds: 2)
        it.fly(.handshakeInitiation, from: "a", until: "ra:lan0<")
        it.drop("ra", "udp drop", from: "192.168.1.2:51820", to: "203.0.113.3:51820")
        #expect(it.findings == ["udp-dropped-outbound@ra"])
    }

    // MARK: Routers that translate nothing

    private func routed() throws -> Case { try Case.homes(ra: #""none""#, rb: #""none""#) }

    @Test func aRouterWithoutNATHasNoMappingToLack() throws {
        var it = try routed()
        #expect(it.outside("a") == "192.168.1.2:51820")
        it.fly(.handshakeInitiation, from: "a", until: "rb:wan0<")
        #expect(it.findings == ["lost@rb"])
        #expect(it.diagnosis.journeys[0].loss?.reason == "it was not sent on")
        it.drop("rb", "udp drop", from: "192.168.1.2:51820", to: "192.168.2.2:51820")
        #expect(it.findings == ["udp-dropped-inbound@rb"])
    }

    @Test func aRouterWithoutNATIsNotSymmetric() throws {
        var it = try routed()
        it.fly(.handshakeInitiation, from: "a", until: "rb:wan0<")
        it.fly(.handshakeInitiation, from: "b", until: "ra:wan0<")
        #expect(it.findings == ["lost@rb", "lost@ra"])
    }

    @Test func behindARouterWithoutNATAHostsOwnEndpointIsRight() throws {
        var it = try routed()
        it.client(of: "a") { $0.peers[0].resolved = "203.0.113.3:51820" }
        it.peer(of: "a") { $0.endpoint = "192.168.2.2:51820" }
        #expect(it.findings == Case.nothing)
        it.peer(of: "a") { $0.endpoint = "192.168.2.2:9" }
        #expect(it.findings == ["endpoint-overwritten@a"])
    }
}
