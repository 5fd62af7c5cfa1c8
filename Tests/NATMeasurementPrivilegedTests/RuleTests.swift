import NATMeasurement
import NetAddress
import SystemCalls
import TestSupport
import Testing
import TopologyModel

extension Privileged {
    /// What is no NAT of RFC 4787's table.
    struct RuleTests {
        private func measure(_ rules: Rules, addresses: [String] = [], forwards: [StaticForward] = []) throws
            -> RouterMeasurement
        {
            try withCleanup { cleanup in
                let rig = try Rig(cleanup, addresses: addresses)
                try rig.load(rules)
                var request = try rig.request()
                request.externalAddresses = try (["203.0.113.10"] + addresses).map {
                    try #require(IPAddress($0))
                }
                request.forwards = forwards.map { forward in
                    var forward = forward
                    forward.at = FarEnd(rig.host, "eth0")
                    return forward
                }
                let found = try NATMeter.measure(request)
                #expect(try rig.traces() == [])
                return found
            }
        }

        @Test func `plain routing`() throws {
            let found = try measure(.nothing)
            #expect(found.translated.value == false)
            #expect(found.mapping == .none("the router does not translate addresses"))
            #expect(found.filtering.value == .endpointIndependent)
            #expect(found.exposed.value == true)
            #expect(found.icmp.value == true)
            #expect(found.fragments.value == true)
            #expect(found.fragmentsReversed.value == true)
        }

        @Test func `a stateful firewall`() throws {
            let found = try measure(.stateful)
            #expect(found.translated.value == false)
            #expect(found.filtering.value == .addressAndPortDependent)
            #expect(found.exposed.value == false)
            #expect(found.unsolicited.value == .silent)
        }

        @Test func `UDP that is dropped, and UDP that is rejected`() throws {
            let dropped = try measure(.dropped)
            #expect(dropped.udp.value == .drop, "\(dropped.udp.evidence)")
            #expect(dropped.mapping == .none("UDP does not come through"))
            let rejected = try measure(.rejected)
            #expect(rejected.udp.value == .reject)
            #expect(rejected.udp.evidence == "192.168.1.1 answers with ICMP type 3, code 13")
        }

        @Test func `a port that is blocked leaves the mapping unknown, not wrong`() throws {
            let found = try measure(.stunOnly)
            #expect(found.udp.value == .forward)
            #expect(found.mapping == .none("some of the packets did not arrive outside"))
            #expect(found.tcpMapping.value == .endpointIndependent)
        }

        @Test func `hairpins that show an internal endpoint or the router`() throws {
            var rules = Rules.cone(.endpointIndependent, .endpointIndependent, hairpin: true)
            let text = try #require(rules.nft)
            let turned = #"iifname "lan0" oifname "lan0" ct status dnat jump alloc"#
            #expect(text.contains(turned))
            rules.nft = text.replacing(
                turned, with: #"iifname "lan0" oifname "lan0" ct status dnat masquerade"#)
            let router = try measure(rules).hairpin
            #expect(router.value == .other, "\(router.evidence)")
            #expect(router.evidence.contains("as 192.168.1.1:"))
            rules.nft = text.replacing(turned, with: "")
            let inner = try measure(rules).hairpin
            #expect(inner.value == .internal, "\(inner.evidence)")
        }

        @Test func `what is for the second host reaches the first`() throws {
            #expect(try measure(.naive).sharedDelivery.value == false)
        }

        @Test func `several external addresses`() throws {
            let addresses = ["203.0.113.11", "203.0.113.12", "203.0.113.13"]
            let paired = try measure(.sourcePool(" --persistent"), addresses: addresses)
            #expect(paired.pooling.value == .paired, "\(paired.pooling.evidence)")
            // The address depends on the destination too.
            let plain = try measure(.sourcePool(""), addresses: addresses)
            #expect(plain.pooling.value == .arbitrary, "\(plain.pooling.evidence)")
            let random = try measure(.sourcePool(" --random-fully"), addresses: addresses)
            #expect(random.pooling.value == .arbitrary, "\(random.pooling.evidence)")
            #expect(random.mapping.value == .addressAndPortDependent)
        }

        @Test func `static forwards and one-to-one addresses`() throws {
            func forward(_ external: String, _ port: UInt16?, _ inner: String, _ innerPort: UInt16?) throws
                -> StaticForward
            {
                StaticForward(
                    external: try #require(IPAddress(external)), externalPort: port,
                    internal: try #require(IPAddress(inner)), internalPort: innerPort,
                    at: FarEnd(NetworkNamespace(""), ""))
            }
            let found = try measure(
                .forwarding([
                    "-t nat -A PREROUTING -i wan0 -p udp --dport 51820 -j DNAT --to-destination 192.168.1.2:5000",
                    "-t nat -A PREROUTING -d 203.0.113.12 -j DNAT --to-destination 192.168.1.2",
                ]), addresses: ["203.0.113.12"],
                forwards: [
                    try forward("203.0.113.10", 51_820, "192.168.1.2", 5000),
                    try forward("203.0.113.12", nil, "192.168.1.2", nil),
                    try forward("203.0.113.10", 51_821, "192.168.1.2", 5001),
                ])
            #expect(found.forwards.map(\.works.value) == [true, true, false], "\(found.forwards)")
            expect(found, is: .faithful, 0)
        }
    }

