import FoundationEssentials
import LabPlanner
import LinuxLab
import NetlinkWire
import SystemCalls
import TestSupport
import Testing
import TopologyModel

/// Links with delay, loss and rate, measured with ping and iperf3.
///
/// ```
///   far 203.0.113.9
///    │
///   ─┴─┬──── internet
///      r     no NAT
///    ┌─┴─┐ 10.0.0.0/24
///    a   b   a's link is the one that is shaped
/// ```
extension Privileged {
    @Suite struct LinkTests {
        private struct Site {
            var root: LabRoot
            var lab: String
            static let far = "203.0.113.9"
            func namespace(_ node: String) -> String { "\(lab).\(node)" }
        }

        private func plan(_ lab: String, _ link: String, uplink: String = "") throws -> LabPlan {
            let text = """
                name = "\(lab)"
                [router.r]
                uplink = "internet"
                lan = "10.0.0.0/24"
                nat = "none"
                \(uplink)
                [host.far]
                on = "internet"
                address = "\(Site.far)"
                [host.a]
                on = "r"
                \(link)
                [host.b]
                on = "r"
                """
            let result = TopologyFile.parse(bytes: Array(text.utf8), fileName: "lab.toml")
            return compile(try #require(result.topology, "\(result.diagnostics)"))
        }

        private func withSite(_ link: String, uplink: String = "", _ body: (Site) throws -> Void) throws {
            try withCleanup { cleanup in
                let (root, lab) = cleanup.labRoot()
                _ = try LabBuild.up(
                    try plan(lab, link, uplink: uplink), filesFolder: "/", in: root, drivers: .plain())
                try body(Site(root: root, lab: lab))
                #expect(try LabRemoval.down(lab, in: root).isClean)
                try expectNothingLeft(of: lab, in: root)
            }
        }

        // MARK: Rate

        @Test func rateAloneLimitsBothDirections() throws {
            try withSite("link = { rate = \"10mbit\" }") { site in
                for (node, interface) in [("a", "eth0"), ("r", "a")] {
                    let shown = try tool("tc", "-n", site.namespace(node), "qdisc", "show", "dev", interface)
                    #expect(shown.contains("qdisc tbf 1: root") && shown.contains("rate 10Mbit burst 5000b"))
                }
                let there = try tcp(site, from: "a")
                let back = try tcp(site, from: "a", "--reverse")
                let other = try tcp(site, from: "b")
                // TCP's data are 94.9 % of the frames (1448 of 1514 bytes, and acknowledgements).
                #expect(there > 5e6 && there < 10.2e6, "\(there) bit/s")
                #expect(back > 5e6 && back < 10.2e6, "\(back) bit/s")
                #expect(other > 12e6, "\(other) bit/s beside it")
            }
        }

        @Test(.enabled(if: KernelAbilities.hasNetem, "\(KernelAbilities.noNetem)"))
        func rateBesideADelayLimitsBothDirections() throws {
            try withSite("link = { delay = \"10ms\", rate = \"10mbit\" }") { site in
                let shown = try tool("tc", "-n", site.namespace("a"), "qdisc", "show", "dev", "eth0")
                #expect(shown.contains("qdisc netem 1: root") && shown.contains("delay 10ms rate 10Mbit"))
                for direction in [[], ["--reverse"]] {
                    let rate = try tcp(site, from: "a", direction)
                    #expect(rate > 5e6 && rate < 10.2e6, "\(rate) bit/s \(direction)")
                }
            }
        }

        /// netem counts packets: a limit for full frames would drop small ones that are on their way.
        @Test(.enabled(if: KernelAbilities.hasNetem, "\(KernelAbilities.noNetem)"))
        func smallPacketsGetTheirRateToo() throws {
            try withSite("link = { delay = \"100ms\", rate = \"2mbit\" }") { site in
                // 150 at once: 86 bytes of payload are 128 on the wire, 77 ms of the rate.
                let result = try ping(
                    site, from: "a", "10.0.0.1", count: 150, ["-l", "150", "-s", "86"])
                #expect(result.received == 150)
            }
        }

        // MARK: Delay and loss

        @Test(.enabled(if: KernelAbilities.hasNetem, "\(KernelAbilities.noNetem)"))
        func delayIsAddedEachWay() throws {
            try withSite(
                "link = { delay = \"40ms\", jitter = \"5ms\" }", uplink: "link = { delay = \"20ms\" }"
            ) { site in
                // Over both links: 2 x (40 ± 5) + 2 x 20, and what the machine itself needs.
                let far = try ping(site, from: "a", Site.far, count: 60)
                #expect(far.received == 60)
                // Only jitter makes some faster than 120 ms: of 60, one in a million times none is so by 2.5 ms. No upper
                // bounds but for the fastest: a busy machine is slow at times.
                #expect(far.fastest > 110 && far.fastest < 119.5 && far.average > 117, "\(far)")
                let near = try ping(site, from: "a", "10.0.0.1", count: 60)
                #expect(near.fastest > 70 && near.fastest < 79.5 && near.average > 77, "\(near)")
                let beside = try ping(site, from: "b", "10.0.0.1", count: 60)
                #expect(beside.fastest < 20, "\(beside)")
            }
        }

        @Test(.enabled(if: KernelAbilities.hasNetem, "\(KernelAbilities.noNetem)"))
        func lossIsAsGivenEachWay() throws {
            try withSite("link = { loss = \"20%\" }") { site in
                let count = 2000
                let result = try ping(site, from: "a", Site.far, count: count)
                let counters = try tool(in: site.namespace("far"), "nstat", "-asz", "IcmpInEchos")
                let line = try #require(counters.split(separator: "\n").first { $0.hasPrefix("IcmpInEchos") })
                let arrived = try #require(line.split(separator: " ").dropFirst().first.flatMap { Int($0) })
                // Six standard deviations of a binomial distribution: one false alarm in 500 million.
                func isLikely(_ found: Int, of all: Int) -> Bool {
                    let mean = 0.8 * Double(all)
                    let deviation = (0.8 * 0.2 * Double(all)).squareRoot()
                    return abs(Double(found) - mean) < 6 * deviation
                }
                #expect(isLikely(arrived, of: count), "\(arrived) of \(count) there")
                #expect(isLikely(result.received, of: arrived), "\(result.received) of \(arrived) back")
                // A lost packet is one: what leaves a host is never several at once.
                for node in ["a", "far"] {
                    let shown = try tool("ip", "-d", "-n", site.namespace(node), "link", "show", "eth0")
                    #expect(shown.contains("gso_max_segs 1 "), "\(shown)")
                }
            }
        }

        @Test(.enabled(if: KernelAbilities.hasNetem, "\(KernelAbilities.noNetem)"))
        func everythingLostIsEverything() throws {
            try withSite("link = { loss = \"100%\" }") { site in
                let shaped = try pings(from: site.namespace("a"), to: "10.0.0.1")
                let beside = try pings(from: site.namespace("b"), to: "10.0.0.1")
                #expect(!shaped)
                #expect(beside)
            }
        }

        @Test(
            arguments: [
                (
                    LinkShape(delay: 40_000, jitter: 5000, loss: 50_000, rate: 20_000_000),
                    .netem(
                        NetemSettings(
                            latency: 40_000_000, jitter: 5_000_000, loss: 214_748_364, rate: 2_500_000,
                            limit: 1043))
                ),
                (
                    LinkShape(loss: 1_000_000),
                    .netem(NetemSettings(latency: 0, jitter: 0, loss: .max, rate: 0, limit: 1000))
                ),
                // 2,500,000 packets are on their way.
                (
                    LinkShape(delay: 10_000_000),
                    .netem(
                        NetemSettings(latency: 10_000_000_000, jitter: 0, loss: 0, rate: 0, limit: 2_501_000))
                ),
                (
                    LinkShape(rate: 10_000_000),
                    .tokenBucket(TokenBucketSettings(rate: 1_250_000, burst: 5000, limit: 125_000))
                ),
                // Two frames and ten: slow links must hold one.
                (
                    LinkShape(rate: 1000),
                    .tokenBucket(TokenBucketSettings(rate: 125, burst: 3028, limit: 15_140))
                ),
                (
                    LinkShape(delay: 10_000_000, jitter: 2_000_000, rate: 100_000_000_000),
                    .netem(
                        NetemSettings(
                            latency: 10_000_000_000, jitter: 2_000_000_000, loss: 0, rate: 12_500_000_000,
                            limit: 1_172_700_627))
                ),
            ] as [(LinkShape, QueueDiscipline)])
        func queuesHoldWhatIsOnItsWay(_ shape: LinkShape, _ discipline: QueueDiscipline) {
            #expect(QueueDiscipline(shape) == discipline)
        }

        // MARK: Kernels without netem

        @Test func abilitiesAreWhatTheKernelHas() throws {
            let abilities = try LinkAbilities.look()
            #expect(abilities.hasNetem == KernelAbilities.hasNetem)
            #expect(abilities.hasTokenBucket)
        }

        @Test(
            .disabled(if: KernelAbilities.hasNetem, "this kernel has netem"),
            arguments: ["delay = \"1ms\"", "loss = \"1%\"", "delay = \"1ms\", rate = \"1mbit\""])
        func withoutNetemNothingIsBuilt(_ link: String) throws {
            try withCleanup { cleanup in
                let (root, lab) = cleanup.labRoot()
                let plan = try plan(lab, "link = { \(link) }")
                let failure = #expect(throws: LabFailure.self) {
                    _ = try LabBuild.up(plan, filesFolder: "/", in: root, drivers: .plain())
                }
                guard case .machineLacks(let lack) = failure else {
                    Issue.record("\(String(describing: failure))")
                    return
                }
                #expect(lack.object.hasPrefix("a ("))
                #expect(lack.detail?.contains("sch_netem") == true)
                #expect(lack.mend?.contains("modprobe sch_netem") == true)
                #expect(lack.mend?.contains("only `rate` works") == true)
                try expectNothingLeft(of: lab, in: root)
            }
        }

