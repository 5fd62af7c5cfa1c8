import NetAddress
import Testing
import TopologyModel

@testable import NATMeasurement

@Suite struct ClassificationTests {
    private func sample(_ ports: UInt16?...) -> Classification.MappingSample {
        .init(internalEndpoint: Endpoint(host, port: 20_000), external: ports.map { $0.map(external) })
    }

    @Test func mappingIsTheMostDependentOfItsSamples() {
        let independent = sample(7, 7, 7, 7)
        #expect(Classification.mapping([independent]).value == .endpointIndependent)
        #expect(Classification.mapping([sample(7, 7, 8, 8)]).value == .addressDependent)
        #expect(Classification.mapping([sample(7, 8, 9, 10)]).value == .addressAndPortDependent)
        #expect(Classification.mapping([sample(7, 7, 8, 9)]).value == .addressAndPortDependent)
        // Random ports that were the same by chance.
        #expect(Classification.mapping([independent, sample(7, 7, 8, 9)]).value == .addressAndPortDependent)
        #expect(Classification.mapping([sample(7, 7, 8, 8), independent]).value == .addressDependent)
        #expect(
            Classification.mapping([independent]).evidence == "192.168.1.240:20000 was 203.0.113.10:7 to all")
    }

    @Test func mappingWithAMissingArrivalIsUnknown() {
        #expect(Classification.mapping([sample(7, 7, nil, 7)]).value == nil)
        #expect(Classification.mapping([]).value == nil)
    }

    @Test func otherAddressIsAnotherEndpoint() {
        var moved = sample(7, 7, 7, 7)
        moved.external[2] = Endpoint(IPAddress(v4: 0xCB00_710B), port: 7)
        moved.external[3] = moved.external[2]
        #expect(Classification.mapping([moved]).value == .addressDependent)
    }

    @Test(
        arguments: [
            (true, true, true, NATDependence.endpointIndependent), (true, true, false, .addressDependent),
            (true, false, false, .addressAndPortDependent), (true, false, true, nil),
            (false, false, false, nil),
            (false, true, true, nil),
        ] as [(Bool, Bool, Bool, NATDependence?)])
    func filtering(contacted: Bool, otherPort: Bool, stranger: Bool, expected: NATDependence?) {
        let found = Classification.filtering(
            .init(contacted: contacted, otherPort: otherPort, stranger: stranger))
        #expect(found.value == expected)
        #expect(!found.evidence.isEmpty)
    }

    /// Two hosts in turn; internal ports from 20000 on.
    private func ports(_ external: [Int], hosts: Int = 2) -> Finding<NATPorts> {
        Classification.ports(
            external.enumerated().map { index, port in
                .init(
                    host: index % hosts, internalPort: UInt16(20_000 + index),
                    externalPort: UInt16(truncatingIfNeeded: port))
            })
    }

    @Test func preservedPorts() {
        var seen = Array(20_000..<20_016)
        #expect(ports(seen).value == .preserve)
        // Another mapping had two of them.
        seen[3] = 61_000
        seen[9] = 61_001
        #expect(ports(seen).value == .preserve)
        seen[10] = 61_002
        #expect(ports(seen).value != .preserve)
    }

    @Test func sequentialPorts() {
        #expect(ports(Array(61_000..<61_016)).value == .sequential)
        // Others' mappings come between, and the range starts over.
        #expect(
            ports([61_248, 61_250, 61_251, 61_255, 61_000, 61_001, 61_004, 61_005, 61_006]).value
                == .sequential)
        #expect(ports([5, 4, 3, 2, 1, 0, 65_535, 65_534]).value != .sequential, "descending")
    }

    @Test func blocksOfPorts() {
        let first = [40_017, 40_090, 40_003, 40_055, 40_021, 40_080, 40_044, 40_061]
        let interleaved = first.flatMap { [$0, $0 + 100 - ($0 - 40_000) / 2] }
        #expect(ports(interleaved).value == .block)
        // A host's block may hold half of the ports that it uses.
        #expect(
            ports([20_000, 30_211, 20_002, 30_015, 20_004, 30_400, 20_333, 30_101, 20_017, 30_009]).value
                == .block)
        #expect(ports(first, hosts: 1).value == nil, "one host does not tell")
    }

    @Test func randomPorts() {
        #expect(ports([1024, 60_113, 33_001, 5_555, 48_000, 12_345, 22_222, 61_616]).value == .random)
        #expect(ports([61_003, 61_200, 61_100, 61_004, 61_250, 61_077, 61_001, 61_111]).value == .random)
        #expect(
            ports([1024, 60_113, 33_001, 5_555, 48_000, 12_345, 22_222, 61_616], hosts: 1).value == .random)
        #expect(ports([1024, 60_113, 33_001]).value == nil, "too few")
    }

    @Test func shares() {
        let samples: [Classification.PortSample] = [
            .init(host: 0, internalPort: 20_000, externalPort: 20_000),
            .init(host: 0, internalPort: 20_001, externalPort: 61_001),
            .init(host: 0, internalPort: 20_002, externalPort: 61_003),
        ]
        #expect(Classification.preserved(samples).value == Share(1, of: 3))
        #expect(Classification.parity(samples).value == Share(2, of: 3))
        #expect(Classification.preserved([]).value == nil)
    }

    @Test func pooling() {
        let (one, two) = (external(1).address, IPAddress(v4: 0xCB00_710B))
        #expect(Classification.pooling([host: [one], secondHost: [two]], addresses: 2).value == .paired)
        #expect(
            Classification.pooling([host: [one, two], secondHost: [two]], addresses: 2).value == .arbitrary)
        #expect(Classification.pooling([host: [one]], addresses: 1).value == nil)
    }

    private func aged(_ lifetime: Double, _ ages: [Double]) -> [(age: Double, alive: Bool)] {
        ages.map { ($0, $0 < lifetime) }
    }

    @Test func lifetimeLiesBetweenTwoAges() {
        let ages = (1...20).map { Double($0) / 4 }
        let found = Classification.lifetime(aged(3.1, ages))
        #expect(found.value == Lifetime(alive: 3, dead: 3.25))
        #expect(found.evidence == "alive after 3.00 s, dead after 3.25 s")
        #expect(found.value?.fits(3) == true)
        #expect(found.value?.fits(4) == false)
        #expect(Classification.lifetime(aged(9, ages)).value == Lifetime(alive: 5, dead: nil))
        #expect(Classification.lifetime(aged(0, ages)).value == Lifetime(alive: 0, dead: 0.25))
        #expect(Classification.lifetime([]).value == nil)
    }

    @Test func lostPacketIsNoDeath() {
        var tested = aged(3.1, (1...20).map { Double($0) / 4 })
        tested[4].alive = false
        #expect(Classification.lifetime(tested).value == Lifetime(alive: 3, dead: 3.25))
        for index in [0, 2, 6] { tested[index].alive = false }
        #expect(Classification.lifetime(tested).value == nil)
    }

    @Test func refreshShowsWhereOthersAreDead() {
        let ages = (1...10).map { Double($0) / 2 }
        let lifetime = Lifetime(alive: 3, dead: 3.25)
        func refresh(_ tested: [(age: Double, alive: Bool)]) -> Bool? {
            Classification.refresh(tested, lifetime: lifetime, what: "a packet").value
        }
        #expect(refresh(aged(9, ages)) == true)
        #expect(refresh(aged(3.1, ages)) == false)
        #expect(refresh(aged(9, [1, 2, 3])) == nil, "none of a telling age")
        let endless = Lifetime(alive: 5, dead: nil)
        #expect(Classification.refresh(aged(9, ages), lifetime: endless, what: "a packet").value == nil)
        #expect(Classification.refresh(aged(9, ages), lifetime: nil, what: "a packet").value == nil)
    }
}
