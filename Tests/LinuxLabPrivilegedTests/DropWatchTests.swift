import Glibc
import LinuxLab
import NetAddress
import NetlinkWire
import SystemCalls
import TestSupport
import Testing

extension Privileged {
    /// Real datagrams through real rules; the lab is drawn at `WatchedSite`.
    @Suite struct DropWatchTests {
        /// The drops up to the first whose destination port is this, which must come.
        private func drops(_ watch: DropWatch, until port: UInt16) throws -> [PacketDrop] {
            var all: [PacketDrop] = []
            _ = try waitUntil(timeout: .seconds(5)) { () throws(OperationFailure) in
                all += try watch.drops()
                return all.contains { $0.destination.port == port }
            }
            #expect(watch.listingFailure == nil)
            #expect(!watch.lostEvents)
            return all
        }

        private func only(_ watch: DropWatch, _ port: UInt16) throws -> PacketDrop {
            let drops = try drops(watch, until: port)
            #expect(drops.count == 1, "\(drops)")
            return try #require(drops.first)
        }

        @Test func rulesOfMasqueradeAreNamed() throws {
            try withCleanup { cleanup in
                let site = try WatchedSite(cleanup, nat: "\"masquerade\"")
                let watch = try site.watch("r")
                let far = try site.socket("far", 6000)
                let before = wallClockNanoseconds()
                try far.send("hello", to: site.wan, 4000)
                let input = try only(watch, 4000)
                #expect(input.source == Endpoint(site.far, port: 6000))
                #expect(input.destination == Endpoint(site.wan, port: 4000))
                #expect((input.family, input.table, input.chain) == ("ip", "filter", "INPUT"))
                #expect(input.hook == "input")
                #expect(input.rule == "iifname \"wan0\" ct state invalid,new drop")
                #expect(!input.isPolicy && !input.isReject)
                #expect(input.inInterface == "wan0" && input.outInterface == nil)
                #expect(input.payloadSize == 5)
                #expect(input.time > before && input.time <= wallClockNanoseconds())

                try far.send("good day", to: site.inside, 4001)
                let forward = try only(watch, 4001)
                #expect(forward.destination.address == site.inside)
                #expect((forward.chain, forward.hook, forward.payloadSize) == ("FORWARD", "forward", 8))
                #expect(forward.rule?.hasPrefix("iifname \"wan0\" ct state invalid,new ct ") == true)
                #expect(forward.rule?.hasSuffix(" drop") == true)
                #expect(forward.inInterface == "wan0" && forward.outInterface == "lan0")
            }
        }

        @Test func rulesOfTableNatlabAreNamed() throws {
            try withCleanup { cleanup in
                let site = try WatchedSite(cleanup, nat: "{ filtering = \"address-dependent\" }")
                let watch = try site.watch("r")
                let (far, other) = (try site.socket("far", 6000), try site.socket("other", 6000))
                let a = try site.socket("a", 5000)
                try a.send("out", to: site.far, 6000)
                let mapping = try #require(far.receive())
                #expect(mapping.address == site.wan)
                // An answer passes, somebody else's packet does not.
                try far.send("back", to: mapping.address, mapping.port)
                #expect(a.receive() == Endpoint(site.far, port: 6000))
                try other.send("foreign", to: mapping.address, mapping.port)
                let track = try only(watch, 5000)
                #expect(track.source.port == 6000 && track.source.address != site.far)
                #expect(track.destination == Endpoint(site.inside, port: 5000))
                #expect((track.family, track.table, track.chain) == ("ip", "natlab", "track"))
                #expect(track.hook == "postrouting")
                #expect(track.rule?.hasSuffix("!= @seen drop") == true, "\(track)")
                #expect(track.inInterface == "wan0" && track.outInterface == "lan0")

                let free = mapping.port == 4000 ? 4001 : 4000 as UInt16
                try far.send("unasked", to: site.wan, free)
                let input = try only(watch, free)
                #expect((input.table, input.chain, input.hook) == ("natlab", "input", "input"))
                #expect(input.rule == "iifname \"wan0\" ct state invalid,new drop")
            }
        }

