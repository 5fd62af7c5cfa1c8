import LabPlanner
import NetAddress
import PeeringDiagnosis
import RendezvousProtocol

/// What `why` found, for people: the verdict, the ways as drawings, what each side knows, what the NATs did.
struct WhyText {
    let text: String

    init(_ report: WhyReport) {
        var parts: [String] = []
        var head = Terminal.paint(report.verdict, report.isConnected ? .green : .red)
        for (index, finding) in report.findings.enumerated() {
            if index > 0 { head += "\nalso: \(finding.text)" }
            // One mend for several in a row.
            let next = report.findings.dropFirst(index + 1).first
            if let mend = finding.mend, mend != next?.mend { head += "\n  mend: \(mend)" }
        }
        if !report.isConnected || report.theory.path == .none {
            let word = report.theory.path == .direct ? "could" : "cannot"
            head += "\nby theory they \(word) punch: \(report.theory.reason)"
        }
        parts.append(head)
        parts.append(report.directions.map(Self.drawing).joined(separator: "\n"))
        for side in report.sides { parts.append(Self.side(side, report)) }
        if let rendezvous = report.rendezvous { parts.append(Self.rendezvous(rendezvous, report)) }
        for nat in report.nats where !nat.mappings.isEmpty || !nat.drops.isEmpty {
            parts.append(Self.nat(nat))
        }
        if !report.gaps.isEmpty {
            parts.append("not looked at:\n" + report.gaps.map { "  \($0)" }.joined(separator: "\n"))
        }
        text = parts.joined(separator: "\n\n")
    }

    /// `A ──▶ home-a ──▶ internet ──✗ home-b: no mapping for 203.0.113.3:51820`.
    static func drawing(_ journey: Journey) -> String {
        guard journey.sent > 0 else { return "\(journey.from) sends nothing to \(journey.to)" }
        var line = journey.nodes.first ?? journey.from
        for (index, node) in journey.nodes.enumerated().dropFirst() {
            line += (journey.loss != nil && index == journey.nodes.count - 1 ? " ──✗ " : " ──▶ ") + node
        }
        if let loss = journey.loss {
            // Lost where it was last seen: nothing beyond to point at.
            if journey.nodes.count == 1 { line += " ──✗" }
            line += ": \(loss.reason)"
            line += "\n  last seen at \(hop(loss.lastSeen))"
        }
        return line + "\n  " + count(journey.sent, "datagram") + " sent, \(journey.arrived) arrived"
    }

    private static func hop(_ hop: Journey.Hop) -> String {
        "\(hop.interface) of \(hop.node), \(hop.isOutgoing ? "going out" : "coming in"), \(hop.source) > \(hop.destination)"
    }

    private static func side(_ side: WhyReport.Side, _ report: WhyReport) -> String {
        let other = side.host == report.from ? report.to : report.from
        var lines = ["\(side.host) (\(report.interface) \(side.address), key \(side.publicKey.prefix(15)))"]
        if let unreadable = side.unreadable { lines.append(unreadable) }
        if let peer = side.peer {
            let endpoint =
                peer.endpoint.map { "\($0)" + (peer.endpointOwner.map { " (\($0))" } ?? "") } ?? "none"
            let handshake = peer.lastHandshake.map { "\($0) s ago" } ?? "never"
            lines.append(
                "peer \(other): endpoint \(endpoint), last handshake \(handshake), \(peer.sentBytes) bytes sent,"
                    + " \(peer.receivedBytes) received")
            lines.append(
                "allowed IPs \(peer.allowedIPs.isEmpty ? "none" : peer.allowedIPs.joined(separator: ", ")), keepalive"
                    + " \(peer.keepalive == 0 ? "off" : "\(peer.keepalive) s")"
                    + (peer.hasPresharedKey ? ", with a preshared key" : ""))
        } else if side.unreadable == nil {
            lines.append("\(other) is not its peer")
        }
        if let client = side.client {
            lines.append(
                "client: \(client.says)" + (client.observed.map { ", seen there as \($0)" } ?? ""))
            if let words = client.saysOfPeer {
                var line = "client of \(other): \(words)"
                // A written endpoint needs none.
                if let sent = client.punchesSent, let received = client.punchesReceived,
                    client.phase != .connected || sent + received > 0
                {
                    line += " (punches: \(sent) sent, \(received) received)"
                }
                lines.append(line)
            }
        }
        return lines.joined(separator: "\n  ")
    }

    private static func rendezvous(_ rendezvous: WhyReport.Rendezvous, _ report: WhyReport) -> String {
        var lines = ["rendezvous \(rendezvous.endpoint) on \(rendezvous.host)"]
        for seen in rendezvous.saw {
            let isInside = report.sides.contains { $0.address == seen.endpoint.address }
            lines.append(
                "saw \(seen.host) as \(seen.endpoint)\(isInside ? " (inside the tunnel)" : "") since \(seen.first), last \(seen.lastSeen) s ago"
            )
        }
        for refused in rendezvous.refused {
            lines.append(
                "refused \(count(Int(clamping: refused.count), "datagram")) from \(refused.source): \(refused.reason)"
            )
        }
        if lines.count == 1 { lines.append("saw neither") }
        return lines.joined(separator: "\n  ")
    }

    private static func nat(_ nat: WhyReport.NAT) -> String {
        var lines = [nat.router]
        for mapping in nat.mappings {
            var line = "maps \(mapping.inner) to \(mapping.outer) towards \(mapping.remote)"
            line += mapping.isReplied ? ", answered" : ", not answered"
            if let timeout = mapping.timeout { line += ", \(timeout) s left" }
            line += mapping.wasThere ? "" : ", new"
            lines.append(line)
        }
        for drop in nat.drops {
            lines.append(
                "dropped \(count(drop.packets, "packet")) \(drop.source) > \(drop.destination) by \(drop.rule)"
            )
        }
        return lines.joined(separator: "\n  ")
    }
}
