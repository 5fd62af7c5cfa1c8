package import ArgumentParser
import LinuxLab
import NetAddress
import WireGuardKeys

/// `natlab status`: what the lab is and how its tunnels stand.
package struct StatusCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Shows the lab's nodes, addresses, WireGuard interfaces, peers and handshakes.")

    @OptionGroup var lab: LabOptions

    @Flag(help: "Print the result as JSON (see docs/json.md).")
    var json = false

    package init() {}

    package func run() throws {
        let report = StatusReport(try LabView(lab.state()))
        guard !json else { return try Terminal.result(Terminal.json(report)) }
        var parts = ["lab '\(report.lab)', up for \(VerifyCommand.seconds(report.age))", nodes(report)]
        if let rendezvous = report.rendezvous { parts.append(Self.rendezvous(rendezvous)) }
        if !report.wireguard.isEmpty { parts.append(Self.tunnels(report)) }
        let problems = Self.problems(report)
        if !problems.isEmpty { parts.append(problems.joined(separator: "\n")) }
        try Terminal.result(parts.joined(separator: "\n\n"))
    }

    private func nodes(_ report: StatusReport) -> String {
        let hasLinks = report.nodes.contains { $0.link != nil }
        var table = TextTable(
            ["NODE", "KIND", "ON", "NAT", "ADDRESSES"] + (hasLinks ? ["LINK"] : []) + ["NAMESPACE"])
        for node in report.nodes {
            let addresses = node.addresses.sorted { $0.key > $1.key }.map { "\($0.key) \($0.value)" }
            let link = hasLinks ? [node.link.map { "\($0)" } ?? "-"] : []
            table.add(
                [
                    node.name, node.kind, node.uplink ?? "-", node.nat ?? "-",
                    addresses.joined(separator: ", "),
                ] + link
                    + [node.namespace])
        }
        return table.text
    }

    /// With the public key, which `rendezvous join` in a host asks for.
    static func rendezvous(_ rendezvous: StatusReport.Rendezvous) -> String {
        let name = "rendezvous \(rendezvous.host) \(rendezvous.endpoint)"
        if let problem = rendezvous.problem { return Terminal.paint("\(name): \(problem)", .red) }
        let key = rendezvous.publicKey.map { ", public key \($0.base64)" } ?? ""
        return "\(name)\(key): knows \(count(rendezvous.registered ?? 0, "client"))"
    }

    /// Long sentences, which would widen a column.
    static func problems(_ report: StatusReport) -> [String] {
        report.wireguard.compactMap { tunnel in
            tunnel.problem.map { Terminal.paint("\(tunnel.host) \(tunnel.interface): \($0)", .red) }
        }
    }

    static func tunnels(_ report: StatusReport) -> String {
        var table = TextTable(["HOST", "WIREGUARD", "PEER", "ENDPOINT", "HANDSHAKE", "FIRST", "CLIENT"])
        for tunnel in report.wireguard {
            let name = "\(tunnel.interface) \(tunnel.address.address) (\(tunnel.backend))"
            guard tunnel.problem == nil else {
                table.add([
                    tunnel.host, name, "-", "-", "-", "-", Terminal.paint("not readable, see below", .red),
                ])
                continue
            }
            for peer in tunnel.peers {
                table.add([
                    tunnel.host, name, peer.host ?? peer.publicKey.base64,
                    peer.endpoint.map { "\($0)" + (peer.endpointOwner.map { " (\($0))" } ?? "") } ?? "-",
                    peer.handshakeAge.map { "\(VerifyCommand.seconds($0)) ago" } ?? "-",
                    peer.firstHandshake.map { VerifyCommand.milliseconds($0) } ?? "-", peer.client ?? "-",
                ])
            }
        }
        return table.text
    }
}
