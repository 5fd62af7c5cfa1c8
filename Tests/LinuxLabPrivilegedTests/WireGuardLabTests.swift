import Glibc
import LabPlanner
import LinuxLab
import NetAddress
import SystemCalls
import TestSupport
import Testing
import WireGuardControl

extension Privileged {
    @Suite struct WireGuardLabTests {
        /// Two sites, whose routers have a `wg0` each.
        ///
        ///     LAB.r1 (wg0 10.66.0.1, port 51820)  --  LAB.internet  --  LAB.r2 (wg0 10.66.0.2)
        private func site(_ lab: String, _ backend: PlannedTunnel.Backend = .userspace) throws -> SitePlan {
            var site = SitePlan(lab, sites: 2)
            for number in 1...2 {
                let other = 3 - number
                let peer = PlannedPeer(
                    host: "r\(other)",
                    allowedIPs: [IPPrefix(host: IPAddress(v4: 0x0A42_0000 + UInt32(other)))],
                    endpoint: Endpoint(SitePlan.wanAddress(other), port: 51820), keepalive: 25,
                    presharedKeyFile: nil)
                site.addTunnel(
                    PlannedTunnel(
                        host: "r\(number)", namespace: "\(lab).r\(number)", interface: "wg0",
                        backend: backend,
                        address: try #require(IPPrefix("10.66.0.\(number)/24")), listenPort: 51820, mtu: 1380,
                        firewallMark: 0, privateKeyFile: nil, peers: [peer]))
            }
            return site
        }

        @Test func tunnelCarriesPingsAndGoes() throws {
            try withCleanup { cleanup in
                let (root, lab) = cleanup.labRoot()
                let record = try LabBuild.up(
                    try site(lab).plan, filesFolder: "/", in: root, drivers: .plain())
                #expect(record.backends == ["r1.wg0": .userspace, "r2.wg0": .userspace])
                let state = root.state(of: lab)
                #expect(try tool("ip", "-n", "\(lab).r1", "link", "show", "wg0").contains("mtu 1380"))
                // The drop rule on wan0 lets in what answers our own handshake; both sides have one.
                _ = try pings(from: "\(lab).r2", to: "10.66.0.1")
                #expect(try pings(from: "\(lab).r1", to: "10.66.0.2"))
                let device = try SystemWireGuard().transport(
                    to: try #require(try state.readPlan().tunnel(host: "r1", interface: "wg0")), in: state
                ).read()
                #expect(device.peers.first?.lastHandshake != nil)
                let key = try Files.readText(state.publicKeyFile(host: "r1", interface: "wg0"))
                #expect(device.publicKey.map { "\($0)\n" } == key)
                let shown = try ProgramCall(
                    "wg", ["show", "interfaces"], network: NetworkNamespace("\(lab).r1"),
                    wireGuardFolder: state.wireGuardFolder(host: "r1")
                ).run()
                #expect(shown.output == "wg0\n")
                var status = stat()
                let secret = state.privateKeyFile(host: "r1", interface: "wg0")
                #expect(stat(secret, &status) == 0 && status.st_mode & 0o777 == 0o600 && status.st_size == 44)
                #expect(try !Files.readText(state.planFile).contains(try Files.readText(secret)))

                let report = try LabRemoval.down(lab, in: root)
                #expect(report.isClean, "\(report)")
                #expect(report.processes.filter { $0.hasPrefix("wireguard-go") }.count == 2)
                try expectNothingLeft(of: lab, in: root)
            }
        }

        @Test func failedTunnelIsUndone() throws {
            try withCleanup { cleanup in
                let (root, lab) = cleanup.labRoot()
                var site = try site(lab)
                // A second wg0 on the same host: wireguard-go cannot make it.
                let index = site.steps.count
                site.addTunnel(site.tunnels[0])
                let failure = #expect(throws: LabFailure.self) {
                    _ = try LabBuild.up(site.plan, filesFolder: "/", in: root, drivers: .plain())
                }
                guard case .step(let step) = failure else {
                    Issue.record("\(String(describing: failure))")
                    return
                }
                #expect(step.index == index)
                #expect(step.leftovers.isEmpty)
                try expectNothingLeft(of: lab, in: root)
            }
        }

        @Test func kernelBackendIsRefusedWhereTheKernelHasNone() throws {
            try withCleanup { cleanup in
                guard try !KernelWireGuard.isAvailable() else {
                    let record = try up(.kernel, cleanup)
                    #expect(record.backends["r1.wg0"] == .kernel)
                    return
                }
                let failure = #expect(throws: LabFailure.self) { _ = try up(.kernel, cleanup) }
                guard case .machineLacks(let cause) = failure else {
                    Issue.record("\(String(describing: failure))")
                    return
                }
                #expect(cause.mend?.contains("modprobe wireguard") == true)
            }
        }

        private func up(_ backend: PlannedTunnel.Backend, _ cleanup: Cleanup) throws -> LabRecord {
            let (root, lab) = cleanup.labRoot()
            return try LabBuild.up(try site(lab, backend).plan, filesFolder: "/", in: root, drivers: .plain())
        }

        @Test func keysFromFiles() throws {
            try withCleanup { cleanup in
                let (root, lab) = cleanup.labRoot()
                let folder = try cleanup.folder()
                let secret = try tool("wg", "genkey")
                try Files.writeAtomically("\(folder)/r1.key", Array(secret.utf8), mode: 0o600)
                try Files.writeAtomically("\(folder)/bad.key", Array("too short\n".utf8), mode: 0o600)
                let drivers = LabDrivers.plain()
                var plan = try site(lab).plan
                plan.tunnels[0].privateKeyFile = "bad.key"
                let failure = #expect(throws: LabFailure.self) {
                    _ = try LabBuild.up(plan, filesFolder: folder, in: root, drivers: drivers)
                }
                guard case .keyFile(let cause) = failure else {
                    Issue.record("\(String(describing: failure))")
                    return
                }
                #expect(cause.object == "\(folder)/bad.key" && cause.errno == 0)
                try expectNothingLeft(of: lab, in: root)
                plan.tunnels[0].privateKeyFile = "r1.key"
                _ = try LabBuild.up(plan, filesFolder: folder, in: root, drivers: drivers)
                let kept = try Files.readText(
                    root.state(of: lab).privateKeyFile(host: "r1", interface: "wg0"))
                #expect(kept + "\n" == secret)
            }
        }

        @Test func downEndsTheAgent() throws {
            try withCleanup { cleanup in
                let (root, lab) = cleanup.labRoot()
                var site = SitePlan(lab, sites: 1)
                site.steps.append(PlanStep(.startAgent, inverse: .stopAgent, line: nil))
                var pid: Int32 = 0
                let drivers = LabDrivers(startAgent: { state, _ throws(OperationFailure) in
                    let mark = state.agentMark
                    pid = try ProgramCall(
                        "sleep", ["1000"], environment: [mark.name: mark.value], newSession: true
                    ).spawn().pid
                })
                _ = try LabBuild.up(site.plan, filesFolder: "/", in: root, drivers: drivers)
                let report = try LabRemoval.down(lab, in: root)
                #expect(report.isClean)
                #expect(report.processes == ["sleep (\(pid))"])
                // Our own child, so it is ours to reap.
                var status: Int32 = 0
                #expect(waitpid(pid, &status, 0) == pid)
                try expectNothingLeft(of: lab, in: root)
            }
        }
    }
}
