import Glibc
import LabPlanner
import LinuxLab
import NetAddress
import SystemCalls
import TestSupport
import Testing

/// `up` that fails, is interrupted or killed: each time nothing may be left.
extension Privileged {
    @Suite struct FailureTests {
        @Test(arguments: Sabotage.allCases)
        func failedStepIsNamedAndEverythingUndone(_ sabotage: Sabotage) throws {
            try withCleanup { cleanup in
                let (root, lab) = cleanup.labRoot()
                var site = SitePlan(lab, sites: 1)
                let index = site.steps.count
                sabotage.add(to: &site)
                // Goes on in the same namespace, so that a group of requests is carried out past the bad one.
                site.add(.bringUp(namespace: "\(lab).h1", interface: "eth0"), in: "\(lab).h1")
                let before = try MachineSnapshot.take().descriptors
                let failure = #expect(throws: LabFailure.self) {
                    _ = try LabBuild.up(site.plan, filesFolder: "/", in: root, drivers: .plain())
                }
                guard case .step(let step) = failure else {
                    Issue.record("\(String(describing: failure))")
                    return
                }
                #expect(step.index == index)
                #expect(step.step == site.steps[index])
                #expect(step.cause.errno == sabotage.errno)
                #expect(step.cause.detail?.contains(sabotage.text) == true || sabotage.text.isEmpty)
                #expect(step.cause.namespace == "\(lab).\(sabotage.node)")
                #expect(step.leftovers.isEmpty)
                #expect(try MachineSnapshot.take().descriptors == before)
                try expectNothingLeft(of: lab, in: root)
            }
        }

        enum Sabotage: CaseIterable {
            case secondVeth, unreachableGateway, unknownSysctl, badFirewall, missingLink

            var errno: Int32 {
                switch self {
                case .secondVeth: EEXIST
                case .unreachableGateway: ENETUNREACH
                case .unknownSysctl: ENOENT
                case .badFirewall: 0
                case .missingLink: ENODEV
                }
            }

            /// Of the kernel or the program.
            var text: String {
                switch self {
                case .unreachableGateway: "Nexthop has invalid gateway"
                case .badFirewall: "NO-SUCH-TARGET"
                case .secondVeth, .unknownSysctl, .missingLink: ""
                }
            }

            var node: String { self == .badFirewall ? "r1" : "h1" }

            func add(to site: inout SitePlan) {
                let host = "\(site.lab).h1"
                switch self {
                case .secondVeth:
                    site.add(
                        .makeVeth(
                            end: Port(namespace: host, interface: "eth0"),
                            otherEnd: Port(namespace: "\(site.lab).r1", interface: "x")), in: host)
                case .unreachableGateway:
                    let nowhere = IPPrefix(host: IPAddress(v4: 0x0A09_0909))
                    site.add(
                        .addRoute(
                            namespace: host, route: Route(to: nowhere, via: IPAddress(v4: 0x0A08_0808))),
                        in: host)
                case .unknownSysctl:
                    site.add(
                        .setSysctls(namespace: host, settings: [Sysctl("net.ipv4.no_such", "1")]), in: host)
                case .badFirewall:
                    let router = "\(site.lab).r1"
                    site.add(
                        .loadFirewall(
                            namespace: router, text: "*filter\n-A FORWARD -j NO-SUCH-TARGET\nCOMMIT\n"),
                        in: router)
                case .missingLink:
                    site.add(.bringUp(namespace: host, interface: "none"), in: host)
                }
            }
        }