    /// Links that lose and delay.
    struct LinkTests {
        static let lossy: [Rules] = [
            .faithful, .masquerade, .sequential, .block,
            .cone(.endpointIndependent, .endpointIndependent, hairpin: true),
            .cone(.addressDependent, .addressDependent),
            .cone(.addressAndPortDependent, .endpointIndependent),
        ]

        @Test(arguments: lossy) func `links that lose 10 % change nothing`(rules: Rules) throws {
            try withCleanup { cleanup in
                let rig = try Rig(cleanup)
                for _ in 0..<rounds {
                    try tool(in: rig.router.name, "nft", "flush", "ruleset")
                    try rig.load(rules)
                    try rig.load(
                        Rules(
                            name: "loss",
                            nft: """
                                table netdev loss {
                                 chain wan { type filter hook ingress device wan0 priority 0; \
                                numgen random mod 10 == 0 drop; }
                                 chain lan { type filter hook ingress device host0 priority 0; \
                                numgen random mod 10 == 0 drop; }
                                }
                                """))
                    var request = try rig.request()
                    request.tries = 8
                    let start = MonotonicTime.now()
                    expect(try NATMeter.measure(request), is: rules, 0)
                    print("\(rules.name), lossy: \(MonotonicTime.now() - start)")
                }
            }
        }

        @Test(
            .enabled(if: KernelAbilities.hasNetem, .init(rawValue: KernelAbilities.noNetem)), arguments: lossy
        )
        func `links that delay change nothing`(rules: Rules) throws {
            try withCleanup { cleanup in
                let rig = try Rig(cleanup)
                try rig.load(rules)
                for interface in ["wan0", "host0"] {
                    try tool(
                        in: rig.router.name, "tc", "qdisc", "add", "dev", interface, "root", "netem", "delay",
                        "150ms")
                }
                let start = MonotonicTime.now()
                let found = try NATMeter.measure(try rig.request())
                print("\(rules.name), 300 ms there and back: \(MonotonicTime.now() - start)")
                expect(found, is: rules, 0)
                #expect(found.roundTrip ?? 0 >= 300)
            }
        }
    }

    struct LifetimeTests {
        /// Rules whose mappings live for three seconds, and whether packets from outside make them live
        /// longer.
        static let short: [(Rules, Bool)] = [
            (Rules.faithful.expiring(after: 3), true),
            (Rules.randomFully.expiring(after: 3), true),
            // The sets learn from what goes out only.
            (Rules.cone(.endpointIndependent, .endpointIndependent, timeout: 3), false),
            (Rules.cone(.endpointIndependent, .addressAndPortDependent, timeout: 3), true),
            (Rules.cone(.addressDependent, .addressDependent, timeout: 3), true),
        ]

        @Test(arguments: short) func `a mapping's lifetime is found`(rules: Rules, inbound: Bool) throws {
            try withCleanup { cleanup in
                let rig = try Rig(cleanup)
                try rig.load(rules)
                let start = MonotonicTime.now()
                let found = try NATMeter.measure(try rig.request(lifetime: 5))
                print("\(rules.name), lifetime: \(MonotonicTime.now() - start), \(found.lifetime.evidence)")
                #expect(found.lifetime.value?.fits(3) == true, "\(found.lifetime.evidence)")
                #expect(found.lifetime.value?.dead != nil)
                #expect(found.outboundRefresh.value == true, "\(found.outboundRefresh.evidence)")
                #expect(found.inboundRefresh.value == inbound, "\(found.inboundRefresh.evidence)")
                #expect(try rig.traces() == [])
            }
        }

        @Test func `a mapping that outlives the search is said to`() throws {
            try withCleanup { cleanup in
                let rig = try Rig(cleanup)
                try rig.load(.faithful)
                let found = try NATMeter.measure(try rig.request(lifetime: 2))
                #expect(found.lifetime.value?.dead == nil)
                #expect(found.lifetime.value?.alive ?? 0 >= 1.9)
                #expect(found.outboundRefresh.value == nil)
            }
        }
    }
}
