import Glibc
import LabPlanner
import LinuxLab
import NetAddress
import SystemCalls
import TestSupport
import Testing

/// Makes a lab of sites as drawn in SitePlan.swift.
extension Privileged {
    @Suite struct LabTests {
        @Test func twoSitesWorkAndGo() throws {
            try withCleanup { cleanup in
                let (root, lab) = cleanup.labRoot()
                let plan = SitePlan(lab, sites: 2).plan
                let record = try LabBuild.up(plan, filesFolder: "/", in: root, drivers: .plain())
                #expect(record.lab == lab)
                #expect(try root.state(of: lab).readRecord() == record)
                #expect(try root.state(of: lab).readPlan() == plan)
                for node in plan.nodes {
                    for interface in node.interfaces {
                        // The kernel reports the operational state up to a second after the link is up.
                        let isUp = try waitUntil(timeout: .seconds(10)) { () throws(OperationFailure) in
                            let shown = try tool(
                                "ip", "-n", node.namespace, "-br", "addr", "show", interface.name)
                            return shown.contains(" UP ") && shown.contains(interface.address.description)
                        }
                        #expect(isUp, "\(node.namespace) \(interface.name)")
                    }
                }
                #expect(
                    try tool(in: "\(lab).r1", "iptables", "-t", "nat", "-S").contains(
                        "-A POSTROUTING -o wan0 -j MASQUERADE"))
                #expect(
                    try tool(in: "\(lab).r1", "iptables", "-S").split(separator: "\n").filter {
                        $0.hasSuffix("-j DROP")
                    }.count == 2)
                #expect(try pings(from: "\(lab).h1", to: "203.0.0.1"))
                #expect(try pings(from: "\(lab).h2", to: SitePlan.wanAddress(2).description))
                // The other router drops what nobody inside asked for.
                #expect(try !pings(from: "\(lab).h1", to: SitePlan.wanAddress(2).description))
                var status = stat()
                #expect(stat(root.state(of: lab).folder, &status) == 0 && status.st_mode & 0o777 == 0o700)

