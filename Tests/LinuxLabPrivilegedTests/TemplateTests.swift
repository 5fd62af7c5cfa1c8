import LabPlanner
import LabTemplates
import LinuxLab
import NetAddress
import SystemCalls
import TestSupport
import Testing
import TopologyModel

extension Privileged {
    /// The templates as they are compiled, without their agent; each is drawn in its file.
    @Suite struct TemplateTests {
        /// All but mobile, which needs a kernel with netem.
        @Test(arguments: LabTemplate.all.map(\.name).filter { $0 != "mobile" })
        func everyHostReachesTheHubBothWays(_ name: String) throws {
            try withCleanup { cleanup in
                let (root, lab) = cleanup.labRoot()
                let template = try #require(LabTemplate.all.first { $0.name == name })
                let text = template.text.split(separator: "name = \"\(name)\"", maxSplits: 1).joined(
                    separator: "name = \"\(lab)\"")
                let parsed = TopologyFile.parse(bytes: Array(text.utf8), fileName: "lab.toml")
                let plan = compile(try #require(parsed.topology))
                #expect(plan.lab == lab)
                _ = try LabBuild.up(plan, filesFolder: "/", in: root, drivers: .plain())
                let hub = try #require(plan.nodes.first { $0.kind == .host && $0.uplink == "internet" })
                let address = try #require(hub.interfaces.first?.address.address)
                let tunnel = try #require(plan.tunnel(host: hub.name, interface: "wg0"))
                for host in plan.nodes where host.kind == .host && host.name != hub.name {
                    #expect(try pings(from: host.namespace, to: "\(address)"))
                    // The hub's endpoint is known from the start, so this needs no rendezvous.
                    #expect(try pings(from: host.namespace, to: "\(tunnel.address.address)"))
                }
                let report = try LabRemoval.down(lab, in: root)
                #expect(report.isClean, "\(report)")
                try expectNothingLeft(of: lab, in: root)
            }
        }
    }
}