        // MARK: Witnesses

        private struct Ping {
            var received: Int
            /// Milliseconds.
            var fastest: Double
            var average: Double
            var slowest: Double
        }

        private func ping(
            _ site: Site, from node: String, _ address: String, count: Int, _ options: [String] = []
        ) throws -> Ping {
            let output = try ProgramCall(
                "ip",
                [
                    "netns", "exec", site.namespace(node), "ping", "-n", "-q", "-c", "\(count)", "-i", "0.01",
                    "-W", "2",
                ] + options + [address]
            ).run().output
            // "60 packets transmitted, 60 received, …" and "rtt min/avg/max/mdev = 1.0/2.0/3.0/0.5 ms"
            let summary = try #require(
                output.split(separator: "\n").first { $0.contains("transmitted") }, "\(output)")
            let words = summary.split { $0 == " " || $0 == "," }
            let received = try #require(words.firstIndex(of: "received").flatMap { Int(words[$0 - 1]) })
            let times = try #require(output.split(separator: "\n").first { $0.hasPrefix("rtt") }, "\(output)")
            let numbers = times.split { $0 == " " || $0 == "/" }.compactMap { Double($0) }
            // Perhaps followed by ", pipe 12".
            try #require(numbers.count >= 4, "\(output)")
            return Ping(received: received, fastest: numbers[0], average: numbers[1], slowest: numbers[2])
        }

