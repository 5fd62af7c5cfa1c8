package import LabPlanner
package import NATMeasurement
import TopologyModel

/// What `natlab nat` found: the JSON form is documented in docs/json.md and held by tests.
package struct NATReport: Codable, Hashable, Sendable {
    /// One router, measured at its own uplink.
    package struct Router: Codable, Hashable, Sendable {
        package var router: String
        /// The NAT's name in the topology.
        package var nat: String
        package var ok: Bool
        package var declared: NATCard
        package var measured: NATCard
        /// What differs, each as a sentence that begins with the property.
        package var differences: [String]
        /// What was seen, by property.
        package var evidence: [String: String]
    }

    /// The NATs from a router's LAN to the segment, measured as one.
    package struct Path: Codable, Hashable, Sendable {
        /// The innermost router.
        package var router: String
        /// All that translate, from the inside.
        package var via: [String]
        package var ok: Bool
        /// By theory: what the NATs on the way are declared to do, composed.
        package var theory: NATCard
        package var measured: NATCard
        package var differences: [String]
    }

    package var lab: String
    package var ok: Bool
    package var routers: [Router]
    package var paths: [Path]
    /// What could not be measured at all.
    package var problems: [String]

    package init(lab: String, routers: [Router], paths: [Path], problems: [String]) {
        self.lab = lab
        self.routers = routers
        self.paths = paths
        self.problems = problems
        ok = problems.isEmpty && routers.allSatisfy(\.ok) && paths.allSatisfy(\.ok)
    }
}

extension NATReport.Router {
    package init?(_ node: PlannedNode, _ measurement: RouterMeasurement) {
        guard let declared = NATCard(declared: node) else { return nil }
        let measured = NATCard(measurement)
        let differences = declared.differences(from: measured, measurement)
        var evidence: [String: String] = [:]
        for property in NATProperty.allCases {
            let text = NATCard.evidence(property, measurement)
            if !text.isEmpty { evidence[property.rawValue] = text }
        }
        self.init(
            router: node.name, nat: node.nat ?? "none", ok: differences.isEmpty, declared: declared,
            measured: measured, differences: differences, evidence: evidence)
    }
}

extension NATReport.Path {
    package init(_ router: String, _ theory: NATPath, _ measurement: RouterMeasurement) {
        var expected = NATCard([.udp: .word(theory.barrier?.udp.rawValue ?? NATUDP.forward.rawValue)])
        if theory.barrier == nil {
            expected[.mapping] = .word(theory.mapping.rawValue)
            expected[.filtering] = .word(theory.filtering.rawValue)
        }
        let measured = NATCard(measurement)
        let differences = expected.differences(from: measured, measurement)
        self.init(
            router: router, via: theory.hops.map(\.router), ok: differences.isEmpty, theory: expected,
            measured: measured, differences: differences)
    }
}

extension NATCard {
    /// What is declared and was not measured so.
    fileprivate func differences(from measured: NATCard, _ measurement: RouterMeasurement) -> [String] {
        NATProperty.allCases.compactMap { property in
            guard let declared = self[property] else { return nil }
            let evidence = NATCard.evidence(property, measurement)
            guard let found = measured[property] else {
                if property == .timeout, case .number(let seconds) = declared {
                    // A lifetime of minutes is measured only when it is asked for, and perhaps not to its end.
                    if let alive = measurement.lifetime.value?.alive {
                        return alive <= seconds * 1.05 + 1
                            ? nil : "\(property.name): declared \(declared), still alive after \(alive) s"
                    }
                    if evidence == NATSurvey.notAskedFor { return nil }
                }
                return "\(property.name): declared \(declared), not measured: \(evidence)"
            }
            if property == .timeout, case .number(let seconds) = declared,
                measurement.lifetime.value?.fits(seconds, slack: max(1, seconds * 0.05)) == true
            {
                return nil
            }
            guard declared != found else { return nil }
            return "\(property.name): declared \(declared), measured \(found): \(evidence)"
        }
    }
}
