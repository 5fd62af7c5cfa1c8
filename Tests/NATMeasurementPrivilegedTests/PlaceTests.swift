import Glibc
import NATMeasurement
import NetAddress
import NetlinkWire
import SystemCalls
import TestSupport
import Testing
import TopologyModel

/// Kills this process once a measurement has sent something through the router.
private func killAfterProbe(in router: NetworkNamespace) {
    _ = try? waitUntil(timeout: .seconds(20)) { () throws(OperationFailure) in
        let hasLink = try RouteSocket(router).links().contains { $0.name.hasPrefix("probe") }
        guard hasLink else { return false }
        return try !ConntrackSocket(router).entries().isEmpty
    }
    kill(getpid(), SIGKILL)
}

extension Privileged {
    /// Every way in which a router can be linked to others.
    struct PlaceTests {
        @Test(arguments: [Rig.LAN.bridge, .single, .empty], [Rig.Uplink.segment, .upperRouter])
        func `the far ends may be any`(lan: Rig.LAN, uplink: Rig.Uplink) throws {
            try withCleanup { cleanup in
                let rig = try Rig(cleanup, lan: lan, uplink: uplink)
                try rig.load(.faithful)
                for round in 0..<rounds {
                    let found = try NATMeter.measure(try rig.request())
                    expect(found, is: .faithful, round)
                    #expect(try rig.traces() == [])
                }
            }
        }

        /// An inner router with endpoint-independent filtering below one with address-and-port-dependent
        /// filtering.
        @Test func `two NATs in a row are measured as one`() throws {
            try withCleanup { cleanup in
                let rig = try Rig(cleanup, uplink: .upperRouter)
                let top = try rig.addTop(cleanup)
                try rig.load(.cone(.endpointIndependent, .endpointIndependent))
                var outer = Rules.cone(.addressDependent, .addressAndPortDependent)
                outer.nft = outer.nft?.replacing("203.0.113.10", with: "198.51.100.10")
                try rig.load(outer, into: rig.net)
                var request = try rig.request()
                request.scope = .composite
                request.above = [rig.net]
                request.outside = top
                request.outsideCandidates = try rig.addresses("198.51.100", 240...244)
                request.externalAddresses = try rig.addresses("198.51.100", 10...10)
                for _ in 0..<rounds {
                    let found = try NATMeter.measure(request)
                    #expect(found.mapping.value == .addressDependent, "\(found.mapping.evidence)")
                    #expect(found.filtering.value == .addressAndPortDependent, "\(found.filtering.evidence)")
                    #expect(found.ports.value == .random, "\(found.ports.evidence)")
                    #expect(found.hairpin.value == nil)
                    #expect(try rig.traces() == [])
                }
                // The inner one alone is what it was, measured at the same time as both; on other ports,
                // since its sets remember those of before.
                let results = NATMeter.measure(
                    [try rig.request(), request].enumerated().map { index, request in
                        var request = request
                        request.firstPort += UInt16(index + 1) * MeasurementRequest.portSpan
                        return request
                    })
                let (inner, both) = (try results[0].get(), try results[1].get())
                expect(inner, is: .cone(.endpointIndependent, .endpointIndependent), 0)
                #expect(both.mapping.value == .addressDependent, "\(both.mapping.evidence)")
                #expect(both.filtering.value == .addressAndPortDependent, "\(both.filtering.evidence)")
            }
        }

        /// All on one segment and on the same addresses: their packets do not meet.
        @Test func `many routers are measured at once`() throws {
            try withCleanup { cleanup in
                let rules = Rules.all.filter { !$0.name.contains("hairpin") }
                var rigs: [Rig] = []
                for rules in rules {
                    let rig = try Rig(cleanup, neighbour: rigs.last)
                    try rig.load(rules)
                    rigs.append(rig)
                }
                let start = MonotonicTime.now()
                let results = NATMeter.measure(try rigs.map { try $0.request() })
                print("\(rigs.count) routers at once: \(MonotonicTime.now() - start)")
                for (rules, result) in zip(rules, results) { expect(try result.get(), is: rules, 0) }
                #expect(try rigs.flatMap { try $0.traces() } == [])
            }
        }

