import Glibc
package import LabPlanner
package import SystemCalls

/// What `up` needs from outside: WireGuard, the agent, the user's wish to stop, a place to tell how far it
/// is.
package struct LabDrivers {
    package var wireGuard: any WireGuardDriver
    /// Starts the lab's agent, with `LabState.agentMark` in its environment, and returns once it serves.
    package var startAgent: (LabState, LabPlan) throws(OperationFailure) -> Void
    /// Asked before each group of steps; true undoes everything.
    package var isCancelled: () -> Bool
    /// Told how many steps are done.
    package var progress: (Int) -> Void
    /// Told what the user should know although it stops nothing.
    package var warn: (String) -> Void

    package init(
        wireGuard: any WireGuardDriver = SystemWireGuard(),
        startAgent: @escaping (LabState, LabPlan) throws(OperationFailure) -> Void,
        isCancelled: @escaping () -> Bool = { false }, progress: @escaping (Int) -> Void = { _ in },
        warn: @escaping (String) -> Void = { _ in }
    ) {
        self.wireGuard = wireGuard
        self.startAgent = startAgent
        self.isCancelled = isCancelled
        self.progress = progress
        self.warn = warn
    }
}

/// A lab on its way up.
///
/// `start`, then `applyNext` until it says that nothing is left, then `complete`; `LabBuild.up` does all
/// that, and undoes everything when something fails. A value that is dropped in between leaves what a killed
/// process leaves.
package final class LabBuild {
    package let state: LabState
    private let plan: LabPlan
    private let drivers: LabDrivers
    private let runner: StepRunner
    private let backends: [String: LabRecord.Backend]
    private var claim: LabClaim?
    private let started = wallClockNanoseconds()
    /// The step that is next.
    package private(set) var position = 0

    /// Builds the lab, all or nothing.
    ///
    /// Names of key files in the plan are meant from `filesFolder`, the topology file's folder. Throws
    /// `running`, `busy` or `halfBuilt` when there is such a lab already, `machineLacks` or `operation`
    /// before anything is made, `step` or `interrupted` after everything has been undone.
    package static func up(
        _ plan: LabPlan, filesFolder: String, in root: LabRoot = LabRoot(), drivers: LabDrivers
    ) throws(LabFailure) -> LabRecord {
        let build = try LabBuild(starting: plan, filesFolder: filesFolder, in: root, drivers: drivers)
        do throws(StepRunner.Failure) {
            while try build.applyNextGroup() {
                guard !drivers.isCancelled() else { throw StepRunner.Failure(index: -1, cause: cancelled) }
                drivers.progress(build.position)
            }
            return try build.complete()
        } catch {
            let leftovers = build.undo()
            // A program that Ctrl-C ended fails too; the wish to stop is the reason then.
            if error.index < 0 || drivers.isCancelled() { throw .interrupted(leftovers: leftovers) }
            let step = plan.steps[error.index]
            throw .step(StepFailure(index: error.index, step: step, cause: error.cause, leftovers: leftovers))
        }
    }

    private static let cancelled = OperationFailure("build lab", "", errno: EINTR)

    /// Checks what the machine has, claims the lab, writes down plan and keys; no step has been taken then.
    package init(
        starting plan: LabPlan, filesFolder: String, in root: LabRoot, drivers: LabDrivers
    ) throws(LabFailure) {
        let state = root.state(of: plan.lab)
        backends = try lift { () throws(OperationFailure) in try Self.checkMachine(plan, drivers) }
        let claim = try LabClaim.toBuild(state)
        do throws(LabFailure) {
            runner = try Self.prepare(plan, state, filesFolder, backends, drivers)
        } catch {
            // Nothing of the lab but its folder exists yet.
            _ = LabRemoval(state).removeFolders()
            throw error
        }
        self.state = state
        self.plan = plan
        self.drivers = drivers
        self.claim = consume claim
    }

    /// Takes the next step, or several that go together; false when none was left.
    package func applyNext() throws(StepFailure) -> Bool {
        do throws(StepRunner.Failure) { return try applyNextGroup() } catch {
            throw StepFailure(index: error.index, step: plan.steps[error.index], cause: error.cause)
        }
    }

    /// Undoes everything, as far as it can; what it could not undo.
    package func undo() -> [OperationFailure] {
        defer { claim = nil }
        return LabRemoval(state, plan: plan).run().problems
    }

    private func applyNextGroup() throws(StepRunner.Failure) -> Bool {
        guard position < plan.steps.count else {
            try runner.finish()
            return false
        }
        position = try runner.runGroup(at: position)
        return true
    }

    /// Writes the record that makes the lab a running one.
    private func complete() throws(StepRunner.Failure) -> LabRecord {
        do throws(OperationFailure) {
            let record = LabRecord(
                lab: plan.lab, broughtUp: wallClockNanoseconds(), started: started,
                bootID: try currentBootID(),
                backends: backends)
            try state.write(record)
            claim = nil
            return record
        } catch {
            throw StepRunner.Failure(index: max(0, plan.steps.count - 1), cause: error)
        }
    }

    /// What can be known to be missing before anything is made; the backends of all tunnels.
    private static func checkMachine(
        _ plan: LabPlan, _ drivers: LabDrivers
    ) throws(OperationFailure) -> [String: LabRecord.Backend] {
        let loadsFirewall = plan.steps.contains { if case .loadFirewall = $0.effect { true } else { false } }
        if loadsFirewall { try FirewallLoads.check() }
        try LinkAbilities.check(plan)
        try NftablesAbility.check(plan)
        var backends: [String: LabRecord.Backend] = [:]
        for tunnel in plan.tunnels {
            backends["\(tunnel.host).\(tunnel.interface)"] = try drivers.wireGuard.resolve(tunnel.backend)
        }
        return backends
    }

    private static func prepare(
        _ plan: LabPlan, _ state: LabState, _ filesFolder: String, _ backends: [String: LabRecord.Backend],
        _ drivers: LabDrivers
    ) throws(LabFailure) -> StepRunner {
        try state.root.locked { () throws(LabFailure) in
            try lift { () throws(OperationFailure) in try SharedFolders.prepare(state.root) }
        }
        // Only then may teardown take every namespace that the plan names for the lab's own.
        for node in plan.nodes where NetworkNamespace(node.namespace).isPinned {
            throw .foreignNamespace(node.namespace)
        }
        let keys: LabKeys
        do throws(OperationFailure) {
            keys = try LabKeys(plan, filesFolder: filesFolder)
        } catch { throw .keyFile(error) }
        for warning in keys.warnings { drivers.warn(warning) }
        return try lift { () throws(OperationFailure) in
            for folder in [state.keysFolder, state.logsFolder, state.hostsFolder] {
                try Files.makeFolder(folder, mode: 0o700)
            }
            // Every node has one: `exec` binds it, so that no other node's sockets and none of the machine's are seen.
            for node in plan.nodes {
                try Files.makeFolder("\(state.hostsFolder)/\(node.name)", mode: 0o700)
                try Files.makeFolder(state.wireGuardFolder(host: node.name), mode: 0o700)
            }
            try keys.write(plan, state)
            let journal = try Journal(state)
            try state.write(plan)
            return StepRunner(plan, state, journal, keys, backends, drivers)
        }
    }
}