                let report = try LabRemoval.down(lab, in: root)
                #expect(report.isClean)
                #expect(Set(report.namespaces) == Set(plan.nodes.map(\.namespace)))
                #expect(report.removedFolder && report.processes.isEmpty)
                try expectNothingLeft(of: lab, in: root)
            }
        }

        @Test func secondUpAndSecondDownSaySo() throws {
            try withCleanup { cleanup in
                let (root, lab) = cleanup.labRoot()
                let plan = SitePlan(lab, sites: 1).plan
                #expect(throws: LabFailure.missing(lab: lab)) { _ = try LabRemoval.down(lab, in: root) }
                #expect(!Files.exists(root.path))
                _ = try LabBuild.up(plan, filesFolder: "/", in: root, drivers: .plain())
                #expect(throws: LabFailure.running(lab: lab)) {
                    _ = try LabBuild.up(plan, filesFolder: "/", in: root, drivers: .plain())
                }
                #expect(try pings(from: "\(lab).h1", to: "203.0.0.1"))
                #expect(try root.labs() == [LabListing(lab: lab, condition: .running)])
                _ = try LabRemoval.down(lab, in: root)
                #expect(throws: LabFailure.missing(lab: lab)) { _ = try LabRemoval.down(lab, in: root) }
                #expect(try root.labs().isEmpty)
                try expectNothingLeft(of: lab, in: root)
            }
        }

        @Test func busyAndHalfBuiltAreToldApart() throws {
            try withCleanup { cleanup in
                let (root, lab) = cleanup.labRoot()
                let plan = SitePlan(lab, sites: 1).plan
                do {
                    let build = try LabBuild(starting: plan, filesFolder: "/", in: root, drivers: .plain())
                    #expect(try build.applyNext())
                    #expect(throws: LabFailure.busy(lab: lab)) { _ = try LabRemoval.down(lab, in: root) }
                    #expect(throws: LabFailure.busy(lab: lab)) { _ = try root.runningLab(lab) }
                    #expect(throws: LabFailure.busy(lab: lab)) {
                        _ = try LabBuild.up(plan, filesFolder: "/", in: root, drivers: .plain())
                    }
                    #expect(try root.labs() == [LabListing(lab: lab, condition: .busy)])
                    _ = build.position
                }
                #expect(try root.labs() == [LabListing(lab: lab, condition: .halfBuilt)])
                #expect(throws: LabFailure.halfBuilt(lab: lab)) { _ = try root.runningLab(lab) }
                #expect(throws: LabFailure.halfBuilt(lab: lab)) {
                    _ = try LabBuild.up(plan, filesFolder: "/", in: root, drivers: .plain())
                }
                #expect(try LabRemoval.down(lab, in: root).isClean)
                try expectNothingLeft(of: lab, in: root)
            }
        }

        @Test func twoLabsSideBySide() throws {
            try withCleanup { cleanup in
                let (root, lab) = cleanup.labRoot()
                let other = uniqueName("t")
                cleanup.add("lab \(other)") { _ = try? LabRemoval.down(other, in: root) }
                for name in [lab, other] {
                    _ = try LabBuild.up(
                        SitePlan(name, sites: 1).plan, filesFolder: "/", in: root, drivers: .plain())
                }
                #expect(try root.labs().count == 2)
                #expect(try LabRemoval.down(lab, in: root).isClean)
                try MachineSnapshot.expectNothing(named: lab)
                #expect(try pings(from: "\(other).h1", to: "203.0.0.1"))
                #expect(try LabRemoval.down(other, in: root).isClean)
                try expectNothingLeft(of: other, in: root)
            }
        }

        @Test func foreignNamespaceInTheWayIsKept() throws {
            try withCleanup { cleanup in
                let (root, lab) = cleanup.labRoot()
                let theirs = try cleanup.namespace("\(lab).r1")
                let before = theirs.identity()
                let failure = #expect(throws: LabFailure.self) {
                    _ = try LabBuild.up(
                        SitePlan(lab, sites: 1).plan, filesFolder: "/", in: root, drivers: .plain())
                }
                #expect(failure == .foreignNamespace(theirs.name))
                #expect(theirs.identity() == before)
                #expect(!Files.exists(root.path))
            }
        }

        @Test func hundredSites() throws {
            try withCleanup { cleanup in
                let (root, lab) = cleanup.labRoot()
                let plan = SitePlan(lab, sites: 100).plan
                let before = try MachineSnapshot.take().descriptors
                _ = try LabBuild.up(plan, filesFolder: "/", in: root, drivers: .plain())
                #expect(try MachineSnapshot.take().descriptors == before)
                #expect(try pings(from: "\(lab).h1", to: "203.0.0.1"))
                #expect(try pings(from: "\(lab).h100", to: "203.0.0.1"))
                let report = try LabRemoval.down(lab, in: root)
                #expect(report.isClean && report.namespaces.count == 201)
                #expect(try MachineSnapshot.take().descriptors == before)
                try expectNothingLeft(of: lab, in: root)
            }
        }

        @Test func downEndsTheUsersProcesses() throws {
            try withCleanup { cleanup in
                let (root, lab) = cleanup.labRoot()
                _ = try LabBuild.up(
                    SitePlan(lab, sites: 1).plan, filesFolder: "/", in: root, drivers: .plain())
                let folder = try cleanup.folder()
                func start(_ node: String, _ script: String) throws(OperationFailure) -> ChildProcess {
                    try ProgramCall(
                        "ip", ["netns", "exec", "\(lab).\(node)", "sh", "-c", script], folder: folder
                    ).spawn()
                }
                let polite = try start("h1", "touch h1; exec sleep 1000")
                let stubborn = try start("r1", "trap '' TERM; touch r1; while :; do sleep 1000; done")
                let (first, second) = (polite.pid, stubborn.pid)
                let there = try waitUntil(timeout: .seconds(5)) { () throws(OperationFailure) in
                    try Files.list(folder) == ["h1", "r1"]
                }
                #expect(there)
                let report = try LabRemoval.down(lab, in: root)
                #expect(report.isClean)
                #expect(report.processes.contains { $0.hasSuffix(" (\(first))") })
                #expect(report.processes.contains("sh (\(second))"))
                #expect(try polite.wait() == .killed(SIGTERM))
                #expect(try stubborn.wait() == .killed(SIGKILL))
                try expectNothingLeft(of: lab, in: root)
            }
        }
    }
}
