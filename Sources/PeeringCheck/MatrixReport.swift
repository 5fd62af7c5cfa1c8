package import LabPlanner

/// What `natlab matrix` found: the JSON form is documented in docs/json.md and held by tests.
package struct MatrixReport: Codable, Hashable, Sendable {
    /// What was observed of a pair of behaviours in all rounds.
    package enum Observation: String, Codable, Sendable {
        case direct, none
        /// The rounds differ.
        case mixed
    }

    /// One pair of behaviours in one round.
    package struct Trial: Codable, Hashable, Sendable {
        /// Who of the two started first: "a", "b", or "both".
        package var first: String
        package var observed: PlannedPair.Path
        /// Milliseconds from both clients being up; nil without a handshake.
        package var firstHandshake: Double?
        package var reason: String

        private enum CodingKeys: String, CodingKey {
            case first, observed, reason
            case firstHandshake = "first_handshake_ms"
        }

        package init(first: String, observed: PlannedPair.Path, firstHandshake: Double?, reason: String) {
            self.first = first
            self.observed = observed
            self.firstHandshake = firstHandshake
            self.reason = reason
        }

        package func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(first, forKey: .first)
            try container.encode(observed, forKey: .observed)
            try container.encode(firstHandshake, forKey: .firstHandshake)
            try container.encode(reason, forKey: .reason)
        }
    }

    package struct Cell: Codable, Hashable, Sendable {
        package var a: String
        package var b: String
        package var theory: PlannedPair.Path
        package var observed: Observation
        package var ok: Bool
        /// Why theory says so; where the observation differs, what was seen.
        package var reason: String
        package var trials: [Trial]

        package init(a: String, b: String, theory: TraversalTheory.Verdict, trials: [Trial]) {
            self.a = a
            self.b = b
            self.theory = theory.path
            self.trials = trials
            let seen = Set(trials.map(\.observed))
            observed = seen.count > 1 ? .mixed : seen.first == .direct ? .direct : .none
            ok = !trials.isEmpty && trials.allSatisfy { $0.observed == theory.path }
            let miss = trials.first { $0.observed != theory.path }
            reason = miss.map { "theory says \(theory.path.rawValue), but \($0.reason)" } ?? theory.reason
        }
    }

    package var ok: Bool
    /// In the order of rows and columns.
    package var behaviours: [String]
    /// How often each pair was tried.
    package var rounds: Int
    /// Each unordered pair once, with itself too; `a` comes before `b` in `behaviours`.
    package var cells: [Cell]
    /// What was broken beside the pairs, in any round.
    package var problems: [String]

    package init(behaviours: [String], rounds: Int, cells: [Cell], problems: [String]) {
        self.behaviours = behaviours
        self.rounds = rounds
        self.cells = cells
        self.problems = problems
        ok = problems.isEmpty && cells.allSatisfy(\.ok)
    }

    package func cell(_ a: String, _ b: String) -> Cell? {
        cells.first { ($0.a == a && $0.b == b) || ($0.a == b && $0.b == a) }
    }
}
