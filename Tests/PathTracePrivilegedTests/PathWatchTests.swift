import Glibc
import NetAddress
import PathTrace
import SystemCalls
import TestSupport
import Testing

extension Privileged {
    /// Datagrams of real sockets, real routers and iptables.
    struct PathWatchTests {
        private func text(_ datagram: Datagram?) -> [String] {
            (datagram?.sightings ?? []).map {
                "\($0.point) \($0.isOutgoing ? "out" : "in") \($0.source) > \($0.destination) ttl \($0.ttl)"
            }
        }

        @Test func `a datagram is seen everywhere on its way, with the addresses that it has there`() throws {
            try withCleanup { cleanup in
                let homes = try TwoHomes(cleanup)
                let sender = try UDPSocket(homes.a, port: 4000)
                let receiver = try UDPSocket(homes.b, port: 51820)
                let watch = try PathWatch(homes.points)
                #expect(watch.unwatched.isEmpty && watch.descriptors.count == 9)
                let before = wallClockNanoseconds()
                let sent = payload(1)
                try sender.send(sent)
                #expect(try watch.collects { watch.datagram(sent)?.sightings.count == 9 })
                let datagram = try #require(watch.datagram(sent))
                #expect(
                    text(datagram) == [
                        "a:eth0 out 192.168.1.2:4000 > 203.0.113.11:51820 ttl 64",
                        "r:host0 in 192.168.1.2:4000 > 203.0.113.11:51820 ttl 64",
                        "r:lan0 in 192.168.1.2:4000 > 203.0.113.11:51820 ttl 64",
                        "r:wan0 out 203.0.113.10:4000 > 203.0.113.11:51820 ttl 63",
                        "net:port0 in 203.0.113.10:4000 > 203.0.113.11:51820 ttl 63",
                        "net:port1 out 203.0.113.10:4000 > 203.0.113.11:51820 ttl 63",
                        "s:wan0 in 203.0.113.10:4000 > 203.0.113.11:51820 ttl 63",
                        "s:lan0 out 203.0.113.10:4000 > 192.168.2.2:51820 ttl 62",
                        "b:eth0 in 203.0.113.10:4000 > 192.168.2.2:51820 ttl 62",
                    ])
                #expect(datagram.kind == .other && datagram.size == 100)
                #expect(watch.hops(of: datagram) == homes.points)
                let times = datagram.sightings.map(\.time)
                #expect(times.allSatisfy { (before...wallClockNanoseconds()).contains($0) })
                #expect(PathWatch.lastSeen(datagram)?.point.node == "b")
                #expect(receiver.drain() == 1)
                // The answer, at the same places the other way round.
                let answer = payload(2)
                try receiver.send(
                    answer, to: try #require(Endpoint("203.0.113.10:4000")))
                #expect(try watch.collects { watch.datagram(answer)?.sightings.count == 9 })
                let back = try #require(watch.datagram(answer))
                #expect(watch.hops(of: back) == homes.points.reversed())
                #expect(
                    text(back).last == "a:eth0 in 203.0.113.11:51820 > 192.168.1.2:4000 ttl 62")
                #expect(watch.lost == 0 && watch.icmpErrors.isEmpty)
            }
        }

        @Test func `what a router drops was seen last where it came in there`() throws {
            try withCleanup { cleanup in
                let homes = try TwoHomes(cleanup)
                let sender = try UDPSocket(homes.a, port: 4000)
                let watch = try PathWatch(homes.points)
                try homes.iptables(homes.s, "-A FORWARD -i wan0 -p udp -m length --length 78 -j DROP")
                try homes.iptables(homes.r, "-A FORWARD -i lan0 -p udp -m length --length 88 -j DROP")
                // 20 and 8 bytes of headers.
                let inbound = payload(1, count: 50), outbound = payload(2, count: 60)
                let marker = payload(3, count: 70)
                for sent in [inbound, outbound, marker] { try sender.send(sent) }
                #expect(try watch.collects { watch.datagram(marker)?.sightings.count == 9 })
                let atS = try #require(watch.datagram(inbound).flatMap(PathWatch.lastSeen))
                #expect("\(atS.point)" == "s:wan0" && !atS.isOutgoing)
                let atR = try #require(watch.datagram(outbound).flatMap(PathWatch.lastSeen))
                #expect("\(atR.point)" == "r:lan0" && !atR.isOutgoing)
            }
        }

