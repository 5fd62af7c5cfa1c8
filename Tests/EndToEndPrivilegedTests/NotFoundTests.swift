import SystemCalls
import TestSupport
import Testing

/// The experiment that natlab came from; its template draws it, docs/not-found.md tells it.
@Suite(.serialized) struct NotFoundTests {
    /// What the document shows is what natlab prints; NATLAB_WRITE_GOLDENS=1 writes it anew.
    @Test func theStoryIsTrue() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            for lab in ["not-found", "quickstart"] { _ = natlab.adopt(lab) }
            #expect(try ConsoleDocument("docs/not-found.md", natlab, cleanup).check() >= 20)
        }
    }

    @Test func onlyTheStoryIsWarnedOf() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("not-found")
            let refused = try natlab.run("check", "--strict", lab.file)
            #expect(refused.status == .exited(2))
            #expect(refused.error.contains("the rendezvous has nobody to find in wg0"))
            #expect(refused.error.contains("the rendezvous at 10.66.66.1:1234 lies inside the tunnel wg0"))
            let story = try natlab.writeTemplate("not-found") { text in
                text.replacing("\"hub:server\"", with: "\"mesh\"").replacing(
                    "endpoint = \"10.66.66.1:1234\"", with: "")
            }
            try natlab.succeed("check", "--strict", story.file)
        }
    }

    /// ```
    ///   alpine1: ping ─► wg0 ─► WireGuard ─► UDP to 10.66.66.1:51820 ─┐
    ///                     ▲                                           │
    ///                     └──────────── route of 10.66.66.0/24 ◄──────┘
    /// ```
    ///
    /// The kernel's WireGuard gives up when the packet has grown to its limit, after some 17 times; wireguard-go goes on until
    /// something stops it: here a limit, after a megabyte.
    @Test func oneDatagramIsEncapsulatedAgainAndAgain() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("not-found")
            try lab.up()
            let host = lab.namespace("alpine1")
            try #require(try pings(from: host, to: "10.66.66.1"))
            try tool(
                in: host, "nft",
                """
                table ip brake { chain output { type filter hook output priority 0; \
                oifname "wg0" udp sport 51820 udp dport 51820 limit rate over 1 mbytes/second drop; }; }
                """)
            func wg(_ words: String...) throws -> String {
                let output = try natlab.run(["exec", "--lab", lab.name, "alpine1", "--", "wg"] + words)
                try #require(output.status == .exited(0), "\(output.error)")
                return output.output.trimmed
            }
            /// Bytes sent, by interface.
            func sent(_ interface: String) throws(OperationFailure) -> Int {
                let counters = try tool(in: host, "cat", "/proc/net/dev")
                let words = counters.split(separator: "\n").first { $0.contains("\(interface):") }?
                    .split(separator: " ")
                guard let words, words.count > 9, let bytes = Int(words[9]) else {
                    throw OperationFailure("read counters of", interface, detail: counters)
                }
                return bytes
            }
            let server = try wg("show", "wg0", "peers")
            let (tunnel, link) = (try sent("wg0"), try sent("eth0"))
            _ = try wg("set", "wg0", "peer", server, "endpoint", "10.66.66.1:51820")
            // 84 bytes with their IP header; there can be no answer.
            let ping = try ProgramCall(
                "ip", ["netns", "exec", host, "ping", "-n", "-c", "1", "-s", "56", "-W", "1", "10.66.66.1"]
            ).run()
            #expect(!ping.status.isSuccess)
            let hasGrown = try waitUntil(timeout: .seconds(20)) { () throws(OperationFailure) in
                try sent("wg0") - tunnel >= 20 * 84
            }
            let (loop, out) = (try sent("wg0") - tunnel, try sent("eth0") - link)
            #expect(hasGrown, "84 bytes became \(loop)")
            // A neighbour may have been asked for, or a router.
            #expect(out < 1000, "none of it leaves the host")
            print("84 bytes put into wg0 became \(loop) there; eth0 sent \(out)")
            // It ends where the endpoint leads outside.
            _ = try wg("set", "wg0", "peer", server, "endpoint", "203.0.113.10:51820")
            #expect(try pings(from: host, to: "10.66.66.1"))
            var last = try sent("wg0")
            let isQuiet = try waitUntil(timeout: .seconds(10), pause: .milliseconds(200)) {
                () throws(OperationFailure) in
                let now = try sent("wg0")
                defer { last = now }
                return now == last
            }
            #expect(isQuiet)
        }
    }
}
