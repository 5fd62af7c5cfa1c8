import FoundationEssentials
import NetAddress
import PeeringCheck
import Testing
import TopologyModel

@testable import LabPlanner
@testable import NATMeasurement

private func router(_ nat: Topology.NAT?, externals: [String] = ["203.0.113.2"]) -> PlannedNode {
    let translation = nat.flatMap { nat in
        nat.behaviour.map {
            PlannedNAT(
                engine: nat.engine, behaviour: $0, externals: externals.compactMap { IPAddress($0) })
        }
    }
    return PlannedNode(
        name: "r", kind: .router, namespace: "t.r", uplink: "internet", nat: nat?.name ?? "none",
        translation: translation, interfaces: [])
}

private func preset(_ name: String) throws -> Topology.NAT { try #require(NATPreset.named(name)).nat }

/// A measurement with the values of a declaration, and nothing else.
private func measurement(of nat: Topology.NAT) throws -> RouterMeasurement {
    let behaviour = try #require(nat.behaviour)
    var found = RouterMeasurement(router: "r", unmeasured: "not tried")
    found.udp = Finding(behaviour.udp, "seen")
    found.translated = Finding(true, "seen")
    found.exposed = Finding(false, "seen")
    found.closedPort = Finding(.silent, "seen")
    found.tcpMapping = Finding(
        behaviour.mapping == .endpointIndependent ? .endpointIndependent : .addressAndPortDependent, "seen")
    guard behaviour.udp == .forward else { return found }
    found.mapping = Finding(behaviour.mapping, "seen")
    found.filtering = Finding(behaviour.filtering, "seen")
    found.ports = Finding(behaviour.ports, "seen")
    found.hairpin = Finding(behaviour.hairpin ? .external : Hairpin.none, "seen")
    found.sharing = Finding(.exclusive, "seen")
    found.earlyPacket = Finding(.kept, "seen")
    found.unsolicited = Finding(
        behaviour.filtering == .endpointIndependent ? .delivered : .silent, "seen")
    found.lifetime = .none("not asked for")
    return found
}

struct NATCardTests {
    private struct AnyKeys: Decodable {
        var keys: Set<String>
        init(from decoder: any Decoder) throws {
            keys = Set(try decoder.container(keyedBy: Key.self).allKeys.map(\.stringValue))
        }
        struct Key: CodingKey {
            var stringValue: String
            var intValue: Int? { nil }
            init?(stringValue: String) { self.stringValue = stringValue }
            init?(intValue: Int) { nil }
        }
    }

    @Test func everyKeyIsAlwaysThere() throws {
        let all = Set(NATProperty.allCases.map(\.rawValue))
        #expect(all.count == 22 && all.contains("udp_timeout_s") && all.contains("same_port"))
        for card in [NATCard(), NATCard(declared: router(try preset("eim-eif"))) ?? NATCard()] {
            let data = try JSONEncoder().encode(card)
            #expect(try JSONDecoder().decode(AnyKeys.self, from: data).keys == all)
            #expect(try JSONDecoder().decode(NATCard.self, from: data) == card)
        }
    }

    @Test(arguments: [NATValue.word("yes"), .flag(true), .flag(false), .number(3), .number(2.5)])
    func valuesStayWhatTheyAre(_ value: NATValue) throws {
        let card = NATCard([.hairpin: value])
        #expect(try JSONDecoder().decode(NATCard.self, from: JSONEncoder().encode(card)) == card)
    }

    @Test func whatARouterPromises() throws {
        let cone = try #require(NATCard(declared: router(try preset("eim-eif"))))
        #expect(cone[.unsolicited] == .word("delivered") && cone[.hairpin] == .flag(false))
        #expect(cone[.samePort] == .word("exclusive") && cone[.pooling] == nil && cone[.timeout] == nil)
        let symmetric = try #require(NATCard(declared: router(try preset("symmetric"))))
        #expect(symmetric[.hairpin] == nil && symmetric[.outsideFirst] == nil)
        #expect(symmetric[.mapping] == .word("address-and-port-dependent"))
        let masquerade = try #require(NATCard(declared: router(.masquerade)))
        #expect(masquerade[.samePort] == nil && masquerade[.outsideFirst] == .word("kept"))
        let blocked = try #require(NATCard(declared: router(try preset("blocked"))))
        #expect(blocked[.udp] == .word("drop") && blocked[.lan] == .word("hidden"))
        #expect(blocked[.mapping] == nil && blocked[.tcpMapping] == .word("endpoint-independent"))
        let routed = try #require(NATCard(declared: router(Topology.NAT.none)))
        #expect(routed[.translated] == .flag(false) && routed[.lan] == .word("exposed"))
        let several = try #require(
            NATCard(declared: router(try preset("eim-adf"), externals: ["203.0.113.2", "203.0.113.3"])))
        #expect(several[.pooling] == .word("paired"))
        #expect(
            NATCard(
                declared: PlannedNode(
                    name: "h", kind: .host, namespace: "t.h", uplink: "r", nat: nil, interfaces: [])) == nil)
    }
}

