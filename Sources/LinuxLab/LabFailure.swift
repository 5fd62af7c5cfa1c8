package import LabPlanner
package import SystemCalls

/// Why a lab could not be built, entered or removed; the command line gives each its exit status.
package enum LabFailure: Error, Hashable, Sendable {
    /// There is no such lab.
    case missing(lab: String)
    /// It is complete and runs.
    case running(lab: String)
    /// Another natlab is building it or tearing it down.
    case busy(lab: String)
    /// An `up` or `down` of it did not come to its end; `down` removes what is left.
    case halfBuilt(lab: String)
    /// A namespace of a name that the lab needs exists, and natlab has not made it.
    case foreignNamespace(String)
    /// A key file that the topology names cannot be read, or holds no key.
    case keyFile(OperationFailure)
    /// A program, a device or a permission is missing; the failure has a mend.
    case machineLacks(OperationFailure)
    /// A step failed; everything before it has been undone but for `leftovers`.
    case step(StepFailure)
    /// The user interrupted it; everything has been undone but for `leftovers`.
    case interrupted(leftovers: [OperationFailure])
    /// Anything else.
    case operation(OperationFailure)
}

extension LabFailure {
    /// What the machine lacks, with its mend, when that is the reason: found before the first step or by a step.
    package var lack: OperationFailure? {
        switch self {
        case .machineLacks(let failure): failure
        case .step(let failure): failure.cause.isLackOfMachine ? failure.cause.mended : nil
        case .missing, .running, .busy, .halfBuilt, .foreignNamespace, .keyFile, .interrupted, .operation: nil
        }
    }
}

/// A step of `up` that failed.
package struct StepFailure: Error, Hashable, Sendable {
    /// 0-based, into `LabPlan.steps`.
    package var index: Int
    package var step: PlanStep
    package var cause: OperationFailure
    /// What could not be undone.
    package var leftovers: [OperationFailure]

    package init(index: Int, step: PlanStep, cause: OperationFailure, leftovers: [OperationFailure] = []) {
        self.index = index
        self.step = step
        self.cause = cause
        self.leftovers = leftovers
    }
}
