package import LabPlanner
package import NATMeasurement
import TopologyModel

/// What can be said of a router's NAT, in the order in which it is told.
package enum NATProperty: String, CaseIterable, Codable, Hashable, Sendable {
    case translated, udp, mapping, filtering, ports, hairpin, pooling
    case timeout = "udp_timeout_s"
    /// Two hosts that use one internal port.
    case samePort = "same_port"
    /// A remote endpoint sends before it is sent to.
    case outsideFirst = "outside_first"
    /// A packet to a mapping, from an address that nobody has sent to.
    case unsolicited
    /// A packet to a port that no mapping has.
    case closedPort = "closed_port"
    case remotePort = "remote_port"
    case lan
    case portPreservation = "port_preservation"
    case portParity = "port_parity"
    case outboundRefresh = "outbound_refresh"
    case inboundRefresh = "inbound_refresh"
    case icmpErrors = "icmp_errors"
    case fragments
    case tcpMapping = "tcp_mapping"
    case forwards

    /// For people: "same port".
    package var name: String {
        switch self {
        case .timeout: "udp timeout"
        case .icmpErrors: "ICMP errors"
        case .tcpMapping: "TCP mapping"
        default: rawValue.replacing("_", with: " ")
        }
    }
}

/// A property's value as JSON has it: a word, true or false, or a number.
package enum NATValue: Codable, Hashable, Sendable, CustomStringConvertible {
    case word(String)
    case flag(Bool)
    case number(Double)

    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let flag = try? container.decode(Bool.self) {
            self = .flag(flag)
        } else if let number = try? container.decode(Double.self) {
            self = .number(number)
        } else {
            self = .word(try container.decode(String.self))
        }
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .word(let word): try container.encode(word)
        case .flag(let flag): try container.encode(flag)
        case .number(let number): try container.encode(number)
        }
    }

    package var description: String {
        switch self {
        case .word(let word): word
        case .flag(let flag): flag ? "yes" : "no"
        case .number(let number): number == number.rounded() ? "\(Int(number))" : "\(number)"
        }
    }
}

/// The properties of one NAT: declared, or measured.
package struct NATCard: Codable, Hashable, Sendable {
    package var values: [NATProperty: NATValue]

    package init(_ values: [NATProperty: NATValue] = [:]) { self.values = values }

    package subscript(property: NATProperty) -> NATValue? {
        get { values[property] }
        set { values[property] = newValue }
    }

    private struct Key: CodingKey {
        var stringValue: String
        var intValue: Int? { nil }
        init(_ property: NATProperty) { stringValue = property.rawValue }
        init?(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Key.self)
        values = [:]
        for property in NATProperty.allCases {
            values[property] = try container.decodeIfPresent(NATValue.self, forKey: Key(property))
        }
    }

    /// Every key is always there, null where nothing was declared or measured.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Key.self)
        for property in NATProperty.allCases { try container.encode(values[property], forKey: Key(property)) }
    }
}

extension NATCard {
    /// What a router is declared to do, and what every router that natlab builds promises beside it; nil for a node that
    /// is none.
    ///
    /// MASQUERADE promises nothing about two hosts with one port: it overloads ports (RFC 4787 section 4.2.1).
    package init?(declared node: PlannedNode) {
        guard node.kind == .router else { return nil }
        guard let nat = node.translation else {
            self.init([
                .translated: .flag(false), .udp: .word(NATUDP.forward.rawValue),
                .filtering: .word(NATDependence.endpointIndependent.rawValue), .lan: .word("exposed"),
            ])
            return
        }
        let behaviour = nat.behaviour
        // What iptables and nftables alike do to TCP: nothing more than the mapping asks for.
        let tcp: NATDependence =
            behaviour.mapping == .endpointIndependent ? .endpointIndependent : .addressAndPortDependent
        var values: [NATProperty: NATValue] = [
            .translated: .flag(true), .udp: .word(behaviour.udp.rawValue), .lan: .word("hidden"),
            .closedPort: .word(Unsolicited.silent.rawValue), .tcpMapping: .word(tcp.rawValue),
        ]
        // Each connection may have another address.
        if nat.externals.count > 1, behaviour.pooling == .arbitrary { values[.tcpMapping] = nil }
        if behaviour.udp == .forward {
            values.merge([
                .mapping: .word(behaviour.mapping.rawValue),
                .filtering: .word(behaviour.filtering.rawValue), .ports: .word(behaviour.ports.rawValue),
                .outsideFirst: .word(EarlyPacket.kept.rawValue),
                .unsolicited: .word(
                    behaviour.filtering == .endpointIndependent
                        ? Unsolicited.delivered.rawValue : Unsolicited.silent.rawValue),
            ]) { $1 }
            // Where no filter lets a packet in that comes first, there is nothing that it could spoil.
            if behaviour.mapping != .endpointIndependent,
                behaviour.filtering == .addressAndPortDependent
                    || behaviour.mapping == .addressAndPortDependent
                        && behaviour.filtering == .addressDependent
            {
                values[.outsideFirst] = nil
            }
            // Else no host could know an endpoint of another that lets it in.
            if behaviour.mapping == .endpointIndependent || behaviour.filtering == .endpointIndependent {
                values[.hairpin] = .flag(behaviour.hairpin)
            }
            if nat.externals.count > 1 { values[.pooling] = .word(behaviour.pooling.rawValue) }
            if nat.engine == .nftables { values[.samePort] = .word(PortSharing.exclusive.rawValue) }
            values[.timeout] = behaviour.udpTimeout.map { .number(Double($0)) }
            // TCP's are not measured.
            if nat.forwards.contains(where: { $0.transport == .udp }) || !nat.oneToOne.isEmpty {
                values[.forwards] = .word("open")
            }
        }
        self.init(values)
    }