        @Test func interruptionUndoesEverything() throws {
            try withCleanup { cleanup in
                let (root, lab) = cleanup.labRoot()
                var position = 0
                let drivers = LabDrivers.plain(isCancelled: { position > 10 }, progress: { position = $0 })
                #expect(throws: LabFailure.interrupted(leftovers: [])) {
                    _ = try LabBuild.up(
                        SitePlan(lab, sites: 3).plan, filesFolder: "/", in: root, drivers: drivers)
                }
                try expectNothingLeft(of: lab, in: root)
            }
        }

        @Test func downCleansUpAfterAnyStep() throws {
            try withCleanup { cleanup in
                let (root, lab) = cleanup.labRoot()
                let plan = SitePlan(lab, sites: 1).plan
                var groups = 0
                while true {
                    var isDone = false
                    do {
                        // Dropped in the middle, as a killed process leaves it: no undo, the lock free.
                        let build = try LabBuild(
                            starting: plan, filesFolder: "/", in: root, drivers: .plain())
                        for _ in 0..<groups where !isDone { isDone = try !build.applyNext() }
                        _ = build.position
                    }
                    #expect(try LabRemoval.down(lab, in: root).isClean)
                    try expectNothingLeft(of: lab, in: root)
                    if isDone { break }
                    groups += 1
                }
                #expect(groups > 8)
            }
        }

        @Test(arguments: [1, 2, 5, 9, 14, 17, 19])
        func downCleansUpAfterSIGKILL(_ step: Int) async throws {
            let lab = uniqueName("t")
            let root = "/run/\(uniqueName("natlab-test"))"
            await #expect(processExitsWith: .signal(SIGKILL)) {
                [lab = lab as String, root = root as String, step = step as Int] in
                let drivers = LabDrivers.plain(progress: { if $0 >= step { kill(getpid(), SIGKILL) } })
                _ = try LabBuild.up(
                    SitePlan(lab, sites: 1).plan, filesFolder: "/", in: LabRoot(root), drivers: drivers)
            }
            #expect(Files.exists("\(root)/\(lab)"))
            let report = try LabRemoval.down(lab, in: LabRoot(root))
            #expect(report.isClean, "\(report)")
            try expectNothingLeft(of: lab, in: LabRoot(root))
        }

        @Test(arguments: Damage.allCases)
        func downCleansUpWithDamagedFiles(_ damage: Damage) throws {
            try withCleanup { cleanup in
                let (root, lab) = cleanup.labRoot()
                let plan = SitePlan(lab, sites: 1).plan
                _ = try LabBuild.up(plan, filesFolder: "/", in: root, drivers: .plain())
                try damage.apply(to: root.state(of: lab))
                let report = try LabRemoval.down(lab, in: root)
                #expect(report.isClean, "\(report)")
                #expect(report.namespaces.count == 3)
                try expectNothingLeft(of: lab, in: root)
            }
        }

        enum Damage: CaseIterable {
            case noPlan, brokenPlan, noJournal, tornJournal, binaryJournal

            func apply(to state: LabState) throws(OperationFailure) {
                switch self {
                case .noPlan: try Files.remove(state.planFile)
                case .brokenPlan:
                    try Files.writeAtomically(state.planFile, Array("{\"lab\": ".utf8), mode: 0o600)
                case .noJournal: try Files.remove(state.journalFile)
                case .tornJournal:
                    try Files.remove(state.planFile)
                    let journal = try Files.read(state.journalFile)
                    try Files.writeAtomically(
                        state.journalFile, journal + Array("do 99 namespace /etc/passw".utf8), mode: 0o600)
                case .binaryJournal:
                    try Files.writeAtomically(
                        state.journalFile, (0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 37) }, mode: 0o600
                    )
                }
            }
        }

        @Test func namesOutsideTheLabAreNeverTouched() throws {
            try withCleanup { cleanup in
                let (root, lab) = cleanup.labRoot()
                let theirs = try cleanup.namespace(uniqueName("theirs"))
                _ = try LabBuild.up(
                    SitePlan(lab, sites: 1).plan, filesFolder: "/", in: root, drivers: .plain())
                let state = root.state(of: lab)
                let more = "do 90 namespace \(theirs.name)\ndo 91 namespace \(lab)./../\(theirs.name)\n"
                try Files.writeAtomically(
                    state.journalFile, try Files.read(state.journalFile) + Array(more.utf8), mode: 0o600)
                #expect(try LabRemoval.down(lab, in: root).isClean)
                #expect(theirs.identity() != nil)
                try expectNothingLeft(of: lab, in: root)
            }
        }
    }
}
