import Glibc
import SystemCalls
import TestSupport
import Testing

/// `up` cut off at many moments; whatever the moment, nothing stays.
@Suite(.serialized) struct InterruptTests {
    /// Starts `up`, waits until the lab has a given number of namespaces, and sends the signal.
    private func upAndSignal(_ natlab: Natlab, _ lab: Lab, _ signal: Int32, namespaces: Int) throws
        -> SystemCalls.ExitStatus
    {
        let child = try ProgramCall(Natlab.binary, ["up", lab.file], folder: natlab.folder).spawn()
        _ = try waitUntil(timeout: .seconds(20), pause: .microseconds(100)) { () throws(OperationFailure) in
            let names = try Files.list(NetworkNamespace.directory)
            return names.count { $0.hasPrefix(lab.name + ".") } >= namespaces
                || child.hasEnded(by: .now())
        }
        try child.handle.signal(signal)
        return try child.wait()
    }

    @Test(arguments: [1, 2, 4, 6], [SIGINT, SIGTERM]) func undoesEverything(
        _ namespaces: Int, _ signal: Int32
    ) throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("quickstart")
            let status = try upAndSignal(natlab, lab, signal, namespaces: namespaces)
            // It may have been quicker than the signal; then the lab is up and whole.
            #expect(status == .exited(4) || status == .exited(0))
            if status == .exited(4) {
                try MachineSnapshot.expectNothing(named: lab.name)
                #expect(try natlab.run("down", "--lab", lab.name).status == .exited(4))
            }
        }
    }

    @Test(arguments: [0, 1, 2, 3, 4, 5, 6, 6, 6, 6]) func downCleansUpAfterSIGKILL(_ namespaces: Int) throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("quickstart")
            let status = try upAndSignal(natlab, lab, SIGKILL, namespaces: namespaces)
            #expect(status == .killed(SIGKILL) || status == .exited(0))
            let wasBegun = Files.exists("/run/natlab/\(lab.name)")
            if wasBegun, status == .killed(SIGKILL), !Files.exists("/run/natlab/\(lab.name)/lab.json") {
                let again = try natlab.run("up", lab.file)
                #expect(again.status == .exited(4) && again.error.contains("half-built"))
            }
            let down = try natlab.run("down", "--lab", lab.name)
            #expect(down.status == (wasBegun ? .exited(0) : .exited(4)), "\(down.error)")
            try MachineSnapshot.expectNothing(named: lab.name)
            // And the name is free again.
            try lab.up()
        }
    }

    @Test func twoUpsAtOnceMakeOneLab() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("quickstart")
            let first = try ProgramCall(Natlab.binary, ["up", lab.file], folder: natlab.folder).spawn()
            let second = try ProgramCall(Natlab.binary, ["up", lab.file], folder: natlab.folder).spawn()
            let statuses = [try first.wait(), try second.wait()]
            #expect(Set(statuses) == [.exited(0), .exited(4)])
            #expect(try natlab.run("verify", "--lab", lab.name).status == .exited(0))
        }
    }

    @Test func aFailingStepIsNamedAndUndone() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("quickstart") {
                $0.replacing(
                    "[rendezvous]",
                    with: "[host.hub.wireguard.wg0]\nprivate-key-file = \"absent\"\n\n[rendezvous]")
            }
            let output = try natlab.run("up", lab.file)
            #expect(output.status == .exited(2))
            #expect(output.error.contains("absent") && output.error.contains("No such file"))
            try MachineSnapshot.expectNothing(named: lab.name)
        }
    }
}
