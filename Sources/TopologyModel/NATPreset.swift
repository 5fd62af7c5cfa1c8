/// A router's NAT: what it is called, what makes it, and what it is declared to do.
extension Topology {
    package struct NAT: Hashable, Sendable {
        package enum Engine: String, Codable, Hashable, Sendable {
            /// No translation: the uplink gets a route back.
            case routing
            /// iptables' MASQUERADE, which a user can read with `iptables -t nat -S`.
            case masquerade
            /// An nftables table, for what iptables cannot express.
            case nftables
        }

        /// The preset's name; of a NAT that is described by a table the short name of its behaviour, as "eim-adf".
        package let name: String
        package let engine: Engine
        /// Nil where nothing is translated.
        package let behaviour: NATBehaviour?

        package init(name: String, engine: Engine, behaviour: NATBehaviour?) {
            self.name = name
            self.engine = engine
            self.behaviour = behaviour
        }

        package var translates: Bool { engine != .routing }

        package static let none = NAT(name: "none", engine: .routing, behaviour: nil)
        package static let masquerade = NAT(
            name: "masquerade", engine: .masquerade, behaviour: NATBehaviour())
    }
}

/// A NAT that has a name.
///
/// docs/nat.md has each one's table and, where it stands for something that people meet, who says that it is so.
package struct NATPreset: Sendable {
    package let nat: Topology.NAT
    /// One line for lists.
    package let summary: String
    package var name: String { nat.name }

    private init(
        _ name: String, _ engine: Topology.NAT.Engine, _ behaviour: NATBehaviour?, _ summary: String
    ) {
        nat = Topology.NAT(name: name, engine: engine, behaviour: behaviour)
        self.summary = summary
    }

    package static func named(_ name: String) -> NATPreset? { byName[name] }

    private static let byName = Dictionary(
        all.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })

    package static let all: [NATPreset] = plain + nine + field

    /// The names that the world uses for behaviours (RFC 3489 section 5), and the two ways to have no NAT.
    private static let plain: [NATPreset] = [
        NATPreset("masquerade", .masquerade, NATBehaviour(), "Linux's MASQUERADE with an inbound firewall"),
        NATPreset("none", .routing, nil, "routes, and translates nothing"),
        NATPreset(
            "full-cone", .nftables, NATBehaviour(filtering: .endpointIndependent),
            "whoever knows the external endpoint reaches the host"),
        NATPreset(
            "restricted-cone", .nftables, NATBehaviour(filtering: .addressDependent),
            "whom the host has sent to reaches it, from any port"),
        NATPreset(
            "port-restricted-cone", .nftables, NATBehaviour(),
            "only the endpoints that the host has sent to reach it"),
        NATPreset(
            "symmetric", .nftables, NATBehaviour(mapping: .addressAndPortDependent),
            "another random external port for each remote endpoint"),
        NATPreset(
            "blocked", .masquerade, NATBehaviour(udp: .drop), "masquerade that drops UDP without a word"),
        NATPreset(
            "rejected", .masquerade, NATBehaviour(udp: .reject), "masquerade that refuses UDP with ICMP"),
    ]

    /// Each mapping with each filtering of RFC 4787, from `eim-eif` to `apdm-apdf`.
    package static let nine: [NATPreset] = NATDependence.allCases.flatMap { mapping in
        NATDependence.allCases.map { filtering in
            let behaviour = NATBehaviour(mapping: mapping, filtering: filtering)
            return NATPreset(
                behaviour.shortName, .nftables, behaviour,
                "\(mapping.rawValue) mapping, \(filtering.rawValue) filtering")
        }
    }

    /// NATs that people meet, as far as there are citations for what they do: docs/nat.md has them.
    private static let field: [NATPreset] = [
        NATPreset(
            "linux-masquerade", .masquerade, NATBehaviour(),
            "a Linux router with MASQUERADE and a stateful firewall"),
        NATPreset(
            "openwrt", .masquerade, NATBehaviour(udpTimeout: 60), "OpenWrt's masquerading as it comes"),
        NATPreset("docker-bridge", .masquerade, NATBehaviour(), "Docker's default bridge network"),
        NATPreset(
            "pfsense", .nftables, NATBehaviour(mapping: .addressAndPortDependent, udpTimeout: 60),
            "pfSense's automatic outbound NAT"),
        NATPreset(
            "virtualbox-nat", .nftables,
            NATBehaviour(filtering: .endpointIndependent, ports: .random, udpTimeout: 240),
            "VirtualBox's NAT mode, and QEMU's user networking"),
        NATPreset(
            "azure-nat-gateway", .nftables,
            NATBehaviour(mapping: .addressAndPortDependent, udpTimeout: 240), "Azure NAT Gateway"),
        NATPreset(
            "aws-nat-gateway", .nftables,
            NATBehaviour(mapping: .addressAndPortDependent, udpTimeout: 350), "AWS NAT gateway"),
        NATPreset(
            "gcp-cloud-nat", .nftables,
            NATBehaviour(
                mapping: .addressAndPortDependent, ports: .block, udpTimeout: 30, blockSize: 64),
            "Google Cloud NAT as it comes"),
        NATPreset(
            "cgnat-rfc6888", .nftables,
            NATBehaviour(
                filtering: .endpointIndependent, ports: .block, hairpin: true, udpTimeout: 300),
            "a carrier's NAT as RFC 6888 asks for it"),
    ]
}
