import Glibc
import SystemCalls
import Testing
import WireGuardControl

@Suite struct WireGuardGoStartTests {
    /// Below the 128 inotify instances that a user has by default, which other programs share.
    @Test func manyHostsStartTogether() throws {
        try Sandbox.with { sandbox in
            let hosts = try (0..<40).map { try sandbox.host("h\($0)") }
            let processes = try sandbox.start(hosts)
            #expect(Set(processes.map(\.pid)).count == 40)
            for process in processes {
                #expect(
                    NetworkNamespace.identity(ofProcess: process.pid) == process.settings.network.identity())
                // Its own session: the terminal's Ctrl-C does not reach it.
                #expect(getsid(process.pid) == process.pid)
            }
            for (index, host) in hosts.enumerated() {
                try host.transport().apply(WireGuardChange(listenPort: UInt16(1000 + index)))
            }
            for (index, host) in hosts.enumerated() {
                #expect(try host.transport().read().listenPort == UInt16(1000 + index))
            }
        }
    }

    @Test func aNameThatIsTakenIsTheProgramsLastWord() throws {
        try Sandbox.with { sandbox in
            let host = try sandbox.host("a")
            try run(Place(host), "ip", "link", "add", "wg0", "type", "veth", "peer", "name", "other")
            let process = try host.start()
            sandbox.keep(process)
            let error = #expect(throws: OperationFailure.self) {
                try process.waitUntilReady(by: .now() + .seconds(20))
            }
            #expect(error?.errno == EEXIST)
            #expect(error?.detail?.contains("Failed to create TUN device") == true)
            #expect(error?.mend?.contains("natlab down") == true)
            #expect(error?.object == "wg0" && error?.namespace == host.network.name)
            #expect(process.hasEnded(by: .now()))
        }
    }

    @Test func oneThatFailsEndsAll() throws {
        try Sandbox.with { sandbox in
            let good = try sandbox.host("good")
            let bad = try sandbox.host("bad")
            try run(Place(bad), "ip", "link", "add", "wg0", "type", "veth", "peer", "name", "other")
            let error = #expect(throws: OperationFailure.self) { try WireGuardGo.startAll([good, bad]) }
            #expect(error?.namespace == bad.network.name)
            let left = #expect(throws: OperationFailure.self) { try good.transport().read() }
            #expect([ENOENT, ECONNREFUSED].contains(left?.errno))
        }
    }

    @Test func aHostIsNotStartedTwice() throws {
        try Sandbox.with { sandbox in
            let process = try sandbox.startedHost("a")
            let error = #expect(throws: OperationFailure.self) { try process.settings.start() }
            #expect(error?.errno == EADDRINUSE)
            #expect(try process.settings.transport().read().interface == "wg0")
        }
    }

    @Test func aNamespaceThatIsNotThereIsAnError() throws {
        try Sandbox.with { sandbox in
            var host = try sandbox.host("a")
            host.network = NetworkNamespace("natlab-test-none.\(host.network.name)")
            let error = #expect(throws: OperationFailure.self) { try host.start() }
            #expect(error?.errno == ENOENT)
            #expect(error?.operation == "open namespace")
        }
    }

    @Test func theMachineCanRunIt() throws {
        try WireGuardGo.checkMachine()
    }

    @Test func theLocatorFindsTheProgram() throws {
        try Sandbox.with { sandbox in
            let process = try sandbox.startedHost("a")
            let host = process.settings
            try host.transport().apply(WireGuardChange(listenPort: 77))
            let inLab = try WireGuardLocator.inLab(
                interface: "wg0", network: host.network, folder: host.folder)
            #expect(inLab is UserspaceWireGuard)
            #expect(try inLab.read().listenPort == 77)
            // The machine has no wg of this name itself, so its folder for sockets is asked.
            let outside = try WireGuardLocator.onMachine(interface: "wg0", folder: host.folder)
            #expect(try outside.read().listenPort == 77)
            #expect(kill(process.pid, SIGKILL) == 0)
            #expect(process.hasEnded(by: .now() + .seconds(10)))
            let dead = try WireGuardLocator.inLab(
                interface: "wg0", network: host.network, folder: host.folder)
            #expect(throws: OperationFailure.self) { try dead.read() }
        }
    }

    @Test func theLocatorSaysWhenThereIsNothing() throws {
        try Sandbox.with { sandbox in
            let host = try sandbox.host("a")
            let error = #expect(throws: OperationFailure.self) {
                try WireGuardLocator.inLab(interface: "wg0", network: host.network, folder: host.folder)
                    .read()
            }
            // Without WireGuard in the kernel, and with it but no such interface.
            #expect([EOPNOTSUPP, ENODEV].contains(error?.errno))
            let outside = #expect(throws: OperationFailure.self) {
                try WireGuardLocator.onMachine(interface: "natlabnone0", folder: host.folder)
            }
            #expect(outside?.errno == ENODEV)
            #expect(outside?.mend?.contains("wg-quick") == true)
        }
    }

    @Test func aKilledProgramIsToldAsThat() throws {
        try Sandbox.with { sandbox in
            let process = try sandbox.startedHost("a")
            #expect(kill(process.pid, SIGKILL) == 0)
            #expect(process.hasEnded(by: .now() + .seconds(10)))
            let error = #expect(throws: OperationFailure.self) { try process.settings.transport().read() }
            #expect(error?.errno == ECONNREFUSED)
            #expect(error?.detail?.contains("wireguard-go of wg0 is not running") == true)
            #expect(error?.mend != nil)
            // The dead program's socket file is no obstacle to the next.
            try process.end()
            _ = try sandbox.start([process.settings])
            #expect(try process.settings.transport().read().interface == "wg0")
        }
    }

    /// Whether every thread has taken note of a SIGSTOP, which each does in its own time.
    private func isStopped(_ pid: Int32) throws(OperationFailure) -> Bool {
        for thread in try Files.list("/proc/\(pid)/task") {
            let status = try Files.readText("/proc/\(pid)/task/\(thread)/status")
            guard status.contains("State:\tT") else { return false }
        }
        return true
    }

    @Test func aStoppedProgramMeetsTheDeadline() throws {
        try Sandbox.with { sandbox in
            let process = try sandbox.startedHost("a")
            #expect(kill(process.pid, SIGSTOP) == 0)
            #expect(
                try waitUntil(timeout: .seconds(10)) { () throws(OperationFailure) in
                    try isStopped(process.pid)
                })
            let error = #expect(throws: OperationFailure.self) {
                try process.settings.transport(timeout: .milliseconds(100)).read()
            }
            #expect(error?.errno == ETIMEDOUT)
            #expect(kill(process.pid, SIGCONT) == 0)
            #expect(try process.settings.transport().read().interface == "wg0")
        }
    }
}
