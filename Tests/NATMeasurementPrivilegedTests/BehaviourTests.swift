import Glibc
import NATMeasurement
import NetAddress
import SystemCalls
import TestSupport
import Testing
import TopologyModel

/// Fails the test where something else was measured than the rules make.
func expect(_ found: RouterMeasurement, is rules: Rules, _ round: Int) {
    func check<V: Equatable>(_ finding: Finding<V>, _ wanted: V?, _ what: String) {
        guard let wanted else { return }
        #expect(finding.value == wanted, "\(rules.name), round \(round), \(what): \(finding.evidence)")
    }
    check(found.udp, .forward, "udp")
    check(found.translated, true, "translated")
    check(found.mapping, rules.mapping, "mapping")
    check(found.filtering, rules.filtering, "filtering")
    check(found.ports, rules.ports, "ports")
    check(found.hairpin, rules.hairpin, "hairpin")
    check(found.earlyPacket, rules.early, "early packet")
    check(found.exposed, rules.exposed, "exposed")
    check(found.sharing, rules.sharing, "sharing")
    check(found.sharedDelivery, rules.sharedDelivery, "delivery to hosts with the same port")
    check(found.unsolicited, rules.unsolicited, "unsolicited")
    check(found.tcpMapping, rules.tcp, "TCP mapping")
    check(found.remoteSource, rules.remoteSource, "remote source")
    check(found.icmp, true, "ICMP")
    check(found.icmpSurvived, true, "after ICMP")
    check(found.fragments, true, "fragments")
    check(found.fragmentsReversed, true, "reversed fragments")
    check(found.fragmentsInward, true, "inbound fragments")
}

extension Privileged {
    struct BehaviourTests {
        @Test(arguments: Rules.all) func `each rule set is measured as what it is`(rules: Rules) throws {
            try withCleanup { cleanup in
                let rig = try Rig(cleanup)
                var longest = Duration.zero
                var last: RouterMeasurement?
                for round in 0..<rounds {
                    // Else the sets would keep what the last round taught them.
                    try tool(in: rig.router.name, "nft", "flush", "ruleset")
                    try rig.load(rules)
                    let start = MonotonicTime.now()
                    let found = try NATMeter.measure(try rig.request())
                    last = found
                    longest = max(longest, .now() - start)
                    expect(found, is: rules, round)
                    #expect(found.removedConnections > 20)
                    #expect(try rig.traces() == [])
                }
                if getenv("NATLAB_DUMP") != nil, let last { dump(last) }
                print("\(rules.name): \(rounds) rounds, the longest \(longest)")
            }
        }
    }
}
