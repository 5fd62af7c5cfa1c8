import LabAgent
import LabPlanner
import NetAddress
import PathTrace
import PeeringCheck
import PeeringDiagnosis
import Testing
import WireGuardControl
import WireGuardKeys

/// What programs, links and configurations tell, and what looks like it.
@Suite struct ConfigurationRuleTests {
    @Test func nothingIsFoundWhereNothingIsWrong() throws {
        #expect(try Case.homes().findings == Case.nothing)
        #expect(try Case.spoke().evidence.from.device?.peers.count == 1)
    }

    @Test func wireGuardDead() throws {
        var it = try Case.homes()
        it.change("b") { side in
            side.device = nil
            side.unreadable = "wg0 of b does not answer"
        }
        #expect(it.findings == ["wireguard-dead@b"])
        #expect(it.diagnosis.verdict == "a and b do not reach each other directly: wg0 of b does not answer")
    }

    // MARK: Links

    private func down(_ it: inout Case, _ node: String, _ interface: String, hasCarrier: Bool = true) {
        it.evidence.links.removeAll { $0.node == node && $0.interface == interface }
        it.evidence.links.append(
            PairEvidence.Link(
                node: node, interface: interface, isUp: !hasCarrier, hasCarrier: hasCarrier, mtu: 1500))
    }

    @Test func interfaceDown() throws {
        for (node, interface) in [
            ("a", "eth0"), ("ra", "wan0"), ("rb", "lan0"), ("b", "wg0"), ("internet", "br0"),
        ] {
            var it = try Case.homes()
            down(&it, node, interface)
            #expect(it.findings == ["interface-down@\(node)"])
        }
    }

    @Test func withoutCarrierALinkIsDownToo() throws {
        var it = try Case.homes()
        down(&it, "ra", "wan0", hasCarrier: false)
        #expect(it.diagnosis.findings.map(\.text) == ["wan0 of ra has no carrier"])
    }

    @Test func theCarrierThatADownLinkTakesIsNoNews() throws {
        var it = try Case.homes()
        down(&it, "a", "eth0", hasCarrier: false)
        down(&it, "ra", "lan0")
        // Nor what comes of it.
        it.evidence.missingRoutes["a"] = [IPAddress(v4: 0xCB00_7103): "no route"]
        it.fly(.handshakeInitiation, from: "b", until: "ra:wan0<")
        #expect(it.findings == ["interface-down@ra"])
        #expect(it.diagnosis.findings[0].mend == "natlab exec ra -- ip link set lan0 up")
    }

    @Test func aLinkThatIsGone() throws {
        var it = try Case.homes()
        down(&it, "ra", "wan0")
        it.evidence.links[it.evidence.links.count - 1].isThere = false
        #expect(it.diagnosis.findings.map(\.text) == ["wan0 of ra is gone"])
    }

    @Test func anEndpointThatThePeerHasHealed() throws {
        var it = try Case.homes()
        it.evidence.verdict.observed = .direct
        it.change("a") { side in
            side.alone = (sent: 5, answered: 0)
            side.deviceBefore?.peers[0].endpoint = "127.0.0.1:51820"
        }
        #expect(it.findings == ["endpoint-overwritten@a"])
        // One that was answered there was right.
        it.change("a") { $0.alone = (sent: 5, answered: 1) }
        #expect(it.findings.isEmpty)
    }

    @Test func linksThatDoNotMatterMayBeDown() throws {
        // Another tunnel of a's own.
        var it = try Case.homes()
        down(&it, "a", "wg1")
        #expect(it.findings == Case.nothing)
        // The rendezvous' host, where the file tells where b is.
        it = try Case.homes(
            rb:
                #"{ mapping = "endpoint-independent", filtering = "address-and-port-dependent", forward = [{ port = 51820, to = "b" }] }"#,
            further: "[host.a.wireguard.wg0.peer.b]\nendpoint = \"203.0.113.3:51820\"")
        down(&it, "hub", "eth0")
        it.evidence.agentFailure = "no answer"
        #expect(it.findings == Case.nothing)
        // Where it is needed it counts.
        it = try Case.homes()
        down(&it, "hub", "eth0")
        #expect(it.findings == ["interface-down@hub"])
    }

    @Test func agentDead() throws {
        var it = try Case.homes()
        it.evidence.agentFailure = "connect: no such file"
        for host in ["a", "b"] { it.change(host) { $0.client = nil } }
        it.evidence.rendezvous?.server = nil
        #expect(it.findings == ["agent-dead@hub"])
    }

    // MARK: Keys

    @Test func anotherKeyStandsForThePeers() throws {
        var it = try Case.homes()
        let stranger = PrivateKey.generate().publicKey
        it.peer(of: "a") { $0.publicKey = stranger }
        #expect(it.findings == ["wrong-public-key@a"])
    }