        /// By iptables and by nftables.
        @Test(arguments: [
            ("\"blocked\"", "filter", false), ("\"rejected\"", "filter", true),
            ("{ udp = \"drop\" }", "natlab", false), ("{ udp = \"reject\" }", "natlab", true),
        ])
        func routerWithoutUDPIsNamed(_ nat: String, _ table: String, _ isReject: Bool) throws {
            try withCleanup { cleanup in
                let site = try WatchedSite(cleanup, nat: nat)
                let watch = try site.watch("r")
                try site.socket("a", 5000).send("out", to: site.far, 6000)
                let drop = try only(watch, 6000)
                #expect(drop.source == Endpoint(site.inside, port: 5000))
                #expect((drop.table, drop.hook) == (table, "forward"))
                #expect(drop.isReject == isReject)
                // "with icmp type" where it is iptables' rule.
                let end = isReject ? "admin-prohibited" : " drop"
                #expect(drop.rule?.hasPrefix("meta l4proto udp ") == true, "\(drop)")
                #expect(drop.rule?.hasSuffix(end) == true, "\(drop)")
            }
        }

        @Test func rulesOfTheUsersAreNamed() throws {
            try withCleanup { cleanup in
                let site = try WatchedSite(cleanup, nat: "\"masquerade\"")
                let (router, host) = (site.name("r"), site.name("a"))
                try tool(
                    in: router, "iptables", "-I", "FORWARD", "-p", "udp", "--dport", "7001", "-m", "length",
                    "--length", "0:100", "-j", "DROP")
                try tool(
                    in: router, "iptables", "-I", "FORWARD", "-p", "udp", "-m", "string", "--string",
                    "secret",
                    "--algo", "bm", "-j", "REJECT")
                try tool(
                    in: router, "iptables", "-t", "raw", "-I", "PREROUTING", "-p", "udp", "--dport", "7003",
                    "-j", "DROP")
                try tool(
                    in: router, "nft",
                    """
                    table inet own { chain sub { udp dport { 7004, 7005 } counter reject comment "my  rule"; };
                    chain late { type filter hook forward priority 300; jump sub; };
                    chain last { type filter hook postrouting priority 300; udp dport 7007 drop; }; }
                    """)
                try tool(
                    in: host, "nft", "table inet own { chain out { type filter hook output priority 0; }; }")
                try tool(in: host, "nft", "add rule inet own out udp dport 7006 drop")
                let (watch, hostWatch) = (try site.watch("r"), try site.watch("a"))
                let a = try site.socket("a", 5000)

                try a.send("x", to: site.far, 7001)
                #expect(try only(watch, 7001).rule == "udp dport 7001 meta length 0-100 drop")
                try a.send("a secret", to: site.far, 7002)
                let string = try only(watch, 7002)
                // What nft has no words for is called by its name.
                #expect(string.rule == "meta l4proto udp xt match string reject" && string.isReject)
                try a.send("x", to: site.far, 7003)
                let raw = try only(watch, 7003)
                #expect((raw.table, raw.chain, raw.hook) == ("raw", "PREROUTING", "prerouting"))
                try a.send("x", to: site.far, 7004)
                let late = try only(watch, 7004)
                #expect((late.family, late.table, late.chain) == ("inet", "own", "sub"))
                #expect(late.hook == "forward" && late.source == Endpoint(site.inside, port: 5000))
                #expect(
                    late.rule == "udp dport { 7004, 7005 } reject comment \"my  rule\"" && late.isReject,
                    "\(late)")
                try a.send("x", to: site.far, 7007)
                let last = try only(watch, 7007)
                // Translated already.
                #expect(last.hook == "postrouting" && last.source.address == site.wan)
                #expect(last.inInterface == "lan0" && last.outInterface == "wan0")
                #expect(try hostWatch.drops() == [])
                try a.send("x", to: site.far, 7006)
                let own = try only(hostWatch, 7006)
                #expect((own.chain, own.hook, own.inInterface) == ("out", "output", nil))
                #expect(own.outInterface == "eth0")
                #expect(own.rule == "udp dport 7006 drop")
            }
        }

