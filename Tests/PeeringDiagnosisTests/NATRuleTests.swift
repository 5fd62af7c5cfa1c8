import LabPlanner
import NetAddress
import PathTrace
import PeeringCheck
import PeeringDiagnosis
import Testing
import WireGuardControl

/// What NATs do to a pair, and what is not theirs.
@Suite struct NATRuleTests {
    // MARK: Symmetric

    /// What both send gets lost at the other's NAT; a's port outside is not the one it is known by.
    private func changingPort(ra: String) throws -> Case {
        var it = try Case.homes(ra: ra)
        it.fly(.handshakeInitiation, from: "a", out: "203.0.113.2:4242", until: "rb:wan0<")
        it.fly(.handshakeInitiation, from: "b", until: "ra:wan0<")
        it.map("ra", "192.168.1.2:51820", to: "203.0.113.2:51820", towards: "203.0.113.10:1234")
        it.map("ra", "192.168.1.2:51820", to: "203.0.113.2:4242", towards: "203.0.113.3:51820")
        it.map("rb", "192.168.2.2:51820", to: "203.0.113.3:51820", towards: "203.0.113.2:51820")
        return it
    }

    @Test func symmetric() throws {
        let it = try changingPort(ra: #""symmetric""#)
        #expect(it.findings == ["symmetric-nat@ra"])
        #expect(
            it.diagnosis.verdict.contains(
                "a is known as 203.0.113.2:51820, but what it sends to b comes from 203.0.113.2:4242"))
    }

    @Test func aRouterThatWasMadeSymmetricIsSeenByItsFlows() throws {
        #expect(try changingPort(ra: #""masquerade""#).findings == ["symmetric-nat@ra"])
    }

