import LabPlanner
import PeeringCheck
import TopologyModel

/// The lab in which all pairs of behaviours meet at once.
///
///                 hub (rendezvous)
///                  │
///     ─────────────┴───────────── internet
///      │       │           │       │
///     na-X    na-Y …      nb-X    nb-Y …      a NAT of each behaviour on each side
///      │       │           │       │
///     a-X     a-Y         b-X     b-Y         a-X and b-Y are the pair X, Y; a-X and b-X are X with itself
struct MatrixLab {
    /// Who starts first; the others wait for the stagger.
    enum Order: String {
        case a, b, both
    }

    let behaviours: [String]
    let name: String

    /// Each unordered pair once.
    var pairs: [(a: String, b: String)] {
        behaviours.enumerated().flatMap { index, a in behaviours[index...].map { (a, $0) } }
    }

    /// What `up` builds.
    ///
    /// - Parameter stagger: milliseconds between the two sides' clients.
    func plan(order: Order, stagger: UInt32) throws(CommandFailure) -> LabPlan {
        let text = topology
        let result = TopologyFile.parse(bytes: Array(text.utf8), fileName: "\(name).toml")
        guard let topology = result.topology else {
            throw CommandFailure(
                .defect, DiagnosticRenderer(source: Array(text.utf8)).text(result.diagnostics))
        }
        var plan = compile(topology)
        guard var rendezvous = plan.rendezvous, order != .both else { return plan }
        let waits = order == .a ? "b-" : "a-"
        for index in rendezvous.clients.indices where rendezvous.clients[index].host.hasPrefix(waits) {
            rendezvous.clients[index].startDelay = stagger
        }
        plan.rendezvous = rendezvous
        return plan
    }

    private var topology: String {
        var lines = ["name = \"\(name)\"", "[host.hub]", "on = \"internet\""]
        for side in ["a", "b"] {
            for behaviour in behaviours {
                lines += [
                    "[router.n\(side)-\(behaviour)]", "uplink = \"internet\"", "nat = \"\(behaviour)\"",
                    // A LAN that is only routed has to have a prefix of its own.
                    "lan = \"\(lan(side, behaviour))\"",
                    "[host.\(side)-\(behaviour)]", "on = \"n\(side)-\(behaviour)\"",
                ]
            }
        }
        let members = ["a", "b"].flatMap { side in behaviours.map { "\"\(side)-\($0)\"" } }
        let peers = pairs.map { "[\"a-\($0.a)\", \"b-\($0.b)\"]" }
        lines += [
            "[wireguard.wg0]", "prefix = \"10.66.0.0/16\"",
            "members = [\(members.joined(separator: ", "))]", "peers = [\(peers.joined(separator: ", "))]",
            "[rendezvous]", "host = \"hub\"",
        ]
        return lines.joined(separator: "\n") + "\n"
    }

    private func lan(_ side: String, _ behaviour: String) -> String {
        guard NATPreset.named(behaviour)?.nat.translates == false else { return "192.168.1.0/24" }
        return side == "a" ? "192.168.2.0/24" : "192.168.3.0/24"
    }
}
