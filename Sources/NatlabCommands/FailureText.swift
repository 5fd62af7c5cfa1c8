import LabPlanner
import LinuxLab
import SystemCalls

extension CommandFailure {
    /// A failed operation as the user reads it: what, on what, where, why, and the mend on a line of its own.
    ///
    /// What is full, at its limit or forbidden is the machine's, whatever status a defect would have.
    init(_ failure: OperationFailure, status: NatlabExit = .defect) {
        var failure = failure
        if failure.mend == nil { failure.mend = failure.machineMend }
        self.init(failure.mend == nil ? status : .machine, Self.text(failure))
    }

    /// The same where the user named the thing, so that the command line is wrong and not the machine.
    init(usage failure: OperationFailure) { self.init(.usage, Self.text(failure)) }

    init(_ failure: LabFailure) {
        switch failure {
        case .missing(let lab):
            self.init(.lab, "no lab '\(lab)' is up here; `natlab list` shows those that are")
        case .running(let lab):
            self.init(.lab, "lab '\(lab)' is up already; take it down first with `natlab down --lab \(lab)`")
        case .busy(let lab):
            self.init(
                .lab, "lab '\(lab)' is being built or taken down by another natlab; try again when it is done"
            )
        case .halfBuilt(let lab):
            self.init(
                .lab,
                "lab '\(lab)' is half-built: an `up` or `down` of it was cut off;"
                    + " `natlab down --lab \(lab)` removes what is left")
        case .foreignNamespace(let name):
            self.init(
                .lab,
                "there is a namespace \(name) already, and natlab has not made it\n"
                    + "  remove it with `ip netns del \(name)`, or give the lab another name")
        case .keyFile(let cause):
            self.init(usage: cause)
        case .machineLacks(let cause):
            self.init(.machine, Self.text(cause))
        case .step(let step):
            let undone =
                step.leftovers.isEmpty
                ? "everything has been undone" : "not all could be undone: " + Self.list(step.leftovers)
            self.init(
                failure.lack == nil ? .lab : .machine,
                "step \(step.index + 1) (\(step.step.effect)) failed\n  \(Self.text(failure.lack ?? step.cause))\n  \(undone)"
            )
        case .interrupted(let leftovers):
            self.init(
                .lab,
                leftovers.isEmpty
                    ? "interrupted; everything has been undone"
                    : "interrupted; not all could be undone: " + Self.list(leftovers))
        case .operation(let cause):
            self.init(cause)
        }
    }

    private static func text(_ failure: OperationFailure) -> String {
        failure.mend.map { "\(failure)\n  \($0)" } ?? "\(failure)"
    }

    private static func list(_ failures: [OperationFailure]) -> String {
        failures.map { "\n  \($0)" }.joined()
    }
}

/// Runs a call of the layers below and turns its failure into the command's end.
func orFail<R: ~Copyable>(_ body: () throws(LabFailure) -> R) throws(CommandFailure) -> R {
    do throws(LabFailure) { return try body() } catch { throw CommandFailure(error) }
}

/// The same for plain operations.
func orFailed<R: ~Copyable>(
    _ status: NatlabExit = .defect, _ body: () throws(OperationFailure) -> R
) throws(CommandFailure) -> R {
    do throws(OperationFailure) { return try body() } catch { throw CommandFailure(error, status: status) }
}