    @Test func anotherPortAloneMakesNoNATSymmetric() throws {
        // The mapping that the rendezvous saw has been forgotten.
        var it = try changingPort(ra: #""masquerade""#)
        it.evidence.routers[0].after.removeFirst()
        #expect(!it.findings.contains { $0.hasPrefix("symmetric") }, "\(it.findings)")
    }

    @Test func aSymmetricNATWhosePacketsArriveIsNoFinding() throws {
        var it = try Case.homes(ra: #""symmetric""#, rb: #""full-cone""#)
        it.fly(.handshakeInitiation, from: "a", out: "203.0.113.2:4242")
        it.fly(.punch, from: "b", until: "ra:wan0<")
        it.map("ra", "192.168.1.2:51820", to: "203.0.113.2:4242", towards: "203.0.113.3:51820")
        #expect(it.findings == Case.nothing)
        // Then it is something else.
        try it.read(from: "a", at: "b", source: "203.0.113.2:4242")
        #expect(it.findings == ["timestamp-refused@b"])
    }

    @Test func aSymmetricNATThatKeepsThePortIsNoFinding() throws {
        var it = try Case.homes(ra: #""symmetric""#)
        it.fly(.handshakeInitiation, from: "a", until: "rb:wan0<")
        #expect(it.findings == ["no-mapping@rb"])
    }

    @Test func ofTwoNATsTheSymmetricOneIsNamed() throws {
        for (ra, carrier, place) in [
            (#""symmetric""#, #""masquerade""#, "ra"), (#""masquerade""#, #""symmetric""#, "carrier"),
            (#""symmetric""#, #""symmetric""#, "ra"),
        ] {
            var it = try Case.neighbours("a", "c", ra: ra, carrier: carrier)
            it.fly(.handshakeInitiation, from: "a", out: "203.0.113.2:4242", until: "rc:wan0<")
            it.map("rc", "192.168.3.2:51820", to: it.outside("c"), towards: "203.0.113.2:51820")
            #expect(it.findings == ["symmetric-nat@\(place)"])
        }
    }

    // MARK: Hairpinning

    /// a's packets for b's external endpoint come to the carrier that both are behind.
    private func turning(_ carrier: String) throws -> Case {
        var it = try Case.neighbours(carrier: carrier)
        it.see(
            .handshakeInitiation,
            [
                ("a:eth0>", "192.168.1.2:51820", it.outside("b")),
                ("ra:lan0<", "192.168.1.2:51820", it.outside("b")),
                ("ra:wan0>", "100.64.0.2:51820", it.outside("b")),
                ("carrier:lan0<", "100.64.0.2:51820", it.outside("b")),
            ])
        return it
    }

    @Test func hairpinMissing() throws {
        let it = try turning(#""masquerade""#)
        #expect(it.findings == ["hairpin-missing@carrier"])
        #expect(it.diagnosis.journeys[0].nodes == ["a", "ra", "carrier"])
        #expect(it.diagnosis.journeys[0].loss?.reason == "no hairpinning")
    }

    @Test func aNATThatHairpinsAlsoFilters() throws {
        let it = try turning(
            #"{ mapping = "endpoint-independent", filtering = "address-and-port-dependent", hairpin = true }"#
        )
        #expect(it.findings == ["no-mapping@carrier"])
        #expect(it.diagnosis.journeys[0].loss?.reason != "no hairpinning")
    }

    @Test func onesOwnExternalEndpointIsNoHairpin() throws {
        // What a sends to ra's address can be for nobody else's host.
        var it = try Case.homes()
        it.peer(of: "a") { $0.endpoint = "203.0.113.2:51820" }
        it.fly(.handshakeInitiation, from: "a", to: "203.0.113.2:51820", until: "ra:lan0<")
        #expect(it.findings.first == "endpoint-overwritten@a")
        #expect(!it.findings.contains("hairpin-missing@ra"), "\(it.findings)")
    }

    // MARK: Stolen

    private func stolen() throws -> Case {
        var it = try Case.homes()
        it.fly(.punch, from: "a", out: "203.0.113.2:1024", until: "rb:wan0<")
        it.fly(.punch, from: "b", until: "ra:wan0<")
        it.map("rb", "192.168.2.2:51820", to: "203.0.113.3:51820", towards: "203.0.113.2:51820")
        it.map("ra", "192.168.1.2:51820", to: "203.0.113.2:1024", towards: "203.0.113.3:51820")
        return it
    }

    @Test func mappingStolen() throws {
        var it = try stolen()
        it.add(
            PairEvidence.Flow(
                source: "203.0.113.3:51820", destination: "203.0.113.2:51820",
                replySource: "203.0.113.2:51820", replyDestination: "203.0.113.3:51820", isReplied: false),
            to: "ra")
        #expect(it.findings == ["mapping-stolen@ra"])
    }

    @Test func aFlowOfSomebodyElsesHasNotStolenIt() throws {
        var it = try stolen()
        it.add(
            PairEvidence.Flow(
                source: "203.0.113.10:51820", destination: "203.0.113.2:51820",
                replySource: "203.0.113.2:51820", replyDestination: "203.0.113.10:51820", isReplied: false),
            to: "ra")
        it.map("ra", "192.168.1.2:51820", to: "203.0.113.2:1024", towards: "203.0.113.10:51820")
        #expect(!it.findings.contains { $0.hasPrefix("mapping-stolen") }, "\(it.findings)")
    }

    @Test func aFlowThatFoundThePortFreeHasNotStolenIt() throws {
        // a still comes from where it is known.
        var it = try Case.homes()
        it.fly(.punch, from: "a", until: "rb:wan0<")
        it.map("ra", "192.168.1.2:51820", to: "203.0.113.2:51820", towards: "203.0.113.3:51820")
        it.add(
            PairEvidence.Flow(
                source: "203.0.113.3:51820", destination: "203.0.113.2:51820",
                replySource: "203.0.113.2:51820", replyDestination: "203.0.113.3:51820", isReplied: false),
            to: "ra")
        #expect(it.findings == ["no-mapping@rb"])
    }

    // MARK: Expired

    /// hub had a session with a, and gets no answer while a is quiet.
    private func quiet(_ nat: String = #""masquerade""#) throws -> Case {
        var it = try Case.spoke(nat)
        it.hadSession()
        it.peer(of: "hub") { $0.endpoint = "203.0.113.2:51820" }
        it.change("hub") { $0.alone = (sent: 5, answered: 0) }
        it.fly(.data, from: "hub", until: "ra:wan0<")
        return it
    }

    @Test func mappingExpired() throws {
        var it = try quiet()
        #expect(it.findings == ["mapping-expired@ra"])
        // Also where a's own packets have healed it since.
        it.evidence.verdict.observed = .direct
        #expect(it.findings == ["mapping-expired@ra"])
        #expect(it.diagnosis.verdict.contains("opened it again just now"))
        #expect(
            it.diagnosis.verdict.hasPrefix("hub and a reach each other now, but ")
                || it.diagnosis.verdict.hasPrefix("a and hub reach each other now, but "))
    }

    @Test func withoutAFormerSessionNothingHasExpired() throws {
        var it = try quiet()
        it.peer(of: "hub") { $0.lastHandshake = nil }
        #expect(it.findings == ["no-mapping@ra"])
    }

    @Test func whoIsAnsweredAloneHasAMapping() throws {
        var it = try quiet()
        it.change("hub") { $0.alone = (sent: 5, answered: 1) }
        #expect(it.findings == ["no-mapping@ra"])
        it.change("hub") { $0.alone = nil }
        #expect(it.findings == ["no-mapping@ra"])
    }

    @Test func aMappingThatIsThereHasNotExpired() throws {
        var it = try quiet()
        it.map("ra", "192.168.1.2:51820", to: "203.0.113.2:51820", towards: "203.0.113.10:51820")
        #expect(it.findings == ["lost@ra"])
    }

    @Test func aKeepaliveThatIsShortEnoughIsNotBlamed() throws {
        for (keepalive, word) in [(25, "something has removed it"), (30, "keepalive only every 30 s")] {
            var it = try quiet()
            // The peer that the mapping belongs to is the one that keeps it.
            it.peer(of: "a") { $0.persistentKeepalive = UInt16(keepalive) }
            #expect(it.findings == ["mapping-expired@ra"])
            #expect(it.diagnosis.verdict.contains(word), "\(it.diagnosis.verdict)")
        }
    }

    @Test func aForwardedPortDoesNotExpire() throws {
        let it = try quiet(
            #"{ mapping = "endpoint-independent", filtering = "endpoint-independent", forward = [{ port = 51820, to = "a" }] }"#
        )
        #expect(!it.findings.contains { $0.hasPrefix("mapping-expired") }, "\(it.findings)")
    }

    @Test func aHostsOwnExternalAddressDoesNotExpire() throws {
        var it = try quiet("\"full-cone\"\none-to-one = { a = \"203.0.113.21\" }")
        it.peer(of: "hub") { $0.endpoint = "203.0.113.21:51820" }
        #expect(!it.findings.contains { $0.hasPrefix("mapping-expired") }, "\(it.findings)")
    }

    @Test func ofTwoNATsTheOneThatForgotIsNamed() throws {
        // c had a session with a, through the carrier and ra.
        var it = try Case.neighbours("c", "a")
        it.hadSession()
        it.change("c") { $0.alone = (sent: 5, answered: 0) }
        #expect(it.findings == ["mapping-expired@carrier"])
        it.map("carrier", "100.64.0.2:51820", to: "203.0.113.2:51820", towards: it.outside("c"))
        #expect(it.findings == ["mapping-expired@ra"])
        it.map("ra", "192.168.1.2:51820", to: "100.64.0.2:51820", towards: it.outside("c"))
        #expect(it.findings == Case.nothing)
    }
}