struct NATReportTests {
    private func report(_ nat: Topology.NAT, _ edit: (inout RouterMeasurement) -> Void) throws
        -> NATReport.Router
    {
        var found = try measurement(of: nat)
        edit(&found)
        return try #require(NATReport.Router(router(nat), found))
    }

    @Test func whatIsAsDeclaredDoesNotDiffer() throws {
        for name in NATPreset.nine.map(\.name) + ["blocked"] {
            let router = try report(try preset(name)) { _ in }
            #expect(router.ok && router.differences == [], "\(name): \(router.differences)")
            #expect(router.nat == name && router.evidence["udp"] == "seen")
        }
    }

    @Test func eachDifferenceNamesItsProperty() throws {
        let nat = try preset("eim-adf")
        func differences(_ edit: (inout RouterMeasurement) -> Void) throws -> [String] {
            let router = try report(nat, edit)
            #expect(!router.ok)
            return router.differences
        }
        #expect(
            try differences { $0.mapping = Finding(.addressDependent, "two ports") } == [
                "mapping: declared endpoint-independent, measured address-dependent: two ports"
            ])
        #expect(
            try differences { $0.hairpin = Finding(.internal, "saw 192.168.1.2") } == [
                "hairpin: declared no, measured internal source: saw 192.168.1.2"
            ])
        #expect(
            try differences { $0.exposed = Finding(true, "got in") } == [
                "lan: declared hidden, measured exposed: got in"
            ])
        #expect(
            try differences { $0.filtering = .none("no answer") } == [
                "filtering: declared address-dependent, not measured: no answer"
            ])
        #expect(
            try differences { $0.sharedDelivery = Finding(false, "the wrong host") } == [
                "same port: declared exclusive, measured mixed up: the wrong host"
            ])
        #expect(try differences { $0.udp = Finding(.drop, "nothing came") }.count == 1)
    }

    /// A lifetime of minutes is measured when asked for; seconds may be some off.
    @Test func lifetimes() throws {
        var behaviour = NATBehaviour()
        behaviour.udpTimeout = 100
        let nat = Topology.NAT(name: "eim-apdf", engine: .nftables, behaviour: behaviour)
        #expect(try report(nat) { _ in }.ok)
        let lost = try report(nat) { $0.lifetime = .none("nothing came through") }
        #expect(lost.differences == ["udp timeout: declared 100, not measured: nothing came through"])
        #expect(try report(nat) { $0.lifetime = Finding(Lifetime(alive: 103, dead: 104), "") }.ok)
        let short = try report(nat) { $0.lifetime = Finding(Lifetime(alive: 20, dead: 22), "gone") }
        #expect(short.differences == ["udp timeout: declared 100, measured 21: gone"])
        #expect(short.measured[.timeout] == .number(21))
    }

    @Test func pathsAreHeldAgainstTheory() throws {
        let hops = try ["eim-eif", "adm-adf"].map { name -> NATPath.Hop in
            let behaviour = try #require(try preset(name).behaviour)
            return NATPath.Hop(
                router: name, mapping: behaviour.mapping, filtering: behaviour.filtering, udp: .forward)
        }
        let theory = NATPath(hops)
        let good = NATReport.Path("eim-eif", theory, try measurement(of: try preset("adm-adf")))
        #expect(good.ok && good.via == ["eim-eif", "adm-adf"])
        #expect(
            good.theory.values == [
                .udp: .word("forward"), .mapping: .word("address-dependent"),
                .filtering: .word("address-dependent"),
            ])
        let bad = NATReport.Path("eim-eif", theory, try measurement(of: try preset("adm-apdf")))
        #expect(bad.differences.map { $0.prefix { $0 != ":" } } == ["filtering"])
        #expect(!NATReport(lab: "t", routers: [], paths: [bad], problems: []).ok)
        #expect(NATReport(lab: "t", routers: [], paths: [good], problems: []).ok)
        #expect(!NATReport(lab: "t", routers: [], paths: [], problems: ["no room"]).ok)
    }
}
