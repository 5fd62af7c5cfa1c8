import Glibc
import SystemCalls

/// A lab of this machine.
package struct LabListing: Hashable, Sendable {
    package enum Condition: String, Sendable {
        case running
        /// An `up` or `down` of it was cut off.
        case halfBuilt = "half-built"
        /// Being built or torn down right now.
        case busy
    }
    package var lab: String
    package var condition: Condition

    package init(lab: String, condition: Condition) {
        self.lab = lab
        self.condition = condition
    }
}

extension LabRoot {
    /// All labs, by name; none when nothing of natlab is on the machine.
    package func labs() throws(LabFailure) -> [LabListing] {
        guard Files.exists(path) else { return [] }
        return try locked { () throws(LabFailure) in
            let names = try lift { () throws(OperationFailure) in try labNames() }
            var result: [LabListing] = []
            for name in names {
                result.append(LabListing(lab: name, condition: try condition(of: state(of: name))))
            }
            if result.isEmpty { try lift { () throws(OperationFailure) in try removeIfUnused() } }
            return result
        }
    }

    /// The state of a complete lab; throws `missing`, `busy` or `halfBuilt` for any other.
    package func runningLab(_ lab: String) throws(LabFailure) -> LabState {
        let state = state(of: lab)
        // The common case needs no lock: the record appears and disappears in one go.
        if state.isComplete { return state }
        guard let listing = try labs().first(where: { $0.lab == lab }) else { throw .missing(lab: lab) }
        switch listing.condition {
        case .running: return state
        case .busy: throw .busy(lab: lab)
        case .halfBuilt: throw .halfBuilt(lab: lab)
        }
    }

    private func condition(of state: LabState) throws(LabFailure) -> LabListing.Condition {
        do throws(OperationFailure) {
            // Tried and let go of at once: under the root's lock nobody else can try meanwhile.
            guard let lock = try Files.lock(state.lockFile, wait: false) else { return .busy }
            _ = consume lock
        } catch {
            // What is short now is short for all labs; any other trouble is this one's, and `down` will tell it.
            if [EMFILE, ENFILE, ENOMEM].contains(error.errno) { throw LabFailure(ofPreparation: error) }
            return .halfBuilt
        }
        return state.isComplete ? .running : .halfBuilt
    }
}