        @Test func policyIsToldFromARule() throws {
            try withCleanup { cleanup in
                let site = try WatchedSite(cleanup, nat: "\"masquerade\"")
                try tool(in: site.name("r"), "iptables", "-P", "FORWARD", "DROP")
                let watch = try site.watch("r")
                try site.socket("a", 5000).send("out", to: site.far, 6000)
                let drop = try only(watch, 6000)
                #expect(drop.isPolicy && drop.rule == nil && !drop.isReject)
                #expect((drop.table, drop.chain, drop.hook) == ("filter", "FORWARD", "forward"))
            }
        }

        @Test func bridgesRuleIsNamed() throws {
            try withCleanup { cleanup in
                let site = try WatchedSite(cleanup, nat: "\"masquerade\"")
                try tool(
                    in: site.name("internet"), "nft",
                    """
                    table bridge own { chain pass { type filter hook forward priority 0;
                    udp dport 6000 drop; }; }
                    """)
                let watch = try site.watch("internet")
                try site.socket("a", 5000).send("out", to: site.far, 6000)
                let drop = try only(watch, 6000)
                #expect((drop.family, drop.hook, drop.rule) == ("bridge", "forward", "udp dport 6000 drop"))
            }
        }

        @Test func whatPassesIsNotReported() throws {
            try withCleanup { cleanup in
                let site = try WatchedSite(cleanup, nat: "\"masquerade\"")
                let watch = try site.watch("r")
                let (far, a) = (try site.socket("far", 6000), try site.socket("a", 5000))
                for _ in 0..<10 {
                    try a.send("out", to: site.far, 6000)
                    let mapping = try #require(far.receive())
                    try far.send("back", to: mapping.address, mapping.port)
                    #expect(a.receive() == Endpoint(site.far, port: 6000))
                }
                // Others' packets neither, though they are dropped.
                try site.socket("other", 6000).send("x", to: site.wan, 4000)
                let before = try drops(watch, until: 4000)
                #expect(before.map(\.destination.port) == [4000])
                let narrow = try DropWatch(site.network("r"), addresses: [site.far])
                try site.socket("other", 6001).send("x", to: site.wan, 4001)
                try far.send("x", to: site.wan, 4002)
                let drops = try drops(narrow, until: 4002)
                // The wide watch has marked the first of the two, and all who watch are told.
                #expect(Set(drops.map(\.destination.port)).isSubset(of: [4001, 4002]))
            }
        }

        /// Some hundreds are followed, the others go their way unseen; what is told waits until it is read.
        @Test func floodIsFollowedInPartAndNothingToldIsLost() throws {
            try withCleanup { cleanup in
                let site = try WatchedSite(cleanup, nat: "\"masquerade\"")
                let watch = try site.watch("r")
                let far = try site.socket("far", 6000)
                let start = MonotonicTime.now()
                for _ in 0..<5000 { try far.send("flood", to: site.wan, 4000) }
                let took = MonotonicTime.now() - start
                let all = try drops(watch, until: 4000)
                print("\(all.count) of 5000 drops followed, sent in \(took)")
                #expect(all.count >= 500)
                // 500 at once, and 500 a second.
                let most = 500 + 500 * Int((took + .seconds(1)).components.seconds)
                #expect(all.count <= most + 1)
                #expect(all.allSatisfy { $0.destination == Endpoint(site.wan, port: 4000) })
                #expect(Set(all.map(\.rule)).count == 1)
            }
        }

