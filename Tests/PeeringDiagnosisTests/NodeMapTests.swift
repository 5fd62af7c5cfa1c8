import LabPlanner
import NetAddress
import PathTrace
import Testing
import WireGuardControl

@testable import PeeringDiagnosis

/// Who is next to whom, and how ways are drawn.
@Suite struct NodeMapTests {
    /// ```
    ///   a ── ra (NAT) ── internet ── hub
    ///   b ── rb (none) ─┘    └ routed to ┐
    ///   d ── rd (none) ── rb             lan2 ── c
    ///   e ── ra
    /// ```
    private func wide(_ from: String = "a", _ to: String = "c") throws -> Case {
        try Case(
            """
            [segment.internet]
            prefix = "203.0.113.0/24"
            [segment.lan2]
            prefix = "198.51.100.0/24"
            [router.ra]
            uplink = "internet"
            lan = "192.168.1.0/24"
            [router.rb]
            uplink = "internet"
            lan = "192.168.2.0/24"
            nat = "none"
            [router.rd]
            uplink = "rb"
            lan = "192.168.3.0/24"
            nat = "none"
            [host.a]
            on = "ra"
            [host.e]
            on = "ra"
            [host.b]
            on = "rb"
            [host.d]
            on = "rd"
            [host.hub]
            on = "internet"
            [host.c]
            on = "lan2"
            [wireguard.wg0]
            prefix = "10.66.66.0/24"
            members = ["a", "b", "c", "d", "e", "hub"]
            """, from, to)
    }

    @Test func waysEndAtTheSegment() throws {
        let map = NodeMap(try wide().plan)
        #expect(map.way(from: "d") == ["d", "rd", "rb", "internet"])
        #expect(map.way(from: "hub") == ["hub", "internet"])
        #expect(map.way(from: "lan2") == ["lan2"])
    }

    @Test func segmentsBetween() throws {
        let map = NodeMap(try wide().plan)
        #expect(map.segments(between: "ra", "hub") == ["internet"])
        #expect(map.segments(between: "hub", "c") == ["internet", "lan2"])
        #expect(map.segments(between: "c", "ra") == ["lan2", "internet"])
        // Neighbours in a LAN, a node and its own network.
        #expect(map.segments(between: "a", "ra") == [])
        #expect(map.segments(between: "a", "e") == [])
        #expect(map.segments(between: "rd", "rb") == [])
        #expect(map.segments(between: "ra", "internet") == [])
    }

    @Test func receivers() throws {
        let map = NodeMap(try wide().plan)
        func next(_ node: String, _ interface: String, _ target: Endpoint) -> String {
            map.receiver(
                after: Journey.Hop(
                    node: node, interface: interface, isOutgoing: true, source: "0.0.0.0:1",
                    destination: target))
        }
        let own = { try #require(map.addresses(of: $0).first) }
        // In the same LAN, to the router, and what nobody there has.
        #expect(next("a", "eth0", Endpoint(try own("e"), port: 1)) == "e")
        #expect(next("a", "eth0", "203.0.113.10:1") == "ra")
        #expect(next("ra", "wan0", Endpoint(try own("hub"), port: 1)) == "hub")
        #expect(next("ra", "wan0", "203.0.113.99:1") == "internet")
        // Inwards, through routers that translate nothing.
        #expect(next("rb", "lan0", Endpoint(try own("b"), port: 1)) == "b")
        #expect(next("rb", "lan0", Endpoint(try own("d"), port: 1)) == "rd")
        #expect(next("rb", "lan0", "192.168.2.77:1") == "rb")
    }

    @Test func aLANBehindANATIsNobodysOutside() throws {
        let map = NodeMap(try wide().plan)
        func isAnybodys(_ target: Endpoint) -> Bool {
            map.isAnybodys(
                Journey.Hop(
                    node: "ra", interface: "wan0", isOutgoing: true, source: "0.0.0.0:1", destination: target)
            )
        }
        let own = { try #require(map.addresses(of: $0).first) }
        #expect(isAnybodys(Endpoint(try own("hub"), port: 1)))
        #expect(isAnybodys(Endpoint(try own("c"), port: 1)))
        #expect(isAnybodys(Endpoint(try own("d"), port: 1)))
        #expect(isAnybodys("203.0.113.1:1"))
        #expect(!isAnybodys(Endpoint(try own("a"), port: 1)))
        #expect(!isAnybodys("203.0.113.99:1"))
    }

    // MARK: Ways drawn

    @Test func acrossTwoSegments() throws {
        var it = try wide()
        it.fly(.handshakeInitiation, from: "a")
        #expect(it.diagnosis.journeys[0].nodes == ["a", "ra", "internet", "lan2", "c"])
    }

    @Test func throughRoutersThatTranslateNothing() throws {
        var it = try wide("d", "hub")
        it.fly(.handshakeInitiation, from: "d")
        #expect(it.diagnosis.journeys[0].nodes == ["d", "rd", "rb", "internet", "hub"])
        it = try wide("d", "b")
        let (d, b) = (it.outside("d"), it.outside("b"))
        it.peer(of: "d") { $0.endpoint = b }
        it.see(
            .handshakeInitiation,
            ["d:eth0>", "rd:lan0<", "rd:wan0>", "rb:lan0<", "rb:lan0>", "b:eth0<"].map { ($0, d, b) })
        #expect(it.diagnosis.journeys[0].nodes == ["d", "rd", "rb", "b"])
    }

    @Test func inOneLAN() throws {
        var it = try wide("a", "e")
        let addresses = ["a", "e"].map { NodeMap(it.plan).addresses(of: $0)[0] }
        let (a, e) = (Endpoint(addresses[0], port: 51820), Endpoint(addresses[1], port: 51820))
        it.peer(of: "a") { $0.endpoint = e }
        it.see(.handshakeInitiation, [("a:eth0>", a, e)])
        #expect(it.diagnosis.journeys[0].nodes == ["a", "e"])
        #expect(it.diagnosis.journeys[0].loss?.node == "e")
        it.see(.handshakeInitiation, [("a:eth0>", a, e), ("e:eth0<", a, e)])
        #expect(it.diagnosis.journeys[0].nodes == ["a", "e"])
        #expect(it.diagnosis.journeys[0].loss == nil)
    }
}
