import LabAgent
import NetAddress
import PathTrace
import PeeringDiagnosis
import Testing
import WireGuardKeys

@testable import RendezvousProtocol

/// Whether the clients get from the rendezvous what they need, and what looks as if they did not.
@Suite struct RendezvousRuleTests {
    private let server: Endpoint = "203.0.113.10:1234"

    /// a's client asks, and is not served yet.
    private func asking(_ standing: ServerStanding = .silent) throws -> Case {
        var it = try Case.homes()
        it.client(of: "a") { $0.standing = standing }
        return it
    }

    /// a's question on its way to hub, until a point.
    private func ask(_ it: inout Case, until last: Int = 4, to target: Endpoint = "203.0.113.10:1234") {
        let legs: [(String, Endpoint, Endpoint)] = [
            ("a:eth0>", "192.168.1.2:51820", target), ("ra:lan0<", "192.168.1.2:51820", target),
            ("ra:wan0>", "203.0.113.2:51820", target), ("hub:eth0<", "203.0.113.2:51820", target),
        ]
        it.see(.rendezvousInit, Array(legs.prefix(last)))
    }

    private func answer(_ it: inout Case, until last: Int = 4) {
        let legs: [(String, Endpoint, Endpoint)] = [
            ("hub:eth0>", server, "203.0.113.2:51820"), ("ra:wan0<", server, "203.0.113.2:51820"),
            ("ra:lan0>", server, "192.168.1.2:51820"), ("a:eth0<", server, "192.168.1.2:51820"),
        ]
        it.see(.rendezvousResponse, Array(legs.prefix(last)), seconds: 1.1)
    }

    // MARK: Through the tunnel

