import FoundationEssentials
import Glibc
import SystemCalls
import TestSupport
import Testing

@Suite(.serialized) struct MatrixTests {
    private struct Result: Decodable {
        struct Cell: Decodable {
            var a: String
            var b: String
            var theory: String
            var observed: String
            var ok: Bool
            var reason: String
            var trials: [Trial]
        }
        struct Trial: Decodable {
            var first: String
            var observed: String
            var first_handshake_ms: Double?
            var reason: String
        }
        var ok: Bool
        var behaviours: [String]
        var rounds: Int
        var cells: [Cell]
        var problems: [String]
    }

    /// Whether one packet of the two gets in, said once more in other words than natlab's.
    private func connects(_ a: String, _ b: String) throws -> Bool {
        if [a, b].contains("blocked") { return false }
        let sides = try [a, b].map { $0 == "none" ? Behaviour(mapping: 0, filtering: 0) : try Behaviour($0) }
        return zip(sides, sides.reversed()).contains { to, from in
            switch to.filtering {
            case 0: true
            case 1: to.mapping == 0
            default: to.mapping == 0 && from.mapping == 0
            }
        }
    }

    @Test func aSubsetIsAsTheorySaysInBothOrders() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let names = ["eim-eif", "eim-adf", "eim-apdf", "apdm-apdf", "masquerade", "blocked", "none"]
            let output = try natlab.run(
                ["matrix"] + names + ["--json", "--junit", "matrix.xml", "--svg", "matrix.svg"])
            let result = try JSONDecoder().decode(Result.self, from: Data(output.output.utf8))
            let wrong = result.cells.filter { !$0.ok }.map { "\($0.a) - \($0.b): \($0.reason)" }
            #expect(output.status == .exited(0) && result.ok && wrong == [], "\(wrong) \(result.problems)")
            #expect(result.behaviours == names && result.rounds == 2 && result.cells.count == 28)
            let pairs = names.enumerated().flatMap { index, a in names[index...].map { (a, $0) } }
            for (cell, (a, b)) in zip(result.cells, pairs) {
                let path = try connects(a, b) ? "direct" : "none"
                #expect(cell.a == a && cell.b == b && cell.theory == path && cell.observed == path)
                #expect(cell.trials.map(\.first) == ["a", "b"])
                for trial in cell.trials {
                    #expect(trial.observed == path && (trial.first_handshake_ms != nil) == (path == "direct"))
                }
            }
            let tests = try xml(
                natlab, "matrix.xml", "len(t.findall('.//testcase')), len(t.findall('.//failure'))")
            #expect(tests == "28 0\n")
            #expect(try xml(natlab, "matrix.svg", "t.tag") == "{http://www.w3.org/2000/svg}svg\n")
        }
    }

    /// The nine and the two orders by theory alone: 31 of 45 pairs meet.
    @Test func theTableOfTheNine() throws {
        let pairs = Behaviour.nine.enumerated().flatMap { index, a in
            Behaviour.nine[index...].map { (a, $0) }
        }
        #expect(try pairs.count { try connects($0.0, $0.1) } == 31 && pairs.count == 45)
    }

    @Test(arguments: [1, 9], [SIGINT, SIGTERM]) func leavesNothingWhenInterrupted(
        _ namespaces: Int, _ signal: Int32
    ) throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let child = try ProgramCall(
                Natlab.binary, ["matrix", "eim-eif", "symmetric"], folder: natlab.folder
            )
            .spawn()
            let name = "matrix-\(child.pid)"
            _ = natlab.adopt(name)
            let isThere = try waitUntil(timeout: .seconds(60), pause: .microseconds(100)) {
                () throws(OperationFailure) in
                // All nine, and built: it punches.
                try Files.list(NetworkNamespace.directory).count { $0.hasPrefix("\(name).") } >= namespaces
                    && (namespaces == 1 || Files.exists("/run/natlab/\(name)/lab.json"))
            }
            #expect(isThere)
            try child.handle.signal(signal)
            #expect(try child.wait() == .exited(4))
            try MachineSnapshot.expectNothing(named: name)
        }
    }

    @Test func twoAtOnce() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let running = try [["eim-eif", "masquerade"], ["eim-adf", "eim-eif"]].map {
                try natlab.begin(["matrix", "--json", "--order", "together"] + $0)
            }
            for program in running {
                let output = try program.finish()
                #expect(output.status == .exited(0), "\(output.output)\(output.error)")
                let result = try JSONDecoder().decode(Result.self, from: Data(output.output.utf8))
                #expect(result.cells.count == 3 && result.cells.allSatisfy { $0.observed == "direct" })
            }
        }
    }

    @Test(arguments: [
        (["eim-xyz"], "there is no NAT 'eim-xyz'; there are masquerade, none"),
        (["eim-eif", "eim-eif"], "'eim-eif' is named twice"), (["--runs", "0"], "--runs takes 1 to 100"),
        (["--timeout", "0"], "--timeout takes seconds"), (["--stagger", "60001"], "--stagger takes up to"),
        (["--order", "c"], "--order"),
    ]) func refusesWhatItDoesNotKnow(_ arguments: [String], _ message: String) throws {
        try withCleanup { cleanup in
            let output = try Natlab(cleanup).run(["matrix"] + arguments)
            #expect(output.status == .exited(2) && output.error.contains(message), "\(output.error)")
        }
    }
}

/// What Python's parser makes of an XML file: an expression over the root element `t`, printed.
func xml(_ natlab: Natlab, _ file: String, _ expression: String) throws -> String {
    try tool(
        "/usr/bin/python3", "-c",
        "import sys, xml.etree.ElementTree as e; t = e.parse(sys.argv[1]).getroot(); print(\(expression))",
        "\(natlab.folder)/\(file)")
}
