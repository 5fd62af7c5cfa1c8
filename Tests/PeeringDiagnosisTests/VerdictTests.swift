import LabPlanner
import NetAddress
import PathTrace
import PeeringCheck
import PeeringDiagnosis
import Testing
import WireGuardControl
import WireGuardKeys

/// Which of several findings is the verdict.
@Suite struct VerdictTests {
    @Test func theEarlierCauseExplainsTheLater() throws {
        var it = try Case.homes(ra: #""symmetric""#)
        // From the last to the first: each further finding takes the verdict.
        it.fly(.handshakeInitiation, from: "b", until: "rb:wan0>")
        #expect(it.findings == ["lost@ra"])
        it.fly(.handshakeInitiation, from: "a", out: "203.0.113.2:4242", until: "rb:wan0<")
        #expect(it.findings == ["symmetric-nat@ra", "lost@ra"])
        it.peer(of: "a") { $0.hasPresharedKey = true }
        #expect(it.findings == ["wrong-preshared-key@b", "symmetric-nat@ra", "lost@ra"])
        it.peer(of: "a") { $0.allowedIPs = [] }
        #expect(it.findings.first == "allowed-ips@a")
        let stranger = PrivateKey.generate().publicKey
        it.peer(of: "b") { $0.publicKey = stranger }
        #expect(it.findings.first == "wrong-public-key@b")
        it.evidence.links[0].isUp = false
        #expect(it.findings.first == "interface-down@internet")
        it.change("a") { side in
            side.device = nil
            side.unreadable = "wg0 of a does not answer"
        }
        #expect(it.findings.first == "wireguard-dead@a")
        let ranks = it.diagnosis.findings.compactMap { Cause.allCases.firstIndex(of: $0.cause) }
        #expect(ranks == ranks.sorted() && ranks.count >= 4, "\(it.findings)")
        #expect(it.diagnosis.cause == .wireGuardDead)
        #expect(it.diagnosis.verdict == "a and b do not reach each other directly: wg0 of a does not answer")
    }

    @Test func ofOneCauseTheFirstDirectionComesFirst() throws {
        var it = try Case.homes()
        for host in ["a", "b"] { it.peer(of: host) { $0.allowedIPs = [] } }
        #expect(it.findings == ["allowed-ips@a", "allowed-ips@b"])
    }

    @Test func theSameIsSaidOnce() throws {
        var it = try Case.homes(ra: #""symmetric""#)
        it.fly(.handshakeInitiation, from: "a", out: "203.0.113.2:4242", until: "rb:wan0<")
        it.fly(.handshakeInitiation, from: "b", until: "ra:wan0<")
        #expect(it.findings == ["symmetric-nat@ra"])
    }

    @Test func aPairThatIsConnectedHasNoCause() throws {
        var it = try Case.homes()
        it.evidence.verdict.observed = .direct
        it.map("rb", "192.168.2.2:51820", to: "203.0.113.3:51820", towards: "203.0.113.2:51820")
        // What would explain a failure is none here.
        it.peer(of: "a") { $0.hasPresharedKey = true }
        let diagnosis = it.diagnosis
        #expect(diagnosis.isConnected && diagnosis.cause == nil)
        #expect(
            diagnosis.verdict
                == "a and b reach each other directly: a sends to 203.0.113.3:51820 (rb's mapping of"
                + " 192.168.2.2:51820), b to 203.0.113.2:51820 (ra)")
    }

    @Test func whatNoRuleExplainsIsSaidInVerifysWords() throws {
        let it = try Case.homes()
        #expect(it.diagnosis.cause == .unexplained)
        #expect(
            it.diagnosis.verdict == "a and b do not reach each other directly: \(it.evidence.verdict.reason)")
    }
}
