import Glibc
import LabPlanner
import LinuxLab
import SystemCalls
import TestSupport
import Testing

/// What is not where `down` made it: agents elsewhere, pins that are gone, records of another boot, strangers' files.
extension Privileged {
    @Suite struct LeftoverTests {
        private func up(_ cleanup: Cleanup) throws -> (LabRoot, String) {
            let (root, lab) = cleanup.labRoot()
            _ = try LabBuild.up(SitePlan(lab, sites: 1).plan, filesFolder: "/", in: root, drivers: .plain())
            return (root, lab)
        }

        /// A program that is ended with the test, in a namespace.
        private func sleeper(
            _ cleanup: Cleanup, in namespace: NetworkNamespace, environment: [String: String]? = nil
        ) throws -> Int32 {
            let child = try ProgramCall("sleep", ["1000"], environment: environment, network: namespace)
                .spawn()
            let pid = child.pid
            cleanup.add("sleep \(pid)") {
                kill(pid, SIGKILL)
                var status: Int32 = 0
                waitpid(pid, &status, 0)
            }
            return pid
        }

        private func append(_ lines: String, toJournalOf state: LabState) throws {
            try Files.writeAtomically(
                state.journalFile, try Files.read(state.journalFile) + Array(lines.utf8), mode: 0o600)
        }

        @Test func markedProcessesAreFoundInAnyNamespace() throws {
            try withCleanup { cleanup in
                let (root, lab) = try up(cleanup)
                let elsewhere = try cleanup.namespace(uniqueName("t"))
                let state = root.state(of: lab)
                let pids = try [state.agentMark, state.wireGuardMark].map {
                    try sleeper(cleanup, in: elsewhere, environment: [$0.name: $0.value])
                }
                let other = try sleeper(
                    cleanup, in: elsewhere, environment: [state.agentMark.name: state.agentMark.value + "x"])
                let report = try LabRemoval.down(lab, in: root)
                #expect(report.isClean, "\(report)")
                #expect(Set(report.processes) == Set(pids.map { "sleep (\($0))" }))
                #expect(NetworkNamespace.identity(ofProcess: other) == elsewhere.identity())
                try expectNothingLeft(of: lab + "\0", in: root)
            }
        }

        @Test func processesAreFoundWhenThePinIsGone() throws {
            try withCleanup { cleanup in
                let (root, lab) = try up(cleanup)
                let pid = try sleeper(cleanup, in: NetworkNamespace("\(lab).h1"))
                try tool("ip", "netns", "del", "\(lab).h1")
                let report = try LabRemoval.down(lab, in: root)
                #expect(report.isClean, "\(report)")
                #expect(report.processes == ["sleep (\(pid))"])
                try expectNothingLeft(of: lab, in: root)
            }
        }

        @Test func aStrangerWithTheInodeOfAFormerNamespaceIsSpared() throws {
            try withCleanup { cleanup in
                let (root, lab) = try up(cleanup)
                let theirs = try cleanup.namespace(uniqueName("theirs"))
                let pid = try sleeper(cleanup, in: theirs)
                let identity = try #require(theirs.identity())
                let cookie = try #require(theirs.cookie())
                // Not pinned any more, so that nothing but the cookie tells.
                try theirs.remove()
                let place = "\(identity.device):\(identity.inode)"
                try append(
                    "made \(lab).r1 \(place) \(cookie + 1_000_000)\n", toJournalOf: root.state(of: lab))
                let report = try LabRemoval.down(lab, in: root)
                #expect(report.isClean, "\(report)")
                #expect(report.processes.isEmpty)
                #expect(NetworkNamespace.identity(ofProcess: pid) == identity)
            }
        }

        @Test func aJournalOfAnotherBootNamesNobody() throws {
            try withCleanup { cleanup in
                let (root, lab) = try up(cleanup)
                let state = root.state(of: lab)
                let pid = try sleeper(cleanup, in: NetworkNamespace("\(lab).h1"))
                try tool("ip", "netns", "del", "\(lab).h1")
                let boot = try Files.readText("/proc/sys/kernel/random/boot_id").prefix { $0 != "\n" }
                let journal = try Files.readText(state.journalFile)
                try #require(journal.contains("boot \(boot)\n"))
                try Files.writeAtomically(
                    state.journalFile, Array(journal.replacing("boot \(boot)", with: "boot another").utf8),
                    mode: 0o600)
                let report = try LabRemoval.down(lab, in: root)
                #expect(report.processes.isEmpty)
                #expect(NetworkNamespace.identity(ofProcess: pid) != nil)
            }
        }

