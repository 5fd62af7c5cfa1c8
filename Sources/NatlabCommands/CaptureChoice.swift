import Glibc
import LabPlanner
import NetAddress
import PacketCapture
import PcapngFormat
import SystemCalls
import TopologyModel

/// What the words of a command line mean in a lab: which interfaces, and what the file says of them.
struct CaptureChoice {
    let points: [CapturePoint]
    let section: Pcapng.Section
    let names: [Pcapng.Name]

    /// Throws with all wrong words at once.
    init(_ places: [String], in plan: LabPlan) throws(CommandFailure) {
        var points: [CapturePoint] = []
        var problems: [String] = []
        // The same one twice would be each packet twice.
        var seen: Set<String> = []
        for place in places {
            let parts = place.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(
                String.init)
            guard let node = plan.node(parts[0]) else {
                problems.append(
                    "lab '\(plan.lab)' has no node '\(parts[0])'"
                        + Self.suggestion(parts[0], plan.nodes.map(\.name)))
                continue
            }
            let namespace = NetworkNamespace(node.namespace)
            let all = try orFailed(.lab) { () throws(OperationFailure) in
                try CaptureInterface.all(in: namespace)
            }
            let chosen: [CaptureInterface]
            if parts.count > 1 {
                chosen = all.filter { $0.name == parts[1] }
                if chosen.isEmpty {
                    problems.append(
                        "node '\(node.name)' has no interface '\(parts[1])'"
                            + Self.suggestion(parts[1], all.map(\.name)))
                }
            } else {
                chosen = Self.ordered(all.filter(\.isMeantByItsNode), node)
                if chosen.isEmpty { problems.append("node '\(node.name)' has no interface that is up") }
            }
            for interface in chosen where seen.insert("\(node.name):\(interface.name)").inserted {
                points.append(Self.point(interface, of: node, in: plan, namespace))
            }
        }
        guard problems.isEmpty else { throw CommandFailure(.usage, problems.joined(separator: "\n")) }
        self.points = points
        names = CaptureNames(plan).names(for: points.map { ($0.node, $0.interface.name) })
        section = Self.section(plan)
    }

    /// Those of the underlay first, outermost first, then the tunnels; the kernel's order is that of their making.
    private static func ordered(_ interfaces: [CaptureInterface], _ node: PlannedNode) -> [CaptureInterface] {
        let names = node.interfaces.map(\.name)
        return interfaces.filter { names.contains($0.name) }.sorted {
            names.firstIndex(of: $0.name) ?? 0 < names.firstIndex(of: $1.name) ?? 0
        } + interfaces.filter { !names.contains($0.name) }
    }

    private static func suggestion(_ word: String, _ names: [String]) -> String {
        var spelling = Spelling()
        let nearest = spelling.nearest(to: word, among: names).map { "; did you mean '\($0)'?" } ?? ";"
        return "\(nearest) it has: \(names.joined(separator: ", "))"
    }

    private static func point(
        _ interface: CaptureInterface, of node: PlannedNode, in plan: LabPlan, _ namespace: NetworkNamespace
    ) -> CapturePoint {
        let name = interface.name
        let tunnel = plan.tunnel(host: node.name, interface: name)
        var description = "\(name) of \(node.kind.rawValue) \(node.name)"
        if tunnel != nil { description += ", inside the tunnel" }
        if name == node.outerInterface, let uplink = node.uplink { description += ", on \(uplink)" }
        if interface.kind == .bridge { description += ", all that crosses it" }
        if interface.kind == .port, let far = plan.node(name) { description += ", to \(far.name)" }
        let addresses =
            node.interfaces.filter { $0.name == name }.map(\.address) + (tunnel.map { [$0.address] } ?? [])
        return CapturePoint(
            namespace: namespace, node: node.name, interface: interface, description: description,
            addresses: addresses)
    }

    private static func section(_ plan: LabPlan) -> Pcapng.Section {
        var name = utsname()
        // Cannot fail (uname(2): EFAULT only); else the texts are empty, and left out.
        _ = uname(&name)
        return Pcapng.Section(
            comment: "lab \(plan.lab)", hardware: text(of: name.machine),
            system: "\(text(of: name.sysname)) \(text(of: name.release))",
            application: "natlab \(natlabVersion)")
    }

    /// The text in an array of C, up to its NUL.
    private static func text<T>(of array: T) -> String {
        withUnsafeBytes(of: array) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }
}
