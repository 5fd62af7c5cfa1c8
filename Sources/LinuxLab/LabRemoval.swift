import CNatlab
import Glibc
import LabPlanner
package import SystemCalls

/// What `down` did, and whether anything is left.
package struct RemovalReport: Hashable, Sendable {
    package var lab: String
    /// Namespaces that were removed.
    package var namespaces: [String] = []
    /// Processes that were ended, "NAME (PID)".
    package var processes: [String] = []
    /// Whether the lab's folder was removed.
    package var removedFolder = false
    /// What could not be done, in order.
    package var problems: [OperationFailure] = []
    /// What a look at the machine afterwards still found.
    package var leftovers: [String] = []

    package var isClean: Bool { problems.isEmpty && leftovers.isEmpty }
}

/// Takes a lab off the machine, from its journal and plan: whole, half-built, or with the files damaged.
///
/// Never stops at an error.
package struct LabRemoval {
    private let state: LabState
    private let plan: LabPlan?

    /// `down`: throws `missing` or `busy`; everything else is in the report.
    package static func down(_ lab: String, in root: LabRoot = LabRoot()) throws(LabFailure) -> RemovalReport
    {
        let state = root.state(of: lab)
        let claim = try LabClaim.toRemove(state)
        let report = LabRemoval(state).run()
        _ = consume claim
        return report
    }

    init(_ state: LabState, plan: LabPlan? = nil) {
        self.state = state
        self.plan = plan
    }

    /// The caller holds the lab's claim.
    func run() -> RemovalReport {
        var report = RemovalReport(lab: state.lab)
        // From here on the lab is no running one, whatever happens to this process.
        do throws(OperationFailure) { try Files.remove(state.recordFile) } catch {
            report.problems.append(error)
        }
        // What cannot be read tells nothing; the plan does.
        let journal = (try? Files.readText(state.journalFile)).map { Journal.read($0, of: state.lab) }
        let namespaces = knownNamespaces(journal).map { NetworkNamespace($0) }
        let made = journal?.made ?? []
        let kept = foreignPins(besides: Set(namespaces.map(\.name)))
        let processes = LabProcesses(
            pinned: Set(namespaces.compactMap { $0.identity() }), made: made, kept: Set(kept.keys), of: state)
        let (ended, problems) = processes.end(grace: .seconds(2))
        report.processes = ended
        report.problems += problems
        for namespace in namespaces.reversed() where namespace.isPinned {
            do throws(OperationFailure) {
                try namespace.remove()
                report.namespaces.append(namespace.name)
            } catch { report.problems.append(error) }
        }
        for mount in mountsUnderState() {
            let result = natlab_unmount(mount)
            if result < 0 { report.problems.append(OperationFailure("unmount", mount, errno: -result)) }
        }
        report.problems += removeFolders()
        report.removedFolder = !Files.exists(state.folder)
        report.leftovers = leftovers(namespaces, made, kept)
        return report
    }

    /// The lab's folder, and what natlab shares with others when this was the last lab.
    func removeFolders() -> [OperationFailure] {
        do throws(LabFailure) {
            try state.root.locked { () throws(LabFailure) in
                try lift { () throws(OperationFailure) in
                    try Files.removeTree(state.folder)
                    try state.root.removeIfUnused()
                }
            }
            return []
        } catch {
            switch error {
            case .operation(let failure), .machineLacks(let failure): return [failure]
            default: return [OperationFailure("remove folder", state.folder, detail: "\(error)")]
            }
        }
    }

    /// Every namespace that the lab may have: those of its journal, and those of its plan where the journal
    /// does not tell all.
    ///
    /// `up` begins neither file before it has seen that no namespace of these names exists, so all of them
    /// are the lab's.
    private func knownNamespaces(_ journal: Journal.Account?) -> [String] {
        var names = journal?.namespaces ?? []
        let pinned = (try? Files.list(NetworkNamespace.directory)) ?? []
        let told = Set(names)
        let tellsAll = journal?.isWhole == true && pinned.allSatisfy { !isSafe($0) || told.contains($0) }
        // Reading a plan of 1,000 hosts takes longer than removing their namespaces.
        if !tellsAll { names += (plan ?? (try? state.readPlan()))?.nodes.map(\.namespace) ?? [] }
        var seen: Set<String> = []
        return names.filter { isSafe($0) && seen.insert($0).inserted }
    }

    /// Only names of this lab, and no path: the files may be damaged.
    private func isSafe(_ namespace: String) -> Bool {
        namespace.hasPrefix("\(state.lab).") && !namespace.contains("/")
    }

    /// What the pins of all other names hold.
    private func foreignPins(besides names: Set<String>) -> [NetworkNamespace.Identity: NetworkNamespace] {
        var pins: [NetworkNamespace.Identity: NetworkNamespace] = [:]
        for name in (try? Files.list(NetworkNamespace.directory)) ?? [] where !names.contains(name) {
            let namespace = NetworkNamespace(name)
            if let identity = namespace.identity() { pins[identity] = namespace }
        }
        return pins
    }

    private func mountsUnderState() -> [String] {
        Mounts.ordered().filter { $0.hasPrefix(state.folder + "/") }.reversed()
    }

    /// Looks at the machine; what of the lab is still there.
    private func leftovers(
        _ namespaces: [NetworkNamespace], _ made: [MadeNamespace],
        _ kept: [NetworkNamespace.Identity: NetworkNamespace]
    ) -> [String] {
        var left: [String] = []
        let mounts = Mounts.all()
        for namespace in namespaces where namespace.isPinned || mounts.contains(namespace.path) {
            left.append("namespace \(namespace.name)")
        }
        for namespace in made {
            guard let pin = kept[namespace.identity], pin.cookie() == namespace.cookie else { continue }
            left.append("namespace \(namespace.name), which is pinned as \(pin.name) too")
        }
        // The pins are gone by now; what `up` has noted tells the namespaces still.
        do throws(OperationFailure) {
            let found = try LabProcesses(pinned: [], made: made, of: state).find()
            left += found.map { "process \($0.name) (\($0.handle.pid))" }
        } catch { left.append("perhaps processes: \(error)") }
        left += mounts.filter { $0.hasPrefix(state.folder + "/") }.map { "mount \($0)" }
        if Files.exists(state.folder) { left.append("folder \(state.folder)") }
        return left
    }
}

/// The mounts of the machine.
enum Mounts {
    static func all() -> Set<String> { Set(ordered()) }

    /// Mount points, oldest first; see proc_pid_mountinfo(5).
    static func ordered() -> [String] {
        guard let text = try? Files.readText("/proc/thread-self/mountinfo") else { return [] }
        return text.split(separator: "\n").compactMap { line in
            let fields = line.split(separator: " ", maxSplits: 5)
            // A space in a name shows as \040; names of natlab have none.
            return fields.count > 4 ? String(fields[4]) : nil
        }
    }
}