    @Test func theWayToTheRendezvousIsTheTunnel() throws {
        var it = try asking(.contacting)
        it.change("a") { $0.serverInterface = "wg0" }
        #expect(it.findings == ["rendezvous-through-tunnel@a"])
        #expect(it.diagnosis.findings[0].mend == "keep 203.0.113.10 out of a's allowed IPs")
        it.client(of: "a") { $0.server = "10.66.66.3:1234" }
        #expect(
            it.diagnosis.findings[0].mend
                == "ask the rendezvous at 203.0.113.10:1234, outside the tunnel, and keep that address out of the allowed IPs"
        )
        it = try asking(.insideTunnel)
        #expect(it.findings == ["rendezvous-through-tunnel@a"])
    }

    @Test func aTunnelTakenByAClientThatIsServedIsNoFinding() throws {
        var it = try Case.homes()
        it.change("a") { $0.serverInterface = "wg0" }
        #expect(it.findings == Case.nothing)
    }

    @Test func theOtherIsKnownInsideTheTunnel() throws {
        var it = try Case.homes()
        it.client(of: "a") { client in
            client.peers[0].phase = .endpointRefused
            client.peers[0].resolved = "10.66.66.2:51820"
        }
        #expect(it.findings == ["rendezvous-through-tunnel@b"])
    }

    // MARK: Reaching it

    @Test func wrongServerKey() throws {
        var it = try asking()
        let other = PrivateKey.generate().publicKey
        it.client(of: "a") { $0.serverKey = other }
        ask(&it)
        it.evidence.rendezvous?.server?.refusals = [
            ServerRefusal(source: "203.0.113.2:51820", reason: .badTag, count: 3, last: 1),
            ServerRefusal(source: "203.0.113.3:51820", reason: .malformed, count: 9, last: 2),
        ]
        #expect(it.findings == ["wrong-server-key@a"])
        // b's refusals are not a's.
        #expect(it.diagnosis.verdict.hasSuffix("it refused 3 datagrams from 203.0.113.2:51820 (bad-tag)"))
    }

    @Test func nobodyListens() throws {
        var it = try asking()
        it.client(of: "a") { $0.server = "203.0.113.10:4321" }
        ask(&it, to: "203.0.113.10:4321")
        #expect(it.findings == ["rendezvous-down@hub"])
    }

    @Test func thePortIsClosed() throws {
        var it = try asking()
        ask(&it)
        it.evidence.icmpErrors = [
            ICMPError(
                point: WatchPoint(node: "hub", namespace: "t.hub", interface: "eth0"), isOutgoing: true,
                time: 1, type: 3, code: 3, from: server.address,
                to: it.outside("a").address,
                source: "203.0.113.2:51820", destination: server, size: 128)
        ]
        #expect(it.findings == ["rendezvous-down@hub"])
        #expect(it.diagnosis.verdict.contains("ICMP port unreachable"))
        // That of another port tells nothing.
        it.evidence.icmpErrors[0].destination = "203.0.113.10:7"
        #expect(!it.diagnosis.verdict.contains("ICMP"))
    }

    @Test func aClientThatHasJustBegunIsNotLeftOut() throws {
        var it = try asking(.contacting)
        ask(&it)
        answer(&it)
        #expect(it.findings == Case.nothing)
        // One whose questions get no answer is.
        it.client(of: "a") { $0.standing = .deaf }
        #expect(it.findings == ["rendezvous-down@hub"])
    }

    @Test func aClientThatIsToStartLaterIsNotUnserved() throws {
        var it = try asking(.starting)
        it.client(of: "a") { $0.counters = ClientCounters() }
        #expect(it.findings == Case.nothing)
    }

    @Test func rendezvousUnreachable() throws {
        var it = try asking()
        ask(&it, until: 2)
        it.drop(
            "ra", "udp dport 1234 drop: port 1234", from: "192.168.1.2:51820", to: server, size: 128)
        #expect(it.findings == ["rendezvous-unreachable@ra"])
        // Nobody knows what drops it.
        it.evidence.drops = [:]
        #expect(it.findings == ["rendezvous-unreachable@ra"])
    }

    @Test func aRuleAgainstAllUDPIsAboutTheHost() throws {
        var it = try asking()
        ask(&it, until: 2)
        it.drop("ra", "meta l4proto udp drop", from: "192.168.1.2:51820", to: server, size: 128)
        #expect(it.findings == ["udp-dropped-outbound@ra"])
    }

    @Test func theAnswersGetLost() throws {
        var it = try asking()
        ask(&it)
        answer(&it, until: 2)
        #expect(it.findings == ["rendezvous-unreachable@ra"])
        it.drop(
            "ra", "iifname \"wan0\" meta l4proto udp drop", from: server, to: "192.168.1.2:51820", size: 128)
        #expect(it.findings == ["udp-dropped-inbound@ra"])
        // A rule about the rendezvous alone leaves the others' packets in.
        it.evidence.drops = [:]
        it.drop("ra", "ip saddr 203.0.113.10 drop", from: server, to: "192.168.1.2:51820", size: 128)
        #expect(it.findings == ["rendezvous-unreachable@ra"])
    }

    @Test func whatAnotherClientSendsIsNotAs() throws {
        var it = try asking()
        it.see(
            .rendezvousInit,
            [("b:eth0>", "192.168.2.2:51820", server), ("rb:lan0<", "192.168.2.2:51820", server)])
        #expect(it.findings == ["rendezvous-unreachable@a"])
        #expect(it.diagnosis.verdict.contains("a sends nothing to the rendezvous"))
    }

    // MARK: Keys

    @Test func unknownKey() throws {
        var it = try Case.homes()
        it.client(of: "a") { $0.peers[0].phase = .unknownToServer }
        it.change("b") { $0.client = nil }
        #expect(it.findings == ["unknown-key@b"])
        #expect(it.diagnosis.verdict.contains("no client runs for it"))
    }

    @Test func whoDoesNotGetThroughCannotBeKnown() throws {
        var it = try Case.homes()
        it.client(of: "a") { $0.peers[0].phase = .unknownToServer }
        it.client(of: "b") { client in
            client.standing = .silent
            client.says = "no answer"
        }
        #expect(it.findings == ["rendezvous-unreachable@b"])
    }

    @Test func whoWasToldAnEndpointNeedsNoRendezvous() throws {
        var it = try Case.homes(
            rb:
                #"{ mapping = "endpoint-independent", filtering = "address-and-port-dependent", forward = [{ port = 51820, to = "b" }] }"#,
            further: "[host.a.wireguard.wg0.peer.b]\nendpoint = \"203.0.113.3:51820\"")
        it.client(of: "a") { client in
            client.standing = .silent
            client.peers[0].phase = .unknownToServer
        }
        #expect(it.findings == Case.nothing)
    }
}
