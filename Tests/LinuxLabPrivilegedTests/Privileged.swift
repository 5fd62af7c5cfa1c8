import LabPlanner
import LinuxLab
import SystemCalls
import TestSupport
import Testing

/// All suites here, one test at a time: they compare what is on the machine before and after.
@Suite(.serialized) enum Privileged {}

extension Cleanup {
    /// A root folder of the test's own, and a lab's name; both gone at the end whatever the test left of
    /// them.
    func labRoot() -> (root: LabRoot, lab: String) {
        let lab = uniqueName("t")
        let root = LabRoot("/run/\(uniqueName("natlab-test"))")
        add("lab \(lab)") {
            do throws(LabFailure) {
                _ = try LabRemoval.down(lab, in: root)
            } catch .missing {}
            try Files.removeTree(root.path)
        }
        return (root, lab)
    }
}

extension LabDrivers {
    /// For labs without an agent.
    static func plain(
        isCancelled: @escaping () -> Bool = { false }, progress: @escaping (Int) -> Void = { _ in }
    ) -> LabDrivers {
        LabDrivers(startAgent: { _, _ in }, isCancelled: isCancelled, progress: progress)
    }
}

/// Fails the test when anything of the lab or its root is on the machine.
func expectNothingLeft(
    of lab: String, in root: LabRoot, sourceLocation: SourceLocation = #_sourceLocation
) throws(OperationFailure) {
    try MachineSnapshot.expectNothing(named: lab, sourceLocation: sourceLocation)
    #expect(!Files.exists(root.path), sourceLocation: sourceLocation)
}