        @Test func tableIsAsWrittenAndGoesWithItsOwner() throws {
            try withCleanup { cleanup in
                let network = try cleanup.namespace(uniqueName("t"))
                func tables() throws -> String { try tool(in: network.name, "nft", "list", "tables") }
                do {
                    let v6 = try #require(IPAddress("2001:db8::1"))
                    let watch = try DropWatch(network, addresses: [IPAddress(v4: 0xCB00_7109), v6])
                    #expect(try watch.drops() == [])
                    #expect(try tables() == "table inet natlab-why\ntable bridge natlab-why\n")
                    let listed = try tool(in: network.name, "nft", "list", "table", "inet", "natlab-why")
                    let words = listed.split { " \n\t".contains($0) }.joined(separator: " ")
                    for rule in [
                        "flags owner", "set v4 { type ipv4_addr elements = { 203.0.113.9 } }",
                        "set v6 { type ipv6_addr elements = { 2001:db8::1 } }",
                        "chain trace { limit rate 500/second burst 500 packets meta nftrace set 1 }",
                        "chain choose { meta l4proto != udp return",
                        "meta protocol ip @nh,96,32 @v4 goto trace",
                        "meta protocol ip @nh,128,32 @v4 goto trace",
                        "meta protocol ip6 @nh,64,128 @v6 goto trace",
                        "meta protocol ip6 @nh,192,128 @v6 goto trace }",
                        "{ type filter hook prerouting priority -350; policy accept; jump choose }",
                        "{ type filter hook output priority -350; policy accept; jump choose }",
                    ] { #expect(words.contains(rule), "\(words)") }
                    withExtendedLifetime(watch) {}
                }
                #expect(try tables() == "")
                let name: String = network.name
                var watches: [DropWatch] = []
                for _ in 0..<8 { watches.append(try DropWatch(network, addresses: [])) }
                #expect(try tables().contains("natlab-why-8"))
                let failure = #expect(throws: OperationFailure.self) { try DropWatch(network, addresses: []) }
                #expect(
                    failure?.errno == EBUSY && failure?.namespace == name, "\(String(describing: failure))")
                #expect(failure?.detail?.hasPrefix("8 others watch there already") == true)
                watches = []
                #expect(try tables() == "")
            }
        }

        /// A watch of three hundred addresses sees what is dropped of the last of them, too.
        @Test func hundredsOfAddressesAreWatched() throws {
            try withCleanup { cleanup in
                let site = try WatchedSite(cleanup, nat: "\"masquerade\"")
                let strangers = (0..<2000).map { IPAddress(v4: 0xC633_6400 + $0) }
                let v6 = (0..<300).compactMap { IPAddress("2001:db8::\(String($0, radix: 16))") }
                let start = MonotonicTime.now()
                let watch = try DropWatch(
                    site.network("r"), addresses: strangers + v6 + [site.far] + strangers)
                print("a watch of 2301 addresses took \(MonotonicTime.now() - start) to begin")
                try site.socket("other", 6000).send("unseen", to: site.wan, 4000)
                try site.socket("far", 6000).send("seen", to: site.wan, 4001)
                #expect(try only(watch, 4001).source == Endpoint(site.far, port: 6000))
                try site.socket("far", 6001).send("seen", to: site.wan, 4002)
                #expect(try only(watch, 4002).source == Endpoint(site.far, port: 6001))
                let listed = try tool(in: site.name("r"), "nft", "list", "set", "inet", "natlab-why", "v4")
                #expect(listed.split(separator: ",").count == 2001)
            }
        }

        @Test func tableGoesWithAKilledProcess() async throws {
            try await withCleanup { cleanup in
                let network = try cleanup.namespace(uniqueName("t"))
                let folder = try cleanup.folder()
                await #expect(processExitsWith: .signal(SIGKILL)) {
                    [name = network.name as String, folder = folder as String] in
                    let network = NetworkNamespace(name)
                    let watch = try DropWatch(network, addresses: [IPAddress(v4: 0xCB00_7109)])
                    // What there was, for the test to see.
                    let file = try Files.open("\(folder)/tables", O_WRONLY | O_CREAT | O_EXCL, mode: 0o600)
                    try file.writeAll(Array(try network.nft("list tables").utf8))
                    withExtendedLifetime(watch) { _ = kill(getpid(), SIGKILL) }
                }
                #expect(try Files.readText("\(folder)/tables").contains("table inet natlab-why"))
                let isGone = try waitUntil(timeout: .seconds(5)) { () throws(OperationFailure) in
                    try tool(in: network.name, "nft", "list", "tables") == ""
                }
                #expect(isGone)
            }
        }

        @Test func noDescriptorIsLeaked() throws {
            try withCleanup { cleanup in
                let network = try cleanup.namespace(uniqueName("t"))
                func use() throws { #expect(try DropWatch(network, addresses: []).drops() == []) }
                try use()
                let before = try MachineSnapshot.take().descriptors
                for _ in 0..<5 { try use() }
                #expect(try MachineSnapshot.take().descriptors == before)
                let failure = #expect(throws: OperationFailure.self) {
                    try DropWatch(NetworkNamespace(uniqueName("none")), addresses: [])
                }
                #expect(failure?.errno == ENOENT)
            }
        }
    }
}
