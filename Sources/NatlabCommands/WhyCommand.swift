package import ArgumentParser
import LabPlanner
import PeeringDiagnosis
import SystemCalls
import TopologyModel

/// `natlab why A B`: explains why two hosts do or do not reach each other.
package struct WhyCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "why",
        abstract: "Explains why two hosts do or do not reach each other, with the evidence.",
        discussion: """
            Sends echoes through the tunnel from both sides, follows WireGuard's packets through every router on the \
            way, and reads what WireGuard, the NATs and the rendezvous know. Nothing is changed or reset for it; \
            docs/why.md has all causes. Exit status: 0 connected, 1 not.
            """)

    @OptionGroup var lab: LabOptions

    @Argument(help: "A host with WireGuard.")
    var from: String

    @Argument(help: "Another one.")
    var to: String

    @Option(help: ArgumentHelp("The WireGuard network, where the two share several.", valueName: "name"))
    var interface: String?

    @Option(
        help:
            "Seconds to watch hosts that are not connected; from 6 on, up to 6 more for a WireGuard handshake."
    )
    var timeout = LabDiagnosis.patience

    @Flag(help: "Print the result as JSON (see docs/json.md).")
    var json = false

    @Flag(help: "Print the exchange as a Mermaid sequence diagram.")
    var mermaid = false

    package init() {}

    package func validate() throws {
        guard timeout > 0, timeout <= 3600 else {
            throw ValidationError("--timeout takes seconds, above 0 and up to 3600.")
        }
        guard !json || !mermaid else {
            throw ValidationError("--json and --mermaid are two forms: choose one.")
        }
    }

    package func run() throws {
        let view = try LabView(lab.state())
        let pair = try pair(in: view.plan)
        let notice = Notice("watching \(pair.from) and \(pair.to)")
        let reports = try LabDiagnosis(view, pairs: [pair]).run(patience: timeout, probesAlone: true)
        notice.clear()
        guard let report = reports.first else {
            throw CommandFailure(.lab, "'\(from)' and '\(to)' cannot be looked at")
        }
        if json {
            try Terminal.result(Terminal.json(report))
        } else {
            try Terminal.result(mermaid ? WhyDiagram(report).text : WhyText(report).text)
        }
        guard report.isConnected else { throw CommandFailure(.verdict, "") }
    }

    /// The two as a pair of the plan, or, where they are no peers there, as one that should be.
    private func pair(in plan: LabPlan) throws(CommandFailure) -> PlannedPair {
        for name in [from, to] {
            guard let node = plan.node(name) else {
                let hosts = plan.nodes.filter { $0.kind == .host }.map(\.name)
                var spelling = Spelling()
                let nearest = spelling.nearest(to: name, among: hosts).map { "; did you mean '\($0)'?" } ?? ""
                throw CommandFailure(
                    .usage,
                    "lab '\(plan.lab)' has no host '\(name)'\(nearest) (it has: \(hosts.joined(separator: ", ")))"
                )
            }
            guard plan.tunnels.contains(where: { $0.host == name }) else {
                throw CommandFailure(
                    .usage,
                    "'\(name)' is a \(node.kind.rawValue) without a WireGuard interface: name two hosts that have one"
                )
            }
        }
        guard from != to else { throw CommandFailure(.usage, "'\(from)' twice: name two hosts") }
        func interfaces(_ host: String) -> [String] {
            plan.tunnels.filter { $0.host == host }.map(\.interface)
        }
        let shared = interfaces(from).filter(interfaces(to).contains)
        guard !shared.isEmpty else {
            throw CommandFailure(
                .usage,
                "'\(from)' (\(interfaces(from).joined(separator: ", "))) and '\(to)'"
                    + " (\(interfaces(to).joined(separator: ", "))) are in no common WireGuard network")
        }
        if let interface, !shared.contains(interface) {
            throw CommandFailure(
                .usage,
                "'\(from)' and '\(to)' have no common '\(interface)'; they share: \(shared.joined(separator: ", "))"
            )
        }
        let chosen =
            interface ?? shared.first { name in plan.pairs.contains { $0.joins(from, to, name) } }
            ?? shared[0]
        return PlannedPair(from: from, to: to, interface: chosen, expected: .direct)
    }
}

extension PlannedPair {
    func joins(_ one: String, _ other: String, _ name: String) -> Bool {
        interface == name && (from == one && to == other || from == other && to == one)
    }
}
