import CNatlab
import Glibc
import SystemCalls

/// The right to build a lab or to tear it down, for as long as the value lives.
struct LabClaim: ~Copyable {
    let state: LabState
    private let lock: Descriptor

    /// Claims a new lab: its folder is made.
    ///
    /// Throws `running`, `halfBuilt` or `busy` when there is one already.
    static func toBuild(_ state: LabState) throws(LabFailure) -> LabClaim {
        try state.root.locked { () throws(LabFailure) in
            if Files.exists(state.folder), !Files.isFolder(state.folder) {
                throw .machineLacks(
                    OperationFailure(
                        "make folder", state.folder, errno: ENOTDIR, detail: "something else has this name",
                        mend: "look what it is, and remove it"))
            }
            let isNew = try lift { () throws(OperationFailure) in
                try Files.makeFolder(state.folder, mode: 0o700)
            }
            guard
                let lock = try lift({ () throws(OperationFailure) in
                    try Files.lock(state.lockFile, wait: false)
                })
            else { throw .busy(lab: state.lab) }
            guard isNew else {
                throw state.isComplete ? .running(lab: state.lab) : .halfBuilt(lab: state.lab)
            }
            return LabClaim(state: state, lock: lock)
        }
    }

    /// Claims a lab to tear it down, complete or not.
    static func toRemove(_ state: LabState) throws(LabFailure) -> LabClaim {
        guard Files.isFolder(state.folder) else { throw .missing(lab: state.lab) }
        return try state.root.locked { () throws(LabFailure) in
            guard Files.isFolder(state.folder) else { throw .missing(lab: state.lab) }
            guard
                let lock = try lift({ () throws(OperationFailure) in
                    try Files.lock(state.lockFile, wait: false)
                })
            else { throw .busy(lab: state.lab) }
            return LabClaim(state: state, lock: lock)
        }
    }
}

extension LabRoot {
    /// Runs `body` while no other natlab makes or removes a lab's folder.
    ///
    /// Locks of labs are taken only in here and never waited for, so two processes cannot wait for each
    /// other, and no one locks a file that is being removed.
    func locked<R: ~Copyable>(_ body: () throws(LabFailure) -> R) throws(LabFailure) -> R {
        let lock = try takeLock()
        let result = try body()
        withExtendedLifetime(lock.rawValue) {}
        return result
    }

    private func takeLock() throws(LabFailure) -> Descriptor {
        while true {
            do throws(OperationFailure) {
                try Files.makeFolder(path, mode: 0o755)
                if let lock = try Files.lock(lockFile, wait: true), isCurrent(lock) { return lock }
            } catch {
                // The last lab's `down` removed the folder between the two calls: again.
                if error.errno == ENOENT, Files.exists("/run") { continue }
                throw LabFailure(ofPreparation: error)
            }
        }
    }

    /// Whether the locked file still is the one at its path: the last lab's `down` removes it.
    private func isCurrent(_ lock: borrowing Descriptor) -> Bool {
        var mine = stat()
        var present = stat()
        return fstat(lock.rawValue, &mine) == 0 && stat(lockFile, &present) == 0
            && mine.st_ino == present.st_ino
            && mine.st_dev == present.st_dev
    }

    /// Removes the root when no lab is left, with what was made outside; under the lock.
    func removeIfUnused() throws(OperationFailure) {
        guard try labNames().isEmpty else { return }
        try SharedFolders.release(self)
        try Files.remove(lockFile)
        Files.removeEmptyFolder(path)
    }
}

extension LabFailure {
    /// A failure before any step: what the user may not do is a lack of the machine, with its mend.
    init(ofPreparation failure: OperationFailure) {
        self = failure.isLackOfMachine ? .machineLacks(failure.mended) : .operation(failure)
    }
}

extension OperationFailure {
    /// The same with what can be done about it, where there is something.
    var mended: OperationFailure {
        var copy = self
        copy.mend = mend ?? machineMend
        return copy
    }

    /// Whether something is missing that the user can supply: a program, a device, a permission, a part of
    /// the kernel.
    var isLackOfMachine: Bool {
        machineMend != nil
            || mend != nil && [ENOENT, ENODEV, ENXIO, EOPNOTSUPP, EPROTONOSUPPORT].contains(errno)
    }
}

/// Runs calls of the layer below before any step has been taken.
func lift<R: ~Copyable>(_ body: () throws(OperationFailure) -> R) throws(LabFailure) -> R {
    do throws(OperationFailure) { return try body() } catch { throw LabFailure(ofPreparation: error) }
}