    @Test func thePeersOwnKeyHasChanged() throws {
        var it = try Case.homes()
        let fresh = PrivateKey.generate().publicKey
        it.change("b") { $0.device?.publicKey = fresh }
        #expect(it.findings == ["wrong-public-key@a"])
        #expect(it.diagnosis.verdict.contains("whose key is \(fresh.base64.prefix(15))"))
    }

    @Test func aKeyOfTheLabsThatHoldsTheAddressIsNoWrongKey() throws {
        // hub carries the whole prefix, and b is just no peer.
        var it = try Case.homes()
        let (b, hub) = (it.key("b"), it.key("hub"))
        it.change("a") { side in
            side.device?.peers = [WireGuardPeer(publicKey: hub, allowedIPs: ["10.66.66.0/24"])]
        }
        #expect(it.findings == ["not-mutual-peers@a"])
        #expect(it.evidence.from.device?.peer(b) == nil)
    }

    @Test func neitherIsThePeerOfTheOther() throws {
        var it = try Case.homes()
        for host in ["a", "b"] { it.change(host) { $0.device?.peers = [] } }
        #expect(it.findings == ["not-mutual-peers"])
        #expect(
            it.diagnosis.verdict.hasSuffix(
                "they are not each other's peers, so neither asks the rendezvous for the other"))
    }

    @Test func bothKnowTheHubOnly() throws {
        let text = """
            [host.hub]
            on = "internet"
            [host.a]
            on = "internet"
            [host.b]
            on = "internet"
            [wireguard.wg0]
            prefix = "10.66.66.0/24"
            members = ["hub", "a", "b"]
            peers = "hub:hub"
            """
        let it = try Case(text, "a", "b")
        #expect(it.findings == ["not-mutual-peers"])
        #expect(it.diagnosis.verdict.hasSuffix("each other's peers (each has only hub)"))
    }

    @Test func whoCannotBeReadMayHaveThePeer() throws {
        var it = try Case.homes()
        it.change("a") { side in
            side.device = nil
            side.unreadable = "wg0 of a does not answer"
        }
        it.change("b") { $0.device?.peers = [] }
        #expect(it.findings == ["wireguard-dead@a", "not-mutual-peers@b"])
    }

    // MARK: Cryptokey routing

    @Test func allowedIPsExcludeTheAddress() throws {
        var it = try Case.homes()
        it.peer(of: "a") { $0.allowedIPs = ["10.66.66.77/32"] }
        #expect(it.findings == ["allowed-ips@a"])
        it.peer(of: "a") { $0.allowedIPs = [] }
        #expect(it.diagnosis.verdict.contains("(none) exclude its address 10.66.66.2"))
    }

    @Test func anotherPeerHasTheLongerPrefix() throws {
        var it = try Case.homes()
        it.peer(of: "a") { $0.allowedIPs = ["10.66.66.0/24"] }
        let hub = it.key("hub")
        it.change("a") { side in
            side.device?.peers.removeAll { $0.publicKey == hub }
            side.device?.peers.append(WireGuardPeer(publicKey: hub, allowedIPs: ["10.66.66.2/31"]))
        }
        #expect(it.findings == ["allowed-ips@a"])
        #expect(it.diagnosis.verdict.contains("to its peer hub"))
    }

    @Test func anotherPeersShorterPrefixTakesNothing() throws {
        var it = try Case.homes()
        let hub = it.key("hub")
        it.change("a") { side in
            side.device?.peers.removeAll { $0.publicKey == hub }
            side.device?.peers.insert(WireGuardPeer(publicKey: hub, allowedIPs: ["0.0.0.0/0"]), at: 0)
        }
        #expect(it.findings == Case.nothing)
        it.change("a") { $0.device?.peers.reverse() }
        #expect(it.findings == Case.nothing)
    }

    // MARK: Endpoints

    @Test func endpointOverwritten() throws {
        var it = try Case.homes()
        for endpoint: Endpoint in [
            "203.0.113.99:51820", "203.0.113.3:9", "203.0.113.2:51820", "10.66.66.2:51820",
        ] {
            it.peer(of: "a") { $0.endpoint = endpoint }
            #expect(it.findings.first == "endpoint-overwritten@a", "\(endpoint)")
        }
    }

    @Test func whatTheClientKnowsIsNotOverwritten() throws {
        var it = try Case.homes()
        it.peer(of: "a") { $0.endpoint = "203.0.113.3:4242" }
        it.client(of: "a") { $0.peers[0].punchedFrom = "203.0.113.3:4242" }
        #expect(it.findings == Case.nothing)
        it.peer(of: "a") { $0.endpoint = "192.168.1.3:51820" }
        it.client(of: "a") { $0.peers[0].local = "192.168.1.3:51820" }
        #expect(it.findings == Case.nothing)
    }

    @Test func aTranslatedEndpointIsNotOverwritten() throws {
        var it = try Case.homes()
        it.peer(of: "a") { $0.endpoint = "203.0.113.3:4242" }
        it.evidence.verdict.translation = EndpointTranslation(router: "ra", original: "203.0.113.3:51820")
        #expect(it.findings == Case.nothing)
        // It is a's router that did this, and says nothing of what b has.
        it.peer(of: "b") { $0.endpoint = "203.0.113.2:4242" }
        #expect(it.findings == ["endpoint-overwritten@b"])
        it.evidence.verdict.returnTranslation = EndpointTranslation(
            router: "rb", original: "203.0.113.2:51820")
        #expect(it.findings == Case.nothing)
    }

    @Test func aRoamedEndpointIsNotOverwritten() throws {
        // rb shows the flow that b comes by.
        var it = try Case.homes()
        it.peer(of: "a") { $0.endpoint = "203.0.113.3:4242" }
        it.map("rb", "192.168.2.2:51820", to: "203.0.113.3:4242", towards: "203.0.113.2:51820")
        #expect(it.findings == Case.nothing)
        // Or it was seen to come from there.
        it = try Case.homes()
        it.peer(of: "a") { $0.endpoint = "203.0.113.3:4242" }
        it.fly(.data, from: "b", out: "203.0.113.3:4242")
        #expect(it.findings == Case.nothing)
        // Somebody else's flow is none of b's.
        it = try Case.homes()
        it.peer(of: "a") { $0.endpoint = "203.0.113.3:4242" }
        it.map("ra", "192.168.1.2:51820", to: "203.0.113.2:4242", towards: "203.0.113.3:51820")
        #expect(it.findings == ["endpoint-overwritten@a"])
    }

    @Test func aMappingForgottenSinceMayHaveHadAnyPort() throws {
        var it = try Case.homes(rb: #""symmetric""#)
        it.peer(of: "a") { $0.endpoint = "203.0.113.3:4242" }
        #expect(it.findings == ["endpoint-overwritten@a"])
        it.hadSession()
        #expect(it.findings == Case.nothing)
        // One that keeps ports gives none other.
        it = try Case.homes()
        it.hadSession()
        it.peer(of: "a") { $0.endpoint = "203.0.113.3:4242" }
        #expect(it.findings == ["endpoint-overwritten@a"])
    }

    @Test func noEndpoint() throws {
        let text = """
            [router.ra]
            uplink = "internet"
            lan = "192.168.1.0/24"
            [router.rb]
            uplink = "internet"
            lan = "192.168.2.0/24"
            [host.a]
            on = "ra"
            [host.b]
            on = "rb"
            [wireguard.wg0]
            prefix = "10.66.66.0/24"
            members = ["a", "b"]
            """
        #expect(try Case(text, "a", "b").findings == ["no-endpoint@a"])
        // One that knows where the other is will do.
        #expect(try Case.spoke().evidence.to.device?.peers.first?.endpoint == nil)
        #expect(try Case.spoke().findings == Case.nothing)
    }

    // MARK: Size

    private func connected() throws -> Case {
        var it = try Case.homes()
        it.evidence.verdict.observed = .direct
        return it
    }

    @Test func mtuTooSmall() throws {
        var it = try connected()
        it.evidence.passesLargePackets = true
        #expect(it.findings == [] && it.diagnosis.isConnected)
        it.evidence.passesLargePackets = false
        #expect(it.findings == ["mtu-too-small"])
        #expect(!it.diagnosis.isConnected)
        it.evidence.links.append(
            PairEvidence.Link(node: "rb", interface: "wan0", isUp: true, hasCarrier: true, mtu: 1400))
        #expect(it.findings == ["mtu-too-small@rb"])
    }

    @Test func narrowLinksThatLargePacketsPassAreNoFinding() throws {
        var it = try connected()
        it.evidence.links.append(
            PairEvidence.Link(node: "rb", interface: "wan0", isUp: true, hasCarrier: true, mtu: 1400))
        for passes in [true, nil] {
            it.evidence.passesLargePackets = passes
            #expect(it.findings == [])
        }
    }

    @Test func aTunnelsOwnMTUIsNoNarrowLink() throws {
        var it = try connected()
        it.evidence.passesLargePackets = false
        for name in ["wg0", "wg1"] {
            it.evidence.links.append(
                PairEvidence.Link(node: "a", interface: name, isUp: true, hasCarrier: true, mtu: 1420))
        }
        #expect(it.findings == ["mtu-too-small"])
    }
}
