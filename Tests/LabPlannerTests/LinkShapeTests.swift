import FoundationEssentials
import LabPlanner
import Testing

struct LinkShapeTests {
    /// ```
    ///   internet br0
    ///    │ 10ms   │
    ///    r        far    1mbit
    ///    │ 2%
    ///    a  b
    /// ```
    @Test func bothEndsShapeWhatLeavesThem() throws {
        let plan = try plan(
            """
            [router.r]
            uplink = "internet"
            lan = "10.0.0.0/24"
            nat = "masquerade"
            link = { delay = "10ms" }
            [host.a]
            on = "r"
            link = { loss = "2%" }
            [host.b]
            on = "r"
            [host.far]
            on = "internet"
            link = { rate = "1mbit" }
            """)
        #expect(
            plan.effects("internet", containing: "shape") == [
                "shape what leaves r: delay 10ms", "shape what leaves far: rate 1mbit",
            ])
        #expect(
            plan.effects("r", containing: "shape") == [
                "shape what leaves a: loss 2%", "shape what leaves wan0: delay 10ms",
            ])
        #expect(plan.effects("a", containing: "shape") == ["shape what leaves eth0: loss 2%"])
        #expect(plan.effects("b", containing: "shape") == [])
        #expect(plan.effects("far", containing: "shape") == ["shape what leaves eth0: rate 1mbit"])
        #expect(plan.node("r")?.link == LinkShape(delay: 10_000))
        #expect(plan.node("b")?.link == nil)
        // Large packets come from every host, also over its own perfect link.
        for host in ["a", "b", "far"] {
            #expect(plan.effects(host, containing: "single") == ["send single packets on eth0"])
        }
        #expect(plan.text().contains("host  a  on r  link loss 2%  eth0 10.0.0.2/24"))
    }

    /// The one host of a LAN is on lan0 itself, without a bridge.
    @Test func theOnlyHostOfALANHasLan0() throws {
        let plan = try plan(
            """
            [router.r]
            uplink = "internet"
            lan = "10.0.0.0/24"
            nat = "none"
            [host.a]
            on = "r"
            link = { delay = "1ms", jitter = "0.5ms" }
            """)
        #expect(plan.effects("r", containing: "shape") == ["shape what leaves lan0: delay 1ms, jitter 500us"])
        let shape = try #require(plan.steps.first { $0.effect.description.contains("lan0: delay") })
        #expect(shape.inverse == .goesWith(namespace: "lab.r"))
        #expect(shape.line == 6)
        let order = plan.steps.map(\.effect.description)
        let made = try #require(order.firstIndex { $0.contains("make veth lan0") })
        let shaped = try #require(order.firstIndex { $0.contains("leaves lan0") })
        let up = try #require(order.firstIndex { $0.contains("r: bring up lan0") })
        #expect(made < shaped && shaped < up)
    }

    @Test func aLinkThatDoesNothingIsNone() throws {
        let plan = try plan("[host.a]\non = \"internet\"\nlink = { loss = \"0%\" }")
        #expect(plan.node("a")?.link == nil)
        #expect(
            plan.effects("a", containing: "single").isEmpty && plan.effects("a", containing: "shape").isEmpty)
    }

    @Test func jsonSaysItWithUnits() throws {
        let shape = LinkShape(delay: 40_000, jitter: 5000, loss: 20_000, rate: 10_000_000)
        let effect = Effect.shapeLink(namespace: "lab.a", interface: "eth0", shape: shape)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        let json = try encoder.encode(effect)
        #expect(
            String(decoding: json, as: UTF8.self)
                == #"{"effect":"shape-link","interface":"eth0","namespace":"lab.a","shape":"#
                + #"{"delay_us":40000,"jitter_us":5000,"loss_ppm":20000,"rate_bit_per_s":10000000}}"#)
        #expect(try JSONDecoder().decode(Effect.self, from: json) == effect)
        let single = Effect.sendSinglePackets(namespace: "lab.a", interface: "eth0")
        #expect(try JSONDecoder().decode(Effect.self, from: encoder.encode(single)) == single)
    }

    @Test(arguments: [
        (
            LinkShape(delay: 40_000, jitter: 5000, loss: 20_000, rate: 10_000_000),
            "delay 40ms, jitter 5ms, loss 2%, rate 10mbit"
        ),
        (LinkShape(delay: 2_000_000), "delay 2s"), (LinkShape(delay: 1500), "delay 1500us"),
        (LinkShape(loss: 1), "loss 0.0001%"), (LinkShape(loss: 1_000_000), "loss 100%"),
        (LinkShape(loss: 25_000), "loss 2.5%"), (LinkShape(rate: 1001), "rate 1001bit"),
        (LinkShape(rate: 1_500_000), "rate 1500kbit"), (LinkShape(rate: 100_000_000_000), "rate 100gbit"),
    ])
    func textIsWhatTheTopologySays(_ shape: LinkShape, _ text: String) { #expect(shape.description == text) }
}
