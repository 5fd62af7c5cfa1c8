import Glibc
import NetAddress
import NetlinkWire
import SystemCalls
import TestSupport
import Testing

extension Privileged {
    @Suite struct RouteTests {
        @Test func whatIsMadeIsWhatIpShows() throws {
            // A: br0 10.1.0.1/24 [p1] ---- B: eth0 10.1.0.2/24
            try withCleanup { cleanup in
                let (a, b) = (try cleanup.namespace(uniqueName("t")), try cleanup.namespace(uniqueName("t")))
                let (socketA, socketB) = (try RouteSocket(a), try RouteSocket(b))
                let fileB = try b.open()
                let prefixA = try #require(IPPrefix("10.1.0.1/24"))
                let prefixB = try #require(IPPrefix("10.1.0.2/24"))
                let wide = try #require(IPPrefix("172.16.0.0/12"))
                try socketA.perform([
                    .makeLink(kind: "bridge", name: "br0", index: 101),
                    .makeVeth(
                        VethEnd(name: "p1", index: 102),
                        VethEnd(name: "eth0", index: 103, network: fileB.rawValue)),
                    .setMaster(index: 102, master: 101, name: "p1"),
                    .setNoLinkLocal(index: 102, name: "p1"),
                    .setUp(index: 102, name: "p1"),
                    .addAddress(prefixA, index: 101, name: "br0"),
                    .setUp(index: 101, name: "br0"),
                ])
                try socketB.perform([
                    .setMTU(index: 103, 1400, name: "eth0"),
                    .addAddress(prefixB, index: 103, name: "eth0"),
                    .setUp(index: 103, name: "eth0"),
                    .addRoute(to: wide, via: prefixA.address, table: 51820),
                    .addRoute(to: try #require(IPPrefix("0.0.0.0/0")), via: prefixA.address),
                    .addRule(ipv6: false, priority: 100, firewallMark: 7, invert: true, table: 51820),
                    .addRule(ipv6: false, priority: 101, table: 254, suppressPrefixLength: 0),
                ])
                #expect(try tool("ip", "-n", a.name, "link", "show", "p1").contains("master br0"))
                let eth0 = try tool("ip", "-n", b.name, "addr", "show", "eth0")
                #expect(eth0.contains("103: eth0"))
                #expect(eth0.contains("mtu 1400"))
                #expect(eth0.contains("inet 10.1.0.2/24 brd 10.1.0.255 scope global eth0"))
                let routes = try tool("ip", "-n", b.name, "route", "show", "table", "all")
                #expect(routes.contains("default via 10.1.0.1 dev eth0 proto static"))
                #expect(routes.contains("172.16.0.0/12 via 10.1.0.1 dev eth0 table 51820 proto static"))
                let rules = try tool("ip", "-n", b.name, "rule")
                #expect(rules.contains("100:\tnot from all fwmark 0x7 lookup 51820"))
                #expect(rules.contains("101:\tfrom all lookup main suppress_prefixlength 0"))
                #expect(try pings(from: b.name, to: "10.1.0.1"))

                let link = try socketA.link("br0")
                #expect(link.kind == "bridge" && link.isUp && link.index == 101)
                #expect(try socketA.link("p1").master == 101)
                #expect(try socketB.links().map(\.name) == ["lo", "eth0"])
                #expect(try socketB.addresses().contains { $0.address == prefixB && $0.linkIndex == 103 })
                let found = try socketB.routes().first { $0.destination == wide }
                #expect(found?.gateway == prefixA.address && found?.table == 51820 && found?.linkIndex == 103)
            }
        }

        /// What `ip route get` says of a destination, by the word before it: "via", "dev", "src", "mtu".
        private func witness(_ namespace: String, _ arguments: String...) throws -> [String: String] {
            let said = try tool("ip", ["-n", namespace, "route", "get"] + arguments)
            let words = said.split { " \n".contains($0) }.map(String.init)
            return Dictionary(zip(words, words.dropFirst()).map { ($0, $1) }) { first, _ in first }
        }

        @Test func lookUpAnswersAsIpDoes() throws {
            // A: p1 10.1.0.1/24, 2001:db8::1/64 ---- B: eth0 10.1.0.2/24, 2001:db8::2/64
            try withCleanup { cleanup in
                let (a, b) = (try cleanup.namespace(uniqueName("t")), try cleanup.namespace(uniqueName("t")))
                let (socketA, socketB) = (try RouteSocket(a), try RouteSocket(b))
                let fileB = try b.open()
                try socketA.perform([
                    .makeVeth(
                        VethEnd(name: "p1", index: 102),
                        VethEnd(name: "eth0", index: 103, network: fileB.rawValue))
                ])
                try socketB.perform([
                    .addAddress(try #require(IPPrefix("10.1.0.2/24")), index: 103, name: "eth0"),
                    .addAddress(try #require(IPPrefix("2001:db8::2/64")), index: 103, name: "eth0"),
                    .setUp(index: 103, name: "eth0"),
                ])
                let dead = try socketB.link("eth0")
                #expect(dead.isUp && !dead.hasCarrier)
                try socketA.perform(.setUp(index: 102, name: "p1"))
                #expect(try socketB.link("eth0").hasCarrier)
                try socketA.perform(.setMTU(index: 102, 1400, name: "p1"))
                let here = try socketA.link("p1")
                #expect(here.mtu == 1400 && here.isUp && here.hasCarrier)

                try tool("ip", "-n", b.name, "route", "add", "10.2.0.0/16", "via", "10.1.0.1", "mtu", "1300")
                try tool("ip", "-n", b.name, "route", "add", "10.2.0.0/16", "via", "10.1.0.9", "table", "77")
                try tool("ip", "-n", b.name, "rule", "add", "fwmark", "7", "lookup", "77")
                try tool("ip", "-n", b.name, "route", "add", "unreachable", "10.3.0.0/16")
                try tool("ip", "-n", b.name, "route", "add", "prohibit", "10.4.0.0/16")
                try tool("ip", "-n", b.name, "route", "add", "blackhole", "10.5.0.0/16")
                try tool("ip", "-n", b.name, "route", "add", "2001:db8:2::/48", "via", "2001:db8::1")
                for (text, mark) in [
                    ("10.1.0.1", 0), ("10.2.3.4", 0), ("10.2.3.4", 7), ("10.1.0.2", 0), ("2001:db8::1", 0),
                    ("2001:db8:2::9", 0),
                ] as [(String, UInt32)] {
                    let answer = try socketB.lookUp(try #require(IPAddress(text)), mark: mark)
                    let said = try witness(b.name, text, "mark", "\(mark)")
                    #expect(answer.gateway?.description == said["via"], "\(text) \(answer)")
                    #expect(answer.source?.description == said["src"], "\(text) \(answer)")
                    #expect(answer.mtu.map { "\($0)" } == said["mtu"], "\(text) \(answer)")
                    let links = try socketB.links()
                    #expect(links.first { $0.index == answer.interface }?.name == said["dev"])
                }
                #expect(try socketB.lookUp(try #require(IPAddress("10.2.3.4"))).mtu == 1300)
                for (text, errno) in [
                    ("10.9.9.9", ENETUNREACH), ("10.3.0.1", EHOSTUNREACH), ("10.4.0.1", EACCES),
                    ("10.5.0.1", EINVAL),
                    ("2001:db8:9::1", ENETUNREACH),
                ] {
                    let address = try #require(IPAddress(text))
                    let failure = #expect(throws: OperationFailure.self) { try socketB.lookUp(address) }
                    #expect(failure?.errno == errno, "\(text): \(String(describing: failure))")
                    #expect(failure?.object == text && failure?.namespace == b.name)
                }
            }
        }

        @Test func refusalsCarryTheKernelsText() throws {
            try withCleanup { cleanup in
                let namespace = try cleanup.namespace(uniqueName("t"))
                let socket = try RouteSocket(namespace)
                try socket.perform(.makeVeth(VethEnd(name: "a"), VethEnd(name: "b")))
                func failure(_ request: RouteRequest) -> OperationFailure? {
                    #expect(throws: OperationFailure.self) { try socket.perform(request) }
                }
                let taken = failure(.makeVeth(VethEnd(name: "a"), VethEnd(name: "c")))
                #expect(taken?.errno == EEXIST)
                #expect(taken?.operation == "create veth")
                #expect(taken?.namespace == namespace.name)
                let unknown = failure(.makeLink(kind: "no-such-kind", name: "x"))
                #expect(unknown?.errno == EOPNOTSUPP)
                #expect(unknown?.detail?.contains("Unknown device type") == true)
                let unreachable = failure(
                    .addRoute(to: try #require(IPPrefix("0.0.0.0/0")), via: IPAddress(v4: 0x0A09_0909)))
                #expect(unreachable?.errno == ENETUNREACH)
                #expect(unreachable?.detail?.contains("Nexthop has invalid gateway") == true)
                #expect(failure(.setUp(index: 4711, name: "none"))?.errno == ENODEV)
                let missing = #expect(throws: OperationFailure.self) { _ = try socket.link("none") }
                #expect(missing?.errno == ENODEV)
                // The connection is still good.
                #expect(try socket.links().count == 3)
                try socket.perform(.deleteLink(index: try socket.linkIndex("a"), name: "a"))
                #expect(try socket.links().map(\.name) == ["lo"])
            }
        }
    }
}
