import Glibc
import NetAddress
import SystemCalls
import TestSupport
import Testing
import WireGuardKeys

/// Causes that show only in what WireGuard makes of a handshake that arrives.
@Suite(.serialized) struct SessionCauseTests {
    @Test func presharedKeysDiffer() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try WhyLab.homes(natlab)
            try lab.up()
            try lab.connect()
            let keys = (a: try lab.publicKey("a"), b: try lab.publicKey("b"))
            for (host, peer) in [("a", keys.b), ("b", keys.a)] {
                try natlab.write("\(host).psk", try ProgramCall("wg", ["genpsk"]).run().output)
                try lab.exec(host, "wg", "set", "wg0", "peer", peer, "remove")
                try lab.exec(
                    host, "wg", "set", "wg0", "peer", peer, "preshared-key", "\(natlab.folder)/\(host).psk",
                    "allowed-ips", host == "a" ? "10.66.66.2/32" : "10.66.66.1/32")
            }
            let why = try lab.why("a", "b")
            #expect(why.cause == "wrong-preshared-key", "\(why)")
            #expect(why.verdict.contains("preshared keys differ"), "\(why.verdict)")
        }
    }

    @Test func presharedKeyOnOneSideOnly() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try WhyLab.homes(natlab)
            try lab.up()
            try lab.connect()
            let keys = (a: try lab.publicKey("a"), b: try lab.publicKey("b"))
            try natlab.write("a.psk", try ProgramCall("wg", ["genpsk"]).run().output)
            // a has its peer again only with the key: a session that came up before would go on without.
            try lab.exec("a", "wg", "set", "wg0", "peer", keys.b, "remove")
            try lab.exec("b", "wg", "set", "wg0", "peer", keys.a, "remove")
            try lab.exec("b", "wg", "set", "wg0", "peer", keys.a, "allowed-ips", "10.66.66.1/32")
            try lab.exec(
                "a", "wg", "set", "wg0", "peer", keys.b, "preshared-key", "\(natlab.folder)/a.psk",
                "allowed-ips", "10.66.66.2/32")
            let why = try lab.why("a", "b")
            #expect(why.cause == "wrong-preshared-key", "\(why)")
        }
    }

    /// Somebody with a's key and a clock that is a day ahead has spoken to hub: a second machine with a copy of the key, or a
    /// itself before its clock was set right.
    @Test func aTimestampFromTheFutureWasThereFirst() throws {
        try withCleanup { cleanup in
            let lab = try WhyLab.spoke(try Natlab(cleanup))
            try lab.up()
            try lab.connect()
            let (a, hub) = (try lab.publicKey("a"), try #require(PublicKey(base64: try lab.publicKey("hub"))))
            let key = try KeyFile.readPrivateKey("/run/natlab/\(lab.lab.name)/keys/a.wg0").key
            try #require(key.publicKey.base64 == a)
            let tomorrow = wallClockNanoseconds() + 86_400_000_000_000
            let message = try handshakeInitiation(from: key, to: hub, sender: 7, timestamp: tomorrow)
            let socket = try NetworkNamespace(lab.lab.namespace("internet")).socket(
                domain: AF_INET, type: Int32(SOCK_DGRAM.rawValue))
            let target = try #require(Endpoint("203.0.113.10:51820"))
            let sent = SocketAddress(target).withPointer { address, length in
                message.withUnsafeBytes {
                    sendto(socket.rawValue, $0.baseAddress, $0.count, 0, address, length)
                }
            }
            try #require(sent == message.count)
            // hub answers: it has taken the timestamp.
            var answer = [UInt8](repeating: 0, count: 200)
            var waiting = pollfd(fd: socket.rawValue, events: Int16(POLLIN), revents: 0)
            try #require(poll(&waiting, 1, 5000) == 1)
            try #require(recv(socket.rawValue, &answer, answer.count, 0) == 92)
            // a begins anew, with its own clock.
            try lab.exec("a", "wg", "set", "wg0", "peer", hub.base64, "remove")
            try lab.exec(
                "a", "wg", "set", "wg0", "peer", hub.base64, "endpoint", "203.0.113.10:51820", "allowed-ips",
                "10.66.66.1/32")
            let why = try lab.expect("timestamp-refused", at: "hub", "a", "hub")
            #expect(
                why.verdict.contains("is not later than one that it has accepted from a"), "\(why.verdict)")
        }
    }
}