        @Test func `ICMP errors are seen with the ports that the datagram had there`() throws {
            try withCleanup { cleanup in
                let homes = try TwoHomes(cleanup)
                let sender = try UDPSocket(homes.a, port: 4000)
                let watch = try PathWatch(homes.points)
                try sender.send(payload(1))
                #expect(try watch.collects { watch.icmpErrors.contains { $0.point.node == "a" } })
                let quoted = watch.icmpErrors.map {
                    "\($0.point) \($0.isOutgoing ? "out" : "in") \($0.from) > \($0.to): \($0.type).\($0.code) "
                        + "\($0.source) > \($0.destination) \($0.size)"
                }
                let behind = "203.0.113.10:4000 > 192.168.2.2:51820 100"
                let between = "203.0.113.10:4000 > 203.0.113.11:51820 100"
                let before = "192.168.1.2:4000 > 203.0.113.11:51820 100"
                #expect(
                    quoted == [
                        "b:eth0 out 192.168.2.2 > 203.0.113.10: 3.3 \(behind)",
                        "s:lan0 in 192.168.2.2 > 203.0.113.10: 3.3 \(behind)",
                        "s:wan0 out 203.0.113.11 > 203.0.113.10: 3.3 \(between)",
                        "net:port1 in 203.0.113.11 > 203.0.113.10: 3.3 \(between)",
                        "net:port0 out 203.0.113.11 > 203.0.113.10: 3.3 \(between)",
                        "r:wan0 in 203.0.113.11 > 203.0.113.10: 3.3 \(between)",
                        "r:lan0 out 203.0.113.11 > 192.168.1.2: 3.3 \(before)",
                        "r:host0 out 203.0.113.11 > 192.168.1.2: 3.3 \(before)",
                        "a:eth0 in 203.0.113.11 > 192.168.1.2: 3.3 \(before)",
                    ])
                // A link that is too narrow for what must not be fragmented.
                try tool(in: homes.s.name, "ip", "link", "set", "lan0", "mtu", "1280")
                let narrow = try UDPSocket(homes.a, port: 4001)
                try narrow.set(Int32(IPPROTO_IP), IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
                try narrow.send(payload(2, count: 1400))
                #expect(
                    try watch.collects {
                        watch.icmpErrors.contains { $0.point.node == "a" && $0.code == 4 && $0.mtu == 1280 }
                    })
            }
        }

        @Test func `a datagram is recognised where it goes on in fragments`()
            throws
        {
            try withCleanup { cleanup in
                let homes = try TwoHomes(cleanup)
                let sender = try UDPSocket(homes.a, port: 4000)
                let receiver = try UDPSocket(homes.b, port: 51820)
                let watch = try PathWatch(homes.points)
                try tool(in: homes.s.name, "ip", "link", "set", "lan0", "mtu", "600")
                try sender.set(Int32(IPPROTO_IP), IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
                let long = payload(1, count: 1400)
                try sender.send(long)
                #expect(try watch.collects { watch.datagram(long)?.sightings.count == 9 })
                #expect(watch.datagrams.count == 1)
                #expect(watch.lost == 0 && receiver.drain() == 1)
            }
        }

        @Test func `datagrams that were sent as one are seen one by one, or are counted as lost`() throws {
            try withCleanup { cleanup in
                let homes = try TwoHomes(cleanup)
                let sender = try UDPSocket(homes.a, port: 4000)
                let receiver = try UDPSocket(homes.b, port: 51820)
                let watch = try PathWatch(homes.points)
                // UDP_SEGMENT of linux/udp.h: 400, 400 and 250 bytes.
                try sender.set(Int32(IPPROTO_UDP), 103, 400)
                let several = payload(2, count: 1050)
                try sender.send(several)
                let parts = [several[..<400], several[400..<800], several[800...]].map(Array.init)
                // Before 6.2 the kernel cannot describe them to a packet socket.
                if KernelAbilities.isAtLeast(6, 2) {
                    #expect(
                        try watch.collects {
                            parts.allSatisfy { watch.datagram($0)?.sightings.count == 9 }
                        }, "\(watch.datagrams.map { ($0.size, $0.sightings.count) }) lost \(watch.lost)")
                    #expect(parts.map { watch.datagram($0)?.size } == [400, 400, 250])
                    #expect(watch.datagrams.count == 3 && watch.lost == 0)
                } else {
                    #expect(try watch.collects { watch.lost == 9 }, "lost \(watch.lost)")
                    #expect(watch.datagrams.isEmpty)
                }
                #expect(receiver.drain() == 3)
            }
        }

        @Test func `a burst of 2,000 is seen whole`() throws {
            try withCleanup { cleanup in
                let homes = try TwoHomes(cleanup)
                let sender = try UDPSocket(homes.a, port: 4000)
                // Someone who takes them: else there is an ICMP error for each.
                let receiver = try UDPSocket(homes.b, port: 51820)
                let watch = try PathWatch(homes.points)
                let small = try PathWatch(homes.points, room: 65_536)
                for number in 0..<2000 { try sender.send(payload(number, count: 148)) }
                let complete = try watch.collects { watch.datagrams.count == 2000 && !watch.collect() }
                #expect(complete && watch.lost == 0, "\(watch.datagrams.count), lost \(watch.lost)")
                #expect(watch.datagrams.allSatisfy { $0.sightings.count == 9 })
                #expect(watch.datagrams.allSatisfy { watch.hops(of: $0) == homes.points })
                // With less room than that some are lost, each of which is counted.
                _ = try small.collects { !small.collect() }
                let seen = small.datagrams.reduce(0) { $0 + $1.sightings.count }
                #expect(small.lost > 0 && UInt64(seen) + small.lost == 18_000, "\(seen), \(small.lost)")
                _ = receiver.drain()
            }
        }

        @Test func `missing places are told, and what is down is watched once it is up`() throws {
            try withCleanup { cleanup in
                let homes = try TwoHomes(cleanup)
                let missing = WatchPoint(node: "x", namespace: uniqueName("none"), interface: "eth0")
                let absent = WatchPoint(node: "a", namespace: homes.a.name, interface: "eth7")
                try tool(in: homes.a.name, "ip", "link", "set", "eth0", "down")
                let address = try #require(IPAddress("192.168.1.2"))
                let watch = try PathWatch(
                    [missing, absent] + homes.points + homes.points, addresses: [address])
                #expect(watch.descriptors.count == 9)
                #expect(watch.unwatched.map(\.0) == [missing, absent, homes.points[0]])
                #expect(watch.unwatched.map(\.1.errno) == [ENOENT, ENODEV, ENETDOWN])
                try tool(in: homes.a.name, "ip", "link", "set", "eth0", "up")
                try tool(in: homes.a.name, "ip", "route", "add", "default", "via", "192.168.1.1")
                let sender = try UDPSocket(homes.a, port: 4000)
                let sent = payload(1)
                try sender.send(sent)
                // Behind r it has another address.
                #expect(try watch.collects { watch.datagram(sent)?.sightings.count == 3 })
                #expect(watch.datagram(sent)?.sightings.last?.point.interface == "lan0")
                try homes.a.remove()
                watch.collect()
                #expect(watch.lost == 0)
            }
        }
    }
}
