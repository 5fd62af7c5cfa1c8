import Glibc
import LabPlanner
import NetAddress
import PeeringCheck
import SystemCalls
import Testing

@testable import NatlabCommands

@Suite struct TextTableTests {
    @Test func columnsAreAlignedAndLinesEndWithoutSpaces() {
        var table = TextTable(["A", "LONGER", ""])
        table.add(["x", "y", "ok"])
        table.add(["wide one", "z", ""])
        #expect(
            table.text == """
                A         LONGER
                x         y       ok
                wide one  z
                """)
    }
}

@Suite struct JUnitTests {
    private func pair(_ ok: Bool, reason: String) -> PairVerdict {
        PairVerdict(
            from: "a", to: "b", interface: "wg0", expected: .direct, observed: ok ? .direct : .none, ok: ok,
            endpoint: Endpoint("203.0.113.1:1"), reason: reason)
    }

    @Test func countsFailuresAndEscapesTheirReasons() {
        let report = VerifyReport(
            lab: "t", pairs: [pair(true, reason: "fine"), pair(false, reason: "\"<&>\u{1}\n")],
            problems: ["the agent is dead"])
        let text = JUnitDocument(report).text
        #expect(text.contains(#"tests="3" failures="2""#))
        #expect(text.contains(#"message="&quot;&lt;&amp;&gt;\#u{FFFD}&#10;""#))
        #expect(text.contains("the agent is dead"))
        #expect(text.contains(#"name="a - b (wg0): direct"/>"#))
    }

    @Test func aFileIsReplacedAndAFolderIsRefusedByName() throws {
        var template = Array("/tmp/natlab-junit-XXXXXX".utf8CString)
        let folder = String(cString: try #require(mkdtemp(&template)))
        defer { try? Files.removeTree(folder) }
        let path = "\(folder)/result.xml"
        try Files.writeAtomically(path, Array(String(repeating: "x", count: 9999).utf8), mode: 0o600)
        let document = JUnitDocument(VerifyReport(lab: "t", pairs: [], problems: []))
        try document.write(to: path)
        #expect(try Files.readText(path) == document.text)
        let failure = #expect(throws: OperationFailure.self) { try document.write(to: folder) }
        #expect(failure?.errno == EISDIR && failure?.object == folder)
    }

    @Test func everyPromisedKeyIsInTheJSON() throws {
        let text = try Terminal.json(VerifyReport(lab: "t", pairs: [pair(false, reason: "r")], problems: []))
        for key in [
            "lab", "ok", "pairs", "from", "to", "expected", "observed", "endpoint", "handshake_age_s",
            "rtt_ms",
            "reason", "endpoint_owner", "first_handshake_ms", "problems",
        ] {
            #expect(text.contains("\"\(key)\" :"), "\(key)")
        }
        #expect(text.contains("\"handshake_age_s\" : null"))
    }
}

@Suite struct SeveralNetworksTests {
    private func text(_ interfaces: [String]) -> String {
        VerifyText(
            VerifyReport(
                lab: "t",
                pairs: interfaces.map {
                    PairVerdict(
                        from: "a", to: "b", interface: $0, expected: .direct, observed: .direct, ok: true,
                        reason: "")
                }, problems: [])
        ).text
    }

    @Test func verifyNamesTheInterfaceOnlyThen() {
        #expect(!text(["wg0"]).contains("wg0"))
        let both = text(["wg0", "wg1"])
        #expect(both.contains("a - b (wg0)") && both.contains("a - b (wg1)"))
    }
}

@Suite struct ExplanationTextTests {
    private func text(explained: Int, further: Int) -> String {
        let pairs = (0..<explained + further).map { number in
            var pair = PairVerdict(
                from: "a\(number)", to: "b", interface: "wg0", expected: .direct, observed: .none, ok: false,
                reason: "r")
            if number < explained {
                pair.explanation = PairExplanation(cause: "lost", verdict: "lost at r\(number)")
            }
            return pair
        }
        return VerifyText(VerifyReport(lab: "t", pairs: pairs, problems: [])).text
    }

    @Test func verifySaysHowManyItHasNotLookedAt() {
        let some = text(explained: 2, further: 4)
        #expect(some.contains("  why: lost at r0\n") && some.contains("  why: lost at r1\n"))
        #expect(some.hasSuffix("\n4 further pairs not looked at: natlab why A B"))
        #expect(text(explained: 1, further: 1).hasSuffix("1 further pair not looked at: natlab why A B"))
        // None further, or none looked at.
        #expect(!text(explained: 2, further: 0).contains("further"))
        #expect(!text(explained: 0, further: 2).contains("further"))
    }
}

@Suite struct StatusTextTests {
    @Test func aLongProblemStandsBelowTheTable() throws {
        let problem = "wireguard-go of wg0 is not running (no answer on /run/natlab/t/hosts/a/wg/wg0.sock)"
        let address = try #require(IPPrefix("10.66.66.1/24"))
        let report = StatusReport(
            lab: "t", age: 1, nodes: [],
            wireguard: [
                .init(
                    host: "a", interface: "wg0", backend: "userspace", address: address, problem: problem,
                    peers: [])
            ])
        #expect(!StatusCommand.tunnels(report).contains(problem))
        #expect(StatusCommand.problems(report) == ["a wg0: \(problem)"])
        let json = try Terminal.json(report)
        for key in ["public_key", "listen_port", "client", "rendezvous"] {
            #expect(json.contains("\"\(key)\" : null"), "\(key)")
        }
    }
}

@Suite struct TextTests {
    @Test func durationsForPeople() {
        #expect(VerifyCommand.milliseconds(0.04) == "0.0 ms")
        #expect(VerifyCommand.milliseconds(12.34) == "12.3 ms")
        #expect(VerifyCommand.milliseconds(99.96) == "100.0 ms")
        #expect(VerifyCommand.milliseconds(1234.5) == "1235 ms")
        #expect(VerifyCommand.seconds(1.5) == "2 s")
    }

    @Test func logLinesForPeople() {
        let line =
            #"{"time":"2026-11-22T12:00:01.234Z","level":"info","event":"endpoint-set","host":"a","interface":"wg0","#
            + #""peer":"b","endpoint":"203.0.113.3:51820","text":"why"}"#
        #expect(
            LogsCommand.readable(line[...]) == "12:00:01.234  a wg0  endpoint-set  b  203.0.113.3:51820  why")
        // A torn or foreign line is shown as it is.
        #expect(LogsCommand.readable("not json") == "not json")
    }

    @Test func wordsAreCounted() {
        #expect(count(1, "router") == "1 router")
        #expect(count(0, "router") == "0 routers")
    }
}
