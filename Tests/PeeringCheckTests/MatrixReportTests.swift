import FoundationEssentials
import PeeringCheck
import Testing

@testable import LabPlanner

struct MatrixReportTests {
    private func cell(
        _ theory: PlannedPair.Path, _ observed: [PlannedPair.Path], b: String = "symmetric"
    ) -> MatrixReport.Cell {
        MatrixReport.Cell(
            a: "eim-eif", b: b, theory: .init(path: theory, reason: "so says theory"),
            trials: observed.enumerated().map { number, path in
                MatrixReport.Trial(
                    first: number % 2 == 0 ? "a" : "b", observed: path,
                    firstHandshake: path == .direct ? 12.5 : nil,
                    reason: "round \(number) was \(path.rawValue)")
            })
    }

    private func report(_ cells: [MatrixReport.Cell], problems: [String] = []) -> MatrixReport {
        MatrixReport(behaviours: ["eim-eif", "symmetric"], rounds: 2, cells: cells, problems: problems)
    }

    @Test func allAsTheorySays() {
        let good = [cell(.direct, [.direct, .direct]), cell(.none, [.none, .none], b: "blocked")]
        #expect(good.map(\.observed) == [.direct, .none] && good.allSatisfy(\.ok))
        #expect(good[0].reason == "so says theory")
        #expect(report(good).ok)
        #expect(!report(good, problems: ["the agent is dead"]).ok)
    }

    @Test(arguments: [
        (PlannedPair.Path.direct, [PlannedPair.Path.none, .none], MatrixReport.Observation.none),
        (.none, [.direct, .direct], .direct), (.direct, [.direct, .none], .mixed),
        (.none, [.none, .direct], .mixed),
    ]) func aMismatchIsNoticed(
        _ theory: PlannedPair.Path, _ trials: [PlannedPair.Path], _ observed: MatrixReport.Observation
    ) throws {
        let bad = cell(theory, trials)
        #expect(!bad.ok && bad.observed == observed)
        let miss = try #require(trials.firstIndex { $0 != theory })
        #expect(
            bad.reason
                == "theory says \(theory.rawValue), but round \(miss) was \(trials[miss].rawValue)")
        #expect(!report([cell(.direct, [.direct, .direct]), bad]).ok)
    }

    @Test func whatWasNotTriedIsNotAsExpected() {
        #expect(!cell(.none, []).ok && !cell(.direct, []).ok)
    }

    @Test func aCellIsFoundEitherWay() {
        let report = report([cell(.direct, [.direct, .direct])])
        #expect(report.cell("symmetric", "eim-eif") == report.cell("eim-eif", "symmetric"))
        #expect(report.cell("eim-eif", "symmetric") != nil && report.cell("eim-eif", "eim-eif") == nil)
    }

    @Test func keysAreThereAlsoWithoutAHandshake() throws {
        let data = try JSONEncoder().encode(report([cell(.none, [.none, .none])]))
        let text = String(decoding: data, as: UTF8.self)
        #expect(text.contains("\"first_handshake_ms\":null"))
        #expect(
            try JSONDecoder().decode(MatrixReport.self, from: data) == report([cell(.none, [.none, .none])]))
    }
}
