import LabPlanner
import NetAddress
import PathTrace
import PeeringCheck
import PeeringDiagnosis
import Testing
import WireGuardControl
import WireGuardKeys

/// What becomes of handshakes that get through, and what only looks as if they were refused.
@Suite struct SessionRuleTests {
    /// a's initiation comes to b, and is read there.
    private func asked(seconds: Double = 1) throws -> Case {
        var it = try Case.homes()
        it.fly(.handshakeInitiation, from: "a", seconds: seconds)
        try it.read(from: "a", at: "b", source: "203.0.113.2:51820")
        return it
    }

    /// b's response, too.
    private func answered() throws -> Case {
        var it = try asked()
        it.fly(.handshakeResponse, from: "b", seconds: 1.1)
        return it
    }

    // MARK: Preshared keys

    @Test func responsesThatAreRefused() throws {
        #expect(try answered().findings == ["wrong-preshared-key@a"])
    }

    @Test func responsesOfASessionThatCameUp() throws {
        var it = try answered()
        it.change("a") {
            $0.device?.peers[0].lastHandshake = WallTime(seconds: 1_001, nanoseconds: 200_000_000)
        }
        #expect(it.findings == Case.nothing)
        // An earlier session is none of this response's.
        it.change("a") { $0.device?.peers[0].lastHandshake = WallTime(seconds: 940, nanoseconds: 0) }
        #expect(it.findings == ["wrong-preshared-key@a"])
    }

    @Test func handshakesThatCrossed() throws {
        // b's own initiation comes while a waits.
        var it = try asked()
        it.fly(.handshakeInitiation, from: "b", seconds: 1.05)
        try it.read(from: "b", at: "a", source: "203.0.113.3:51820")
        it.fly(.handshakeResponse, from: "b", seconds: 1.1)
        it.fly(.handshakeResponse, from: "a", seconds: 1.1)
        // a answers what came after its own: b waited since 1.05 for an answer, and nothing of a's came in between.
        #expect(it.findings == ["wrong-preshared-key@b"])
        it = try asked()
        it.fly(.handshakeInitiation, from: "b", seconds: 1.000002)
        try it.read(from: "b", at: "a", source: "203.0.113.3:51820")
        it.fly(.handshakeResponse, from: "b", seconds: 1.1)
        it.fly(.handshakeResponse, from: "a", seconds: 1.1)
        #expect(it.findings == Case.nothing)
    }

    @Test func aResponseThatAFirewallDropsIsNotRefused() throws {
        var it = try answered()
        it.drop("a", "udp drop", from: "203.0.113.3:51820", to: "192.168.1.2:51820", size: 92, hook: "input")
        #expect(it.findings == ["udp-dropped-inbound@a"])
    }

    @Test func aPresharedKeyOnOneSideOnly() throws {
        var it = try Case.homes()
        it.peer(of: "b") { $0.hasPresharedKey = true }
        #expect(it.findings == ["wrong-preshared-key@a"])
        it.peer(of: "a") { $0.hasPresharedKey = true }
        #expect(it.findings == Case.nothing)
    }

    // MARK: Timestamps

    @Test func timestampRefused() throws {
        #expect(try asked().findings == ["timestamp-refused@b"])
    }

    @Test func anInitiationThatCameJustBeforeTheEnd() throws {
        #expect(try asked(seconds: 5.9).findings == Case.nothing)
    }

    @Test func whoAsksForACookieRefusesNoTimestamp() throws {
        var it = try asked()
        it.fly(.cookie, from: "b", seconds: 1.1)
        #expect(it.findings == Case.nothing)
    }

    @Test func anAnswerToSomebodyElseIsNone() throws {
        var it = try asked()
        it.see(
            .handshakeResponse, [("b:eth0>", "192.168.2.2:51820", "203.0.113.10:51820")], seconds: 1.2)
        #expect(it.findings == ["timestamp-refused@b"])
    }

    @Test func anInitiationWithoutAPeerForItsKeyIsNoMatterOfTime() throws {
        var it = try asked()
        it.change("b") { $0.device?.peers.removeFirst() }
        #expect(it.findings == ["not-mutual-peers@b"])
    }

    @Test func anInitiationThatItsOwnFirewallDropsIsNotRefused() throws {
        var it = try asked()
        it.drop(
            "b", "udp dport 51820 drop", from: "203.0.113.2:51820", to: "192.168.2.2:51820", hook: "input")
        #expect(it.findings == ["udp-dropped-inbound@b"])
    }

    @Test func anAnswerThatItsOwnFirewallDropsIsNoRefusal() throws {
        var it = try asked()
        it.drop(
            "b", "udp sport 51820 drop", from: "192.168.2.2:51820", to: "203.0.113.2:51820", size: 92,
            hook: "output")
        #expect(it.findings == ["udp-dropped-outbound@b"])
    }

    // MARK: Keys

    @Test func initiationsMadeForAnotherKey() throws {
        var it = try Case.homes()
        it.fly(.handshakeInitiation, from: "a")
        try it.read(from: "a", at: "b", for: it.key("hub"), source: "203.0.113.2:51820")
        #expect(it.findings == ["wrong-public-key@a"])
        // Said once, where the configuration has told it.
        let stranger = PrivateKey.generate().publicKey
        it.peer(of: "a") { $0.publicKey = stranger }
        #expect(it.findings == ["wrong-public-key@a"])
    }

    @Test func somebodyElsesInitiationTellsNothingOfAs() throws {
        var it = try asked()
        it.fly(.handshakeResponse, from: "b", seconds: 1.1)
        it.change("a") { $0.device?.peers[0].lastHandshake = WallTime(seconds: 1_002, nanoseconds: 0) }
        try it.read(from: "hub", at: "b", for: it.key("a"), source: "203.0.113.10:51820")
        #expect(it.findings == Case.nothing)
    }

    // MARK: Detours

    @Test func notDirect() throws {
        var it = try Case.homes()
        it.evidence.verdict.reason = "data arrives, but over hub: not a direct path to b"
        #expect(it.findings == ["not-direct"])
        // Explained by what makes it so.
        it.peer(of: "a") { $0.hasPresharedKey = true }
        #expect(it.findings == ["wrong-preshared-key@b"])
    }

    // MARK: Inside the tunnel

    @Test func insideTheTunnel() throws {
        var it = try Case.homes()
        it.hadSession(secondsAgo: 1)
        for host in ["a", "b"] {
            it.fly(.data, from: host)
            it.change(host) { side in
                side.hasAddress = true
                side.peerInterface = "wg0"
            }
        }
        #expect(it.findings == ["inside-tunnel"])
        it.change("b") { $0.peerInterface = "eth0" }
        #expect(it.findings == ["inside-tunnel@b"])
        #expect(it.diagnosis.verdict.hasSuffix("what b sends to 10.66.66.1 leaves by eth0, not by wg0"))
        it.change("b") { $0.hasAddress = false }
        #expect(it.diagnosis.verdict.hasSuffix("wg0 of b has lost its address 10.66.66.2"))
        // Where WireGuard's own packets do not pass, nothing is known of the inside.
        it.evidence.datagrams = []
        #expect(it.findings == Case.nothing)
    }
}