        /// The port that a LAN without one gets goes with the process.
        @Test func `a measurement that is killed leaves no link behind`() async throws {
            try await withCleanup { cleanup in
                let rig = try Rig(cleanup, lan: .empty)
                try rig.load(.faithful)
                let router: String = rig.router.name
                await #expect(processExitsWith: .signal(SIGKILL)) {
                    [router = router as String, net = rig.net.name as String] in
                    _ = inParallel([true, false], limit: 2) { measures in
                        guard measures else { return killAfterProbe(in: NetworkNamespace(router)) }
                        let request = MeasurementRequest(
                            router: "r", network: NetworkNamespace(router), inside: nil,
                            lanAddress: IPAddress(v4: 0xC0A8_0101),
                            insideCandidates: (0xC0A8_01F0...0xC0A8_01F1).map { IPAddress(v4: $0) },
                            outside: FarEnd(NetworkNamespace(net), "port0"),
                            outsideCandidates: (0xCB00_71F0...0xCB00_71F2).map { IPAddress(v4: $0) },
                            externalAddresses: [IPAddress(v4: 0xCB00_710A)], firstPort: 20_000, lifetime: 60)
                        _ = try? NATMeter.measure(request)
                    }
                }
                // The kernel takes a namespace away in its own time.
                let isGone = try waitUntil(timeout: .seconds(10)) { () throws(OperationFailure) in
                    try !tool(in: router, "ip", "-o", "link").contains("probe")
                }
                #expect(isGone)
            }
        }

        @Test func `a cancelled measurement ends soon and cleans up`() throws {
            try withCleanup { cleanup in
                let rig = try Rig(cleanup, lan: .empty)
                try rig.load(.faithful)
                let request = try rig.request(lifetime: 600)
                let start = MonotonicTime.now()
                let failure = #expect(throws: OperationFailure.self) {
                    try NATMeter.measure(request) { MonotonicTime.now() - start > .seconds(2) }
                }
                #expect(failure?.errno == ECANCELED)
                #expect(MonotonicTime.now() - start < .seconds(5))
                #expect(try rig.traces() == [])
            }
        }

        /// Someone gave a host, and a host beside it, addresses that the measurement would have taken.
        @Test func `addresses that someone has are left alone`() throws {
            try withCleanup { cleanup in
                let rig = try Rig(cleanup)
                try rig.load(.faithful)
                let neighbour = try cleanup.namespace("\(rig.id).n")
                for (network, bridge, prefix) in [
                    (rig.router, "lan0", "192.168.1"), (rig.net, "br0", "203.0.113"),
                ] {
                    let name = "n" + bridge
                    try tool(
                        in: network.name, "ip", "link", "add", name, "type", "veth", "peer", "name", name,
                        "netns",
                        neighbour.name)
                    try tool(in: network.name, "ip", "link", "set", name, "master", bridge, "up")
                    try tool(in: neighbour.name, "ip", "addr", "add", "\(prefix).240/24", "dev", name)
                    try tool(in: neighbour.name, "ip", "link", "set", name, "up")
                }
                try tool(in: rig.host.name, "ip", "addr", "add", "192.168.1.241/24", "dev", "eth0")
                let found = try NATMeter.measure(try rig.request())
                expect(found, is: .faithful, 0)
                let hosts = Set(found.internalEndpoints.map(\.address.description))
                #expect(hosts == ["192.168.1.242", "192.168.1.243"])
                #expect(found.filtering.evidence.contains("203.0.113") == false)
                #expect(found.exposed.evidence.contains("203.0.113.243"), "the third remote address")
            }
        }

        @Test func `without room less is measured, and it is said why`() throws {
            try withCleanup { cleanup in
                let rig = try Rig(cleanup)
                try rig.load(.faithful)
                var request = try rig.request()
                request.insideCandidates = try rig.addresses("192.168.1", 240...240)
                var found = try NATMeter.measure(request)
                #expect(found.mapping.value == .endpointIndependent)
                #expect(found.ports.value == .preserve)
                #expect(found.hairpin.evidence == "there is no room for a second host inside")
                request.outsideCandidates = try rig.addresses("203.0.113", 240...240)
                found = try NATMeter.measure(request)
                #expect(found.mapping == .none("there is no room for a second host outside"))
                #expect(found.udp.value == .forward)
                request.outsideCandidates = try rig.addresses("203.0.113", 10...10)
                let failure = #expect(throws: OperationFailure.self) { try NATMeter.measure(request) }
                #expect(failure?.object == "outside of r")
                #expect(try rig.traces() == [])
            }
        }

        @Test func `a router that does not answer is a failure, and nothing stays`() throws {
            try withCleanup { cleanup in
                let rig = try Rig(cleanup, lan: .empty)
                var request = try rig.request()
                request.externalAddresses = try rig.addresses("203.0.113", 99...99)
                let failure = #expect(throws: OperationFailure.self) { try NATMeter.measure(request) }
                #expect(failure?.object == "203.0.113.99")
                #expect(try rig.traces() == [])
            }
        }
    }
}
