import NetAddress
import PeeringDiagnosis
import Testing

/// What the report takes of the evidence.
@Suite struct WhyReportTests {
    private func report(_ it: Case) -> WhyReport {
        WhyReport(lab: "t", evidence: it.evidence, diagnosis: it.diagnosis, plan: it.plan)
    }

    @Test func mappingsOfThePairAndOfTheRendezvousInOrder() throws {
        var it = try Case.homes()
        it.map("ra", "192.168.1.2:51820", to: "203.0.113.2:51820", towards: "203.0.113.10:1234")
        it.map(
            "ra", "192.168.1.2:51820", to: "203.0.113.2:51820", towards: "203.0.113.3:51820", before: false)
        // Somebody else's, one that is gone, and one that is not translated.
        it.map("ra", "192.168.1.9:5000", to: "203.0.113.2:5000", towards: "203.0.113.3:51820")
        it.map("ra", "192.168.1.2:4000", to: "203.0.113.2:4000", towards: "203.0.113.3:51820", after: false)
        it.add(
            PairEvidence.Flow(
                source: "203.0.113.3:51820", destination: "203.0.113.2:51820",
                replySource: "203.0.113.2:51820", replyDestination: "203.0.113.3:51820", isReplied: false),
            to: "ra")
        let report = report(it)
        #expect(report.nats.map(\.router) == ["ra", "rb"])
        #expect(report.nats[0].mappings.map(\.remote) == ["203.0.113.3:51820", "203.0.113.10:1234"])
        #expect(report.nats[0].mappings.map(\.wasThere) == [false, true])
        #expect(report.nats[1].mappings == [])
    }

    @Test func dropsOfOneRuleAreCounted() throws {
        var it = try Case.homes()
        for size in [148, 148, 32] {
            it.drop("ra", "udp drop", from: "192.168.1.2:51820", to: "203.0.113.3:51820", size: size)
        }
        it.drop("ra", nil, from: "192.168.1.2:51820", to: "203.0.113.3:51820")
        let drops = report(it).nats[0].drops
        #expect(drops.map(\.rule) == ["filter FORWARD: udp drop", "filter FORWARD: policy"])
        #expect(drops.map(\.packets) == [3, 1])
    }

    @Test func whatTheRendezvousSawOfBoth() throws {
        let rendezvous = try #require(report(try Case.homes()).rendezvous)
        #expect(rendezvous.host == "hub" && rendezvous.endpoint == "203.0.113.10:1234")
        #expect(rendezvous.saw.map(\.host) == ["a", "b"])
        #expect(rendezvous.saw.map(\.endpoint) == ["203.0.113.2:51820", "203.0.113.3:51820"])
        #expect(rendezvous.saw.map(\.lastSeen) == [1, 1])
        #expect(report(try Case.spoke()).rendezvous == nil)
    }

    @Test func whatEachSideKnows() throws {
        var it = try Case.homes()
        it.hadSession()
        let sides = report(it).sides
        #expect(sides.map(\.host) == ["a", "b"])
        // The session was made a minute before the watch, which took 6 s.
        #expect(sides.map { $0.peer?.lastHandshake } == [66, 66])
        #expect(sides[0].peer?.endpoint == "203.0.113.3:51820")
        #expect(sides[0].peer?.endpointOwner == "rb")
    }
}
