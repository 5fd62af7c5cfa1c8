import LabPlanner
import NetAddress
import PathTrace
import PeeringCheck
import PeeringDiagnosis
import Testing
import WireGuardControl

@testable import NatlabCommands

/// The drawings of what was found: a line for people, a diagram for documents.
@Suite struct DrawingTests {
    private func report(_ it: Case) -> WhyReport {
        WhyReport(lab: "t", evidence: it.evidence, diagnosis: it.diagnosis, plan: it.plan)
    }

    /// a's packets end at rb, and b sends nothing.
    private func lost() throws -> Case {
        var it = try Case.homes()
        it.fly(.handshakeInitiation, from: "a", until: "rb:wan0<")
        return it
    }

    private func arrived() throws -> Case {
        var it = try Case.homes()
        it.evidence.verdict.observed = .direct
        it.fly(.data, from: "a")
        it.fly(.data, from: "b")
        return it
    }

    // MARK: For people

    @Test func lines() throws {
        let journeys = try lost().diagnosis.journeys
        #expect(
            WhyText.drawing(journeys[0]) == """
                a ──▶ ra ──▶ internet ──✗ rb: no mapping for 203.0.113.3:51820
                  last seen at wan0 of rb, coming in, 203.0.113.2:51820 > 203.0.113.3:51820
                  1 datagram sent, 0 arrived
                """)
        #expect(WhyText.drawing(journeys[1]) == "b sends nothing to a")
        #expect(
            WhyText.drawing(try arrived().diagnosis.journeys[1]) == """
                b ──▶ rb ──▶ internet ──▶ ra ──▶ a
                  1 datagram sent, 1 arrived
                """)
    }

    @Test func whatNeverLeftItsHostPointsAtTheNext() throws {
        var it = try Case.homes()
        it.fly(.handshakeInitiation, from: "a", until: "a:eth0>")
        #expect(WhyText.drawing(it.diagnosis.journeys[0]).hasPrefix("a ──✗ ra: it did not get there\n"))
    }

    @Test func theVerdictThenWhatElseWasFound() throws {
        var it = try lost()
        it.peer(of: "a") { $0.hasPresharedKey = true }
        it.evidence.gaps = ["wan0 of ra cannot be watched"]
        let paragraphs = WhyText(report(it)).text.split(separator: "\n\n").map(String.init)
        #expect(
            paragraphs[0] == """
                a and b do not reach each other directly: a has a preshared key for b, and b has none for a
                  mend: give both the same preshared key
                also: rb has no mapping for 203.0.113.3:51820, where a sends to: b has opened none
                  mend: let b send first (keepalive, a rendezvous), or forward the port at rb
                by theory they could punch: \(it.evidence.theory.reason)
                """)
        #expect(paragraphs[1].hasPrefix("a ──▶ ra ──▶ internet ──✗ rb: "))
        #expect(paragraphs.last == "not looked at:\n  wan0 of ra cannot be watched")
    }

    // MARK: Mermaid

    /// Holds a diagram against what Mermaid's reference says of sequence diagrams, and returns participants and arrows.
    ///
    /// Source: https://mermaid.js.org/syntax/sequenceDiagram.html. Text ends at a line's end or a semicolon, and "#" begins an
    /// entity; every name is declared before it is used.
    private func parse(_ diagram: String, sourceLocation: SourceLocation = #_sourceLocation) throws
        -> (participants: [String], arrows: [String])
    {
        var names: [String: String] = [:]
        var (participants, arrows): ([String], [String]) = ([], [])
        let lines = diagram.split(separator: "\n", omittingEmptySubsequences: false)
        #expect(lines.first == "sequenceDiagram", sourceLocation: sourceLocation)
        for line in lines.dropFirst() {
            if let match = line.wholeMatch(of: /\ {4}participant (n[0-9]+) as ([a-z0-9-]+)/) {
                #expect(
                    names.updateValue(String(match.2), forKey: String(match.1)) == nil,
                    sourceLocation: sourceLocation)
                #expect(arrows.isEmpty, sourceLocation: sourceLocation)
                participants.append(String(match.2))
            } else if let match = line.wholeMatch(of: /\ {4}(n[0-9]+)(->>|-x)(n[0-9]+): ([^#;\r\n]*[^#;\s])/)
            {
                let from = try #require(names[String(match.1)], "\(line)", sourceLocation: sourceLocation)
                let to = try #require(names[String(match.3)], "\(line)", sourceLocation: sourceLocation)
                #expect(from != to, sourceLocation: sourceLocation)
                arrows.append("\(from)\(match.2)\(to)")
            } else if let match = line.wholeMatch(
                of: /\ {4}Note over (n[0-9]+)(?:,(n[0-9]+))?: ([^#;\r\n]*[^#;\s])/)
            {
                #expect(names[String(match.1)] != nil, "\(line)", sourceLocation: sourceLocation)
                if let second = match.2 {
                    #expect(names[String(second)] != nil, "\(line)", sourceLocation: sourceLocation)
                }
            } else {
                Issue.record("no statement of a sequence diagram: \(line)", sourceLocation: sourceLocation)
            }
        }
        return (participants, arrows)
    }

    @Test func whatArrives() throws {
        let text = WhyDiagram(report(try arrived())).text
        let (participants, arrows) = try parse(text)
        #expect(participants == ["a", "ra", "internet", "rb", "b"])
        #expect(
            arrows == [
                "a->>ra", "ra->>internet", "internet->>rb", "rb->>b",
                "b->>rb", "rb->>internet", "internet->>ra", "ra->>a",
            ])
        #expect(text.contains("    n0->>n1: 192.168.1.2:51820 to 203.0.113.3:51820\n"))
        #expect(text.contains("    n1->>n2: 203.0.113.2:51820 to 203.0.113.3:51820\n"))
    }

    @Test func whatIsLost() throws {
        let text = WhyDiagram(report(try lost())).text
        let (participants, arrows) = try parse(text)
        // b has sent nothing and got nothing, and is there all the same.
        #expect(participants == ["a", "ra", "internet", "rb", "b"])
        #expect(arrows == ["a->>ra", "ra->>internet", "internet-xrb"])
        #expect(text.contains("    Note over n3: no mapping for 203.0.113.3:51820\n"))
        #expect(text.contains("    Note over n4: sends nothing to a\n"))
    }

    @Test func bothWaysEndBeforeTheOther() throws {
        var it = try Case.homes()
        it.fly(.handshakeInitiation, from: "a", until: "ra:lan0<")
        it.fly(.handshakeInitiation, from: "b", until: "ra:wan0<")
        let (participants, arrows) = try parse(WhyDiagram(report(it)).text)
        #expect(participants == ["a", "ra", "internet", "rb", "b"])
        #expect(arrows == ["a-xra", "b->>rb", "rb->>internet", "internet-xra"])
    }

    @Test func onlyTheSecondSends() throws {
        var it = try Case.homes()
        it.fly(.handshakeInitiation, from: "b", until: "rb:lan0<")
        let text = WhyDiagram(report(it)).text
        let (participants, arrows) = try parse(text)
        #expect(participants == ["a", "rb", "b"])
        #expect(arrows == ["b-xrb"])
        #expect(text.contains("    Note over n0: sends nothing to b\n"))
    }

    @Test func nobodySends() throws {
        let (participants, arrows) = try parse(WhyDiagram(report(try Case.homes())).text)
        #expect(participants == ["a", "b"] && arrows == [])
    }

    @Test func noTextEndsAStatement() throws {
        var it = try Case.homes()
        it.fly(.handshakeInitiation, from: "a", until: "ra:lan0<")
        it.drop(
            "ra", "udp dport 51820 drop comment \"#1; no\nVPN\"", from: "192.168.1.2:51820",
            to: "203.0.113.3:51820")
        let text = WhyDiagram(report(it)).text
        _ = try parse(text)
        #expect(text.contains("comment \" 1, no VPN\""))
    }
}