    /// What a router was seen to do.
    package init(_ measured: RouterMeasurement) {
        var values: [NATProperty: NATValue] = [:]
        func flag(_ finding: Finding<Bool>) -> NATValue? { finding.value.map { .flag($0) } }
        func word<Word: RawRepresentable<String>>(_ finding: Finding<Word>) -> NATValue? {
            finding.value.map { .word($0.rawValue) }
        }
        func share(_ finding: Finding<Share>) -> NATValue? {
            finding.value.map { .word("\($0.count) of \($0.of)") }
        }
        values[.translated] = flag(measured.translated)
        values[.udp] = word(measured.udp)
        values[.mapping] = word(measured.mapping)
        values[.filtering] = word(measured.filtering)
        values[.ports] = word(measured.ports)
        values[.hairpin] = measured.hairpin.value.map {
            switch $0 {
            case .none: .flag(false)
            case .external: .flag(true)
            case .internal: .word("internal source")
            case .other: .word("the router's source")
            }
        }
        values[.pooling] = word(measured.pooling)
        // Where none was seen to end it lives longer than was looked for.
        values[.timeout] = measured.lifetime.value.flatMap { $0.dead == nil ? nil : .number($0.estimate) }
        values[.samePort] = word(measured.sharing)
        if measured.sharedDelivery.value == false { values[.samePort] = .word("mixed up") }
        values[.outsideFirst] = word(measured.earlyPacket)
        values[.unsolicited] = word(measured.unsolicited)
        values[.closedPort] = word(measured.closedPort)
        values[.remotePort] = word(measured.remoteSource)
        values[.lan] = measured.exposed.value.map { .word($0 ? "exposed" : "hidden") }
        values[.portPreservation] = share(measured.preserved)
        values[.portParity] = share(measured.parity)
        values[.outboundRefresh] = flag(measured.outboundRefresh)
        values[.inboundRefresh] = flag(measured.inboundRefresh)
        values[.icmpErrors] = measured.icmp.value.map { translated in
            guard translated else { return .word("lost") }
            return .word(
                measured.icmpSurvived.value == false ? "translated, but end the mapping" : "translated")
        }
        values[.fragments] = Self.fragments(measured)
        values[.tcpMapping] = word(measured.tcpMapping)
        let works = measured.forwards.map(\.works.value)
        if !works.isEmpty, works.allSatisfy({ $0 != nil }) {
            values[.forwards] = .word(works.allSatisfy { $0 == true } ? "open" : "shut")
        }
        self.init(values)
    }

    private static func fragments(_ measured: RouterMeasurement) -> NATValue? {
        guard let outward = measured.fragments.value, let reversed = measured.fragmentsReversed.value else {
            return nil
        }
        guard outward else { return .word("lost") }
        return .word(reversed ? "translated, in any order" : "translated, in order")
    }

    /// Why a property has no value, or what was seen.
    static func evidence(_ property: NATProperty, _ measured: RouterMeasurement) -> String {
        switch property {
        case .translated: measured.translated.evidence
        case .udp: measured.udp.evidence
        case .mapping: measured.mapping.evidence
        case .filtering: measured.filtering.evidence
        case .ports: measured.ports.evidence
        case .hairpin: measured.hairpin.evidence
        case .pooling: measured.pooling.evidence
        case .timeout: measured.lifetime.evidence
        case .samePort:
            measured.sharedDelivery.value == false
                ? measured.sharedDelivery.evidence : measured.sharing.evidence
        case .outsideFirst: measured.earlyPacket.evidence
        case .unsolicited: measured.unsolicited.evidence
        case .closedPort: measured.closedPort.evidence
        case .remotePort: measured.remoteSource.evidence
        case .lan: measured.exposed.evidence
        case .portPreservation: measured.preserved.evidence
        case .portParity: measured.parity.evidence
        case .outboundRefresh: measured.outboundRefresh.evidence
        case .inboundRefresh: measured.inboundRefresh.evidence
        case .icmpErrors: measured.icmp.evidence
        case .fragments: measured.fragments.evidence
        case .tcpMapping: measured.tcpMapping.evidence
        case .forwards:
            measured.forwards.filter { $0.works.value != true }
                .map { "\($0.external) to \($0.internal): \($0.works.evidence)" }.joined(separator: "; ")
        }
    }
}

extension Lifetime {
    /// Seconds, to a tenth: half-way between the oldest that was alive and the youngest that was not.
    var estimate: Double { ((dead.map { (alive + $0) / 2 } ?? alive) * 10).rounded() / 10 }
}