        /// Bits of TCP's data a second that arrived.
        private func tcp(_ site: Site, from node: String, _ options: String...) throws -> Double {
            try tcp(site, from: node, options)
        }

        private func tcp(_ site: Site, from node: String, _ options: [String]) throws -> Double {
            let far = NetworkNamespace(site.namespace("far"))
            let server = try ProgramCall("iperf3", ["--server", "--one-off"], network: far).spawn()
            let result = Result {
                let isListening = try waitUntil(timeout: .seconds(30), pause: .milliseconds(20)) {
                    () throws(OperationFailure) in
                    try tool(in: far.name, "ss", "-Hltn", "sport", "=", "5201").contains(":5201")
                }
                try #require(isListening)
                return try tool(
                    "ip",
                    [
                        "netns", "exec", site.namespace(node), "iperf3", "--client", Site.far, "--json",
                        "--time", "4", "--omit", "1",
                    ] + options)
            }
            _ = try server.end(grace: .seconds(2))
            let report = try JSONDecoder().decode(Report.self, from: Data(result.get().utf8))
            return report.end.sum_received.bits_per_second
        }

        /// `iperf3 --json`.
        private struct Report: Decodable {
            struct Sum: Decodable { var bits_per_second: Double }
            struct End: Decodable { var sum_received: Sum }
            var end: End
        }
    }
}