        @Test func aNamespaceThatSomebodyPinnedTooIsKeptAndTold() throws {
            try withCleanup { cleanup in
                let (root, lab) = try up(cleanup)
                let theirs = uniqueName("theirs")
                let pid = try sleeper(cleanup, in: NetworkNamespace("\(lab).h1"))
                try tool("ip", "netns", "attach", theirs, "\(pid)")
                cleanup.add(theirs) { try NetworkNamespace(theirs).remove() }
                try tool("ip", "netns", "del", "\(lab).h1")
                let report = try LabRemoval.down(lab, in: root)
                #expect(report.processes.isEmpty)
                #expect(
                    report.leftovers == [
                        "namespace \(lab).h1, which is pinned as \(theirs) too", "process sleep (\(pid))",
                    ])
            }
        }

        @Test func aLabOfAnotherBootIsHalfBuilt() throws {
            try withCleanup { cleanup in
                let (root, lab) = try up(cleanup)
                let state = root.state(of: lab)
                let record = try state.readRecord()
                let text = try Files.readText(state.recordFile)
                    .replacing(record.bootID, with: "00000000-0000-4000-8000-000000000000")
                try Files.writeAtomically(state.recordFile, Array(text.utf8), mode: 0o600)
                #expect(throws: LabFailure.halfBuilt(lab: lab)) { _ = try root.runningLab(lab) }
                #expect(try root.labs() == [LabListing(lab: lab, condition: .halfBuilt)])
                #expect(throws: LabFailure.halfBuilt(lab: lab)) {
                    _ = try LabBuild.up(
                        SitePlan(lab, sites: 1).plan, filesFolder: "/", in: root, drivers: .plain())
                }
                #expect(try LabRemoval.down(lab, in: root).isClean)
                try expectNothingLeft(of: lab, in: root)
            }
        }

        @Test func whatIsNoLabHidesNone() throws {
            try withCleanup { cleanup in
                let (root, lab) = try up(cleanup)
                try Files.writeAtomically("\(root.path)/fill", [], mode: 0o600)
                try Files.makeFolder("\(root.path)/No Lab", mode: 0o700)
                // A lab whose lock cannot be had.
                try Files.makeFolder("\(root.path)/damaged", mode: 0o700)
                try Files.makeFolder("\(root.path)/damaged/lock", mode: 0o700)
                #expect(
                    try root.labs() == [
                        LabListing(lab: "damaged", condition: .halfBuilt),
                        LabListing(lab: lab, condition: .running),
                    ])
                #expect(throws: LabFailure.missing(lab: "fill")) { _ = try LabRemoval.down("fill", in: root) }
                let failure = #expect(throws: LabFailure.self) {
                    _ = try LabBuild.up(
                        SitePlan("fill", sites: 1).plan, filesFolder: "/", in: root, drivers: .plain())
                }
                guard case .machineLacks(let cause) = failure else {
                    Issue.record("\(String(describing: failure))")
                    return
                }
                #expect(cause.errno == ENOTDIR && cause.object == "\(root.path)/fill")
                #expect(try LabRemoval.down(lab, in: root).isClean)
                try Files.removeTree("\(root.path)/damaged")
                // What is left here does not keep natlab's own files.
                #expect(try root.labs().isEmpty)
                #expect(try Files.list(root.path) == ["No Lab", "fill"])
            }
        }

        @Test func everyNodeHasItsWireGuardFolder() throws {
            try withCleanup { cleanup in
                let (root, lab) = try up(cleanup)
                for node in ["internet", "r1", "h1"] {
                    #expect(Files.isFolder(root.state(of: lab).wireGuardFolder(host: node)))
                }
            }
        }
    }
}
