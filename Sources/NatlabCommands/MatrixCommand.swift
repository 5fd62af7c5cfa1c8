package import ArgumentParser
import Glibc
import LabAgent
import LabPlanner
import LinuxLab
import PeeringCheck
import SystemCalls
import TopologyModel

/// `natlab matrix [BEHAVIOUR…]`: punches every pair of NAT behaviours and compares with theory.
package struct MatrixCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "matrix",
        abstract: "Punches all pairs of NAT behaviours, each with itself too, and compares with theory.",
        discussion: """
            Builds a lab of its own, with real WireGuard on both sides of each pair, and takes it down again. Each round \
            is a new lab. A pair is as expected when every round is what theory says. Exit status: 0 all as expected, 1 not.
            """)

    enum Order: String, ExpressibleByArgument, CaseIterable {
        case a, b, together, alternate
    }

    @Argument(
        help: ArgumentHelp(
            "NATs by name; by default the nine of RFC 4787 (eim-eif ... apdm-apdf), masquerade, blocked and none.",
            valueName: "behaviour"))
    var behaviours: [String] = []

    @Option(help: "How many rounds in each order.")
    var runs = 1

    @Option(help: "Whose clients start first: a's, b's, neither's, or in turn a's and b's.")
    var order: Order = .alternate

    @Option(help: "Milliseconds that the other side starts later.")
    var stagger: UInt32 = 300

    @Option(help: "Seconds to wait in each round for pairs that are not connected yet.")
    var timeout: Double = 30

    @Flag(help: "Print the result as JSON (see docs/json.md).")
    var json = false

    @Option(help: ArgumentHelp("Also write the result as JUnit XML.", valueName: "file"))
    var junit: String?

    @Option(help: ArgumentHelp("Also draw the result as an SVG picture.", valueName: "file"))
    var svg: String?

    package init() {}

    private static let usual =
        NATPreset.nine.map(\.name) + ["masquerade", "blocked", "none"]

    package func validate() throws {
        guard (1...100).contains(runs) else { throw ValidationError("--runs takes 1 to 100.") }
        guard stagger <= 60_000 else { throw ValidationError("--stagger takes up to 60000 milliseconds.") }
        guard timeout > 0, timeout <= 3600 else {
            throw ValidationError("--timeout takes seconds, above 0 and up to 3600.")
        }
        for name in behaviours where NATPreset.named(name) == nil {
            let names = NATPreset.all.map(\.name).joined(separator: ", ")
            throw ValidationError("there is no NAT '\(name)'; there are \(names)")
        }
        if let twice = behaviours.first(where: { name in behaviours.count { $0 == name } > 1 }) {
            throw ValidationError("'\(twice)' is named twice.")
        }
    }

    package func run() throws {
        // Before anything else: threads made later inherit the blocked signals.
        let interrupt = InterruptFlag()
        try requireRoot()
        let lab = MatrixLab(
            behaviours: behaviours.isEmpty ? Self.usual : behaviours, name: "matrix-\(getpid())")
        var trials: [[MatrixReport.Trial]] = lab.pairs.map { _ in [] }
        var problems: [String] = []
        var theory: [TraversalTheory.Verdict] = []
        let orders = orders
        for (number, order) in orders.enumerated() {
            let plan = try lab.plan(order: order, stagger: stagger)
            let round = Round(
                plan: plan, name: "round \(number + 1) of \(orders.count)", interrupt: interrupt,
                timeout: timeout)
            let report = try round.run()
            problems += report.problems
            let oracle = TraversalTheory(plan)
            theory = []
            for (index, pair) in lab.pairs.enumerated() {
                theory.append(oracle.verdict("a-\(pair.a)", "b-\(pair.b)", interface: "wg0"))
                let found = report.pairs.first { $0.from == "a-\(pair.a)" && $0.to == "b-\(pair.b)" }
                guard let found else { continue }
                trials[index].append(
                    MatrixReport.Trial(
                        first: order.rawValue, observed: found.observed, firstHandshake: found.firstHandshake,
                        reason: found.reason))
            }
        }
        let cells = lab.pairs.indices.map { index in
            MatrixReport.Cell(
                a: lab.pairs[index].a, b: lab.pairs[index].b, theory: theory[index], trials: trials[index])
        }
        try show(
            MatrixReport(behaviours: lab.behaviours, rounds: orders.count, cells: cells, problems: problems))
    }

    private var orders: [MatrixLab.Order] {
        let once: [MatrixLab.Order] =
            switch order {
            case .a: [.a]
            case .b: [.b]
            case .together: [.both]
            case .alternate: [.a, .b]
            }
        return Array(repeating: once, count: runs).flatMap(\.self)
    }

    private func show(_ report: MatrixReport) throws {
        try Terminal.result(json ? Terminal.json(report) : MatrixText(report).text)
        // After the verdict, which is worth more than the files.
        if let junit {
            try orFailed(.machine) { () throws(OperationFailure) in try JUnitDocument(report).write(to: junit)
            }
        }
        if let svg {
            try orFailed(.machine) { () throws(OperationFailure) in
                try Files.writeResult(MatrixPicture(report).text, to: svg, operation: "write SVG file")
            }
        }
        guard report.ok else { throw CommandFailure(.verdict, "") }
    }

    /// One lab, built, verified and taken down.
    private struct Round {
        var plan: LabPlan
        var name: String
        var interrupt: InterruptFlag
        var timeout: Double

        func run() throws(CommandFailure) -> VerifyReport {
            let building = ProgressLine(total: plan.steps.count, "\(name): building")
            let drivers = LabDrivers(
                startAgent: { (state, _) throws(OperationFailure) in try AgentProcess.start(state) },
                isCancelled: { interrupt.isRaised }, progress: { building.show($0) },
                warn: { Terminal.note("natlab: warning: \($0)") })
            defer { building.clear() }
            _ = try orFail { () throws(LabFailure) in
                try LabBuild.up(plan, filesFolder: "/", drivers: drivers)
            }
            building.clear()
            let result: Result<VerifyReport, CommandFailure>
            do throws(CommandFailure) { result = .success(try verify()) } catch { result = .failure(error) }
            var trouble: String?
            do throws(LabFailure) {
                let removal = try LabRemoval.down(plan.lab)
                if !removal.isClean {
                    let what = removal.problems.map(\.description) + removal.leftovers
                    trouble = what.joined(separator: "; ")
                }
            } catch { trouble = CommandFailure(error).message }
            if let trouble {
                // What went wrong first is told first.
                let first = if case .failure(let failure) = result { failure.message + "\n" } else { "" }
                throw CommandFailure(.lab, "\(first)lab '\(plan.lab)' could not be taken down: \(trouble)")
            }
            return try result.get()
        }

        private func verify() throws(CommandFailure) -> VerifyReport {
            let view = try LabView(LabRoot().state(of: plan.lab))
            let punching = ProgressLine(total: plan.pairs.count, "\(name): punching")
            defer { punching.clear() }
            let report = try LabVerification(view: view).run(
                timeout: timeout, isCancelled: { interrupt.isRaised }, progress: { punching.show($0) })
            guard !interrupt.isRaised else {
                throw CommandFailure(.lab, "interrupted; the lab has been taken down")
            }
            return report
        }
    }
}
