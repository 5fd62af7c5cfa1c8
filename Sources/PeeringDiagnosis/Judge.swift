package import LabPlanner
import LabAgent
import NetAddress
import PeeringCheck
import WireGuardControl

/// Picks the cause of a pair's failure out of what was found out.
///
/// Pure, so that each rule has its own test. Each rule gives all that it finds; the order of `Cause` says which explains
/// which.
package struct DiagnosisJudge {
    let evidence: PairEvidence
    let map: NodeMap
    let finder: JourneyFinder
    let addresses: AddressBook
    /// From `from` to `to`, and back.
    package let journeys: [Journey]

    package init(_ evidence: PairEvidence, plan: LabPlan) {
        self.evidence = evidence
        map = NodeMap(plan)
        finder = JourneyFinder(evidence: evidence, map: map)
        addresses = AddressBook(plan)
        journeys = [
            finder.journey(from: evidence.from, to: evidence.to),
            finder.journey(from: evidence.to, to: evidence.from),
        ]
    }

    package func diagnosis() -> Diagnosis {
        var findings = isConnected ? connectedFindings() : failedFindings()
        let order = Dictionary(uniqueKeysWithValues: Cause.allCases.enumerated().map { ($1, $0) })
        var seen: Set<Finding> = []
        findings = findings.filter { seen.insert($0).inserted }
        // Stable: of one cause the first direction's comes first.
        let ranked = findings.enumerated().sorted { one, other in
            let (first, second) = (order[one.element.cause] ?? 0, order[other.element.cause] ?? 0)
            return (first, one.offset) < (second, other.offset)
        }.map(\.element)
        let connected = isConnected && ranked.isEmpty
        return Diagnosis(
            isConnected: connected,
            verdict: connected ? connection : ranked.first.map { sentence($0) } ?? evidence.verdict.reason,
            findings: ranked, journeys: explained)
    }

    private var isConnected: Bool { evidence.verdict.observed == .direct }

    /// What may be wrong although echoes pass now.
    private func connectedFindings() -> [Finding] {
        healedEndpoints() + expiredMappings() + largePackets()
    }

    private func failedFindings() -> [Finding] {
        var findings = deadParts() + keys() + cryptokeyRouting()
        if needsRendezvous { findings += rendezvousFindings() }
        findings += endpointFindings() + expiredMappings() + wayFindings()
        // What a configuration or a way tells, handshakes may tell once more.
        findings += sessionFindings().filter { finding in
            !findings.contains { $0.cause == finding.cause && $0.node == finding.node }
        }
        findings = withoutConsequences(findings)
        if findings.isEmpty { findings += insideTunnel() }
        if findings.isEmpty { findings.append(Finding(.unexplained, at: nil, evidence.verdict.reason)) }
        return findings
    }

    /// Without what only says again that a router's interface or forwarding is off, or a route is missing.
    private func withoutConsequences(_ findings: [Finding]) -> [Finding] {
        let causes = Set(findings.map(\.cause))
        var consequences: Set<Cause> = []
        if !causes.isDisjoint(with: [.interfaceDown, .notForwarded, .noRoute]) { consequences = [.lost] }
        // Connection tracking forgets what MASQUERADE has mapped when its interface goes down.
        if !causes.isDisjoint(with: [.interfaceDown, .notForwarded]) {
            consequences.formUnion([.mappingExpired, .noMapping, .rendezvousUnreachable])
        }
        // Routes go with their interface.
        if causes.contains(.interfaceDown) { consequences.insert(.noRoute) }
        return findings.filter { !consequences.contains($0.cause) }
    }

    private func sentence(_ finding: Finding) -> String {
        if isConnected {
            return "\(evidence.from.host) and \(evidence.to.host) reach each other now, but \(finding.text)"
        }
        return
            "\(evidence.from.host) and \(evidence.to.host) do not reach each other directly: \(finding.text)"
    }

    private var connection: String {
        let (from, to) = (evidence.from, evidence.to)
        return "\(from.host) and \(to.host) reach each other directly: "
            + "\(from.host) sends to \(place(of: to, seenFrom: from)), \(to.host) to \(place(of: from, seenFrom: to))"
    }

    /// A side's endpoint as the other has it, and who made it of which.
    private func place(of side: PairEvidence.Side, seenFrom other: PairEvidence.Side) -> String {
        guard let endpoint = other.device?.peer(side.key)?.endpoint else { return "no endpoint" }
        for router in side.routers {
            for flow in evidence.router(router)?.after ?? [] {
                guard let mapping = flow.mapping, mapping.outer == endpoint else { continue }
                return "\(endpoint) (\(router)'s mapping of \(mapping.inner))"
            }
        }
        switch addresses.owner(of: endpoint.address, seenFrom: other.host, towards: side.host) {
        case .onPath(let node), .elsewhere(let node): return "\(endpoint) (\(node))"
        case .insideTunnel: return "\(endpoint) (inside a tunnel)"
        case .unknown: return "\(endpoint)"
        }
    }

    /// The journeys with the reasons of their losses.
    private var explained: [Journey] {
        journeys.map { journey in
            guard let loss = journey.loss else { return journey }
            var result = journey
            result.loss?.reason = lossReason(loss)
            return result
        }
    }

    /// Whether the pair can only find each other by the rendezvous: neither was told an endpoint.
    var needsRendezvous: Bool {
        guard evidence.rendezvous != nil else { return false }
        return !evidence.sides.contains { side, other in
            side.tunnel.peers.contains { $0.host == other.host && $0.endpoint != nil }
        }
    }
}

/// What the judge found.
package struct Diagnosis: Hashable, Sendable {
    package var isConnected: Bool
    /// One sentence, without a full stop.
    package var verdict: String
    /// All that was found, the verdict's own first; empty where they are connected.
    package var findings: [Finding]
    package var journeys: [Journey]

    package var cause: Cause? { findings.first?.cause }
}
