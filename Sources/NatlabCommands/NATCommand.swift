package import ArgumentParser
import Glibc
import LabPlanner
import LinuxLab
import NATMeasurement
import NetAddress
import PeeringCheck
import SystemCalls
import TopologyModel

/// `natlab nat [ROUTER…]`: measures what each router does, and holds it against what it is declared to do.
package struct NATCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "nat",
        abstract: "Measures each router's NAT and compares it with what the topology declares.",
        discussion: """
            By the method of RFC 5780, from addresses of its own on both sides of the router, at its own uplink; paths \
            through several NATs are measured once more as one, and compared with theory. What the topology does not \
            declare is reported, not judged. Nothing of it stays. Exit status: 0 all as declared, 1 not.
            """)

    @Argument(help: ArgumentHelp("Routers; by default all.", valueName: "router"))
    var routers: [String] = []

    @OptionGroup var lab: LabOptions

    @Flag(help: "Show everything that was measured of each router, not only what differs.")
    var card = false

    @Option(
        help: ArgumentHelp(
            "Also measure how long mappings live, up to so many seconds; declared lifetimes up to 60 s are always measured.",
            valueName: "seconds"))
    var lifetime: Int?

    @Flag(help: "Print the result as JSON (see docs/json.md).")
    var json = false

    @Option(help: ArgumentHelp("Also write the result as JUnit XML.", valueName: "file"))
    var junit: String?

    package init() {}

    package func validate() throws {
        if let lifetime, !(1...3600).contains(lifetime) {
            throw ValidationError("--lifetime takes 1 to 3600 seconds.")
        }
    }

    package func run() throws {
        // Before anything else: threads made later inherit the blocked signals.
        let interrupt = InterruptFlag()
        let view = try LabView(lab.state())
        let known = view.plan.nodes.filter { $0.kind == .router }.map(\.name)
        for name in routers where !known.contains(name) {
            throw CommandFailure(
                .usage,
                "lab '\(view.plan.lab)' has no router '\(name)'; its routers are \(known.joined(separator: ", "))"
            )
        }
        let report = try measure(view, interrupt)
        let text = NATText(report, showsCards: card || report.routers.count == 1).text
        try Terminal.result(json ? Terminal.json(report) : text)
        // After the verdict, which is worth more than the file.
        if let junit {
            try orFailed(.machine) { () throws(OperationFailure) in try JUnitDocument(report).write(to: junit)
            }
        }
        guard report.ok else { throw CommandFailure(.verdict, "") }
    }

    private func measure(_ view: LabView, _ interrupt: InterruptFlag) throws(CommandFailure) -> NATReport {
        let turn = try turn(view, interrupt)
        defer { withExtendedLifetime(turn.rawValue) {} }
        let survey = NATSurvey(view.plan, longestLifetime: lifetime)
        let (single, composite, lacks) = survey.jobs(routers)
        var problems = lacks
        let nodes = Dictionary(view.plan.nodes.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        // Each by itself first: what passes several NATs would add mappings to those that are measured alone.
        let alone = try run(single, "router", view, interrupt, &problems)
        let together = try run(composite, "path", view, interrupt, &problems)
        return NATReport(
            lab: view.plan.lab,
            routers: alone.compactMap { job, found in
                nodes[job.request.router].flatMap { NATReport.Router($0, found) }
            },
            paths: together.compactMap { job, found in
                job.theory.map { NATReport.Path(job.request.router, $0, found) }
            }, problems: problems)
    }

    /// One measurement of a lab at a time: two would have the same addresses.
    private func turn(_ view: LabView, _ interrupt: InterruptFlag) throws(CommandFailure) -> Descriptor {
        let path = "\(view.state.folder)/nat.lock"
        var isTold = false
        while true {
            let lock = try orFailed(.lab) { () throws(OperationFailure) in try Files.lock(path, wait: false) }
            if let lock { return lock }
            guard !interrupt.isRaised else { throw CommandFailure(.lab, "interrupted") }
            if !isTold { Terminal.note("natlab: waiting for another `natlab nat` on this lab") }
            isTold = true
            poll(nil, 0, 50)
        }
    }

    private func run(
        _ jobs: [NATSurvey.Job], _ noun: String, _ view: LabView, _ interrupt: InterruptFlag,
        _ problems: inout [String]
    ) throws(CommandFailure) -> [(NATSurvey.Job, RouterMeasurement)] {
        guard !jobs.isEmpty else { return [] }
        let notice = Notice("measuring \(count(jobs.count, noun)) of \(view.plan.lab)")
        defer { notice.clear() }
        var found: [(NATSurvey.Job, RouterMeasurement)] = []
        let results = NATMeter.measure(jobs.map(\.request), isCancelled: { interrupt.isRaised })
        guard !interrupt.isRaised else {
            throw CommandFailure(
                .lab, "interrupted; nothing of the measurement is left but mappings that run out")
        }
        for (job, result) in zip(jobs, results) {
            switch result {
            case .success(let measurement):
                found.append((job, measurement))
                do throws(OperationFailure) { try clean(measurement, view) } catch {
                    problems.append(
                        "what measuring \(job.request.router) left there could not be removed: \(error)")
                }
            case .failure(let failure):
                // What it had sent by then; nothing more can be done where that fails too.
                _ = try? clean(job.request, view)
                problems.append("\(job.request.router) could not be measured: \(failure)")
            }
        }
        return found
    }

    /// The same after a measurement that failed: by the addresses that it may have had.
    private func clean(_ request: MeasurementRequest, _ view: LabView) throws(OperationFailure) {
        guard let node = view.plan.node(request.router), let nat = node.translation, nat.engine == .nftables
        else { return }
        let addresses = Set(request.insideCandidates + request.outsideCandidates)
        _ = try ProbeTraces(addresses: addresses, external: [], pool: nat.externals)
            .remove(from: NetworkNamespace(node.namespace))
    }

    /// Takes the probes' mappings out of the routers that keep them in maps.
    private func clean(
        _ found: RouterMeasurement, _ view: LabView
    ) throws(OperationFailure) {
        let external = Set(found.externalEndpoints)
        for node in view.plan.nodes {
            guard let own = found.traces[node.namespace], let nat = node.translation, nat.engine == .nftables
            else { continue }
            let traces = ProbeTraces(
                addresses: Set(found.addresses), external: external.union(own), pool: nat.externals)
            _ = try traces.remove(from: NetworkNamespace(node.namespace))
        }
    }
}
