import NetAddress
import Testing

@testable import PathTrace

@Suite struct SightingTableTests {
    private func point(_ node: String) -> WatchPoint {
        WatchPoint(node: node, namespace: "lab.\(node)", interface: "eth0")
    }

    private func seen(_ payload: [UInt8], from port: UInt16 = 4000) -> SeenDatagram {
        SeenDatagram(
            source: Endpoint(IPAddress(v4: 0xC0A8_0102), port: port),
            destination: Endpoint(IPAddress(v4: 0xCB00_710B), port: 51820), ttl: 64, size: payload.count,
            payload: payload)
    }

    @Test func `one datagram is the same everywhere, whatever its addresses and the order of reading`() {
        var table = SightingTable(limit: 10)
        table.insert(seen([1], from: 1024), at: point("r"), isOutgoing: true, time: 30)
        table.insert(seen([1]), at: point("r"), isOutgoing: false, time: 20)
        table.insert(seen([2]), at: point("a"), isOutgoing: true, time: 11)
        table.insert(seen([1]), at: point("a"), isOutgoing: true, time: 10)
        #expect(table.datagrams.map(\.payload) == [[1], [2]])
        #expect(table.datagrams[0].sightings.map(\.time) == [10, 20, 30])
        #expect(table.datagrams[0].sightings.map(\.source.port) == [4000, 4000, 1024])
        #expect(table.datagrams[0].sightings.map(\.isOutgoing) == [true, false, true])
    }

    @Test func `what is sent again is another datagram, also where the first was lost on the way`() {
        var table = SightingTable(limit: 10)
        for time in [10, 5_000] as [Int64] {
            table.insert(seen([1]), at: point("a"), isOutgoing: true, time: time)
        }
        // Only the second comes here; the third has not been at the first place.
        table.insert(seen([1]), at: point("b"), isOutgoing: false, time: 5_002)
        #expect(table.datagrams.map { $0.sightings.map(\.time) } == [[10], [5_000, 5_002]])
    }

    @Test func `no more than the limit is kept, the rest is counted`() {
        var table = SightingTable(limit: 3)
        for number in 0..<10 as Range<UInt8> {
            table.insert(seen([number]), at: point("a"), isOutgoing: true, time: Int64(number))
        }
        #expect(table.datagrams.count == 3 && table.refused == 7)
        table.insert(seen([2]), at: point("b"), isOutgoing: false, time: 20)
        #expect(table.datagrams[2].sightings.count == 2 && table.refused == 7)
    }

    @Test func `a flood of equal datagrams is told apart in linear time`() {
        var table = SightingTable(limit: 20_000)
        for number in 0..<20_000 as Range<Int64> {
            table.insert(seen([9]), at: point("a"), isOutgoing: true, time: number * 1000)
            table.insert(seen([9]), at: point("b"), isOutgoing: false, time: number * 1000 + 10)
        }
        #expect(table.datagrams.count == 20_000)
        #expect(table.datagrams.allSatisfy { $0.sightings.count == 2 })
    }
}
