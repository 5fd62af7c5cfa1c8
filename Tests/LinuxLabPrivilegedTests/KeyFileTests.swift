import Glibc
import LabPlanner
import LinuxLab
import NetAddress
import SystemCalls
import TestSupport
import Testing
import WireGuardControl

/// The key files that a topology names.
extension Privileged {
    @Suite struct KeyFileTests {
        /// Two sites whose routers have a `wg0` each; nobody knows an endpoint.
        private func site(_ lab: String) throws -> LabPlan {
            var site = SitePlan(lab, sites: 2)
            for number in 1...2 {
                let other = 3 - number
                let peer = PlannedPeer(
                    host: "r\(other)",
                    allowedIPs: [IPPrefix(host: IPAddress(v4: 0x0A42_0000 + UInt32(other)))],
                    endpoint: nil, keepalive: 25, presharedKeyFile: nil)
                site.addTunnel(
                    PlannedTunnel(
                        host: "r\(number)", namespace: "\(lab).r\(number)", interface: "wg0",
                        backend: .userspace, address: try #require(IPPrefix("10.66.0.\(number)/24")),
                        listenPort: 51820, mtu: 1380, firewallMark: 0, privateKeyFile: nil, peers: [peer]))
            }
            return site.plan
        }

        private func refusal(_ plan: LabPlan, _ folder: String, _ root: LabRoot) throws -> OperationFailure {
            let failure = #expect(throws: LabFailure.self) {
                _ = try LabBuild.up(plan, filesFolder: folder, in: root, drivers: .plain())
            }
            guard case .keyFile(let cause) = failure else {
                throw OperationFailure("refuse key file", folder, detail: "\(String(describing: failure))")
            }
            try expectNothingLeft(of: plan.lab, in: root)
            return cause
        }

        @Test(.timeLimit(.minutes(1))) func aFIFOIsRefusedAtOnce() throws {
            try withCleanup { cleanup in
                let (root, lab) = cleanup.labRoot()
                let folder = try cleanup.folder()
                try #require(mkfifo("\(folder)/fifo", 0o600) == 0)
                var plan = try site(lab)
                plan.tunnels[0].privateKeyFile = "fifo"
                let cause = try refusal(plan, folder, root)
                #expect(cause.object == "\(folder)/fifo")
                #expect(cause.detail == "it is not a regular file")
            }
        }

        @Test func aBadPresharedKeyIsMendedByGenpsk() throws {
            try withCleanup { cleanup in
                let (root, lab) = cleanup.labRoot()
                let folder = try cleanup.folder()
                try Files.writeAtomically("\(folder)/psk", Array("short\n".utf8), mode: 0o600)
                var plan = try site(lab)
                plan.tunnels[0].peers[0].presharedKeyFile = "psk"
                #expect(try refusal(plan, folder, root).mend?.contains("wg genpsk") == true)
            }
        }

        @Test func oneKeyForTwoHostsIsRefused() throws {
            try withCleanup { cleanup in
                let (root, lab) = cleanup.labRoot()
                let folder = try cleanup.folder()
                try Files.writeAtomically("\(folder)/key", Array(try tool("wg", "genkey").utf8), mode: 0o600)
                var plan = try site(lab)
                plan.tunnels[0].privateKeyFile = "key"
                plan.tunnels[1].privateKeyFile = "\(folder)/key"
                let cause = try refusal(plan, folder, root)
                #expect(cause.detail?.contains("wg0 of r2 and wg0 of r1") == true)
            }
        }

        @Test func warnsOfAReadableFileAndKeepsTheKeepalive() throws {
            try withCleanup { cleanup in
                let (root, lab) = cleanup.labRoot()
                let folder = try cleanup.folder()
                try Files.writeAtomically("\(folder)/key", Array(try tool("wg", "genkey").utf8), mode: 0o600)
                try #require(chmod("\(folder)/key", 0o644) == 0)
                var plan = try site(lab)
                plan.tunnels[0].privateKeyFile = "key"
                var warnings: [String] = []
                let drivers = LabDrivers(startAgent: { _, _ in }, warn: { warnings.append($0) })
                _ = try LabBuild.up(plan, filesFolder: folder, in: root, drivers: drivers)
                #expect(warnings.count == 1 && warnings[0].contains("chmod 600 \(folder)/key"))
                // No rendezvous client is there to set it later.
                let device = try SystemWireGuard().transport(to: plan.tunnels[0], in: root.state(of: lab))
                    .read()
                #expect(device.peers.map(\.persistentKeepalive) == [25])
            }
        }
    }
}
