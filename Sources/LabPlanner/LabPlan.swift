package import NetAddress

/// Everything `up` will do and what the lab then is: a value, the same to the byte for the same file, without secrets.
///
/// The tables (`nodes`, `tunnels`, `rendezvous`, `pairs`) say what the lab is; `steps` say how it is made, in order.
package struct LabPlan: Codable, Hashable, Sendable {
    package var lab: String
    /// Segments, then routers, then hosts; each kind in the order of the file.
    package var nodes: [PlannedNode]
    /// One for each WireGuard interface of each host.
    package var tunnels: [PlannedTunnel]
    package var rendezvous: PlannedRendezvous?
    /// One for each pair of WireGuard peers.
    package var pairs: [PlannedPair]
    package var steps: [PlanStep]

    package init(
        lab: String, nodes: [PlannedNode], tunnels: [PlannedTunnel], rendezvous: PlannedRendezvous?,
        pairs: [PlannedPair], steps: [PlanStep]
    ) {
        self.lab = lab
        self.nodes = nodes
        self.tunnels = tunnels
        self.rendezvous = rendezvous
        self.pairs = pairs
        self.steps = steps
    }

    package func node(_ name: String) -> PlannedNode? { nodes.first { $0.name == name } }
    package func tunnel(host: String, interface: String) -> PlannedTunnel? {
        tunnels.first { $0.host == host && $0.interface == interface }
    }
}

/// A namespace of the lab.
package struct PlannedNode: Codable, Hashable, Sendable {
    package enum Kind: String, Codable, Sendable { case segment, router, host }
    package var name: String
    package var kind: Kind
    /// The name under /run/netns: LAB.NODE.
    package var namespace: String
    /// Where a router's wan0 or a host's eth0 is attached: a segment or a router; nil for a segment.
    package var uplink: String?
    /// A router's NAT: its preset, or the short name of its behaviour ("eim-adf"); nil for other nodes.
    package var nat: String?
    /// How that is built; nil where nothing is translated.
    package var translation: PlannedNAT?
    /// Underlay interfaces with their addresses, outermost first ("wan0", "lan0"; "eth0"; a segment's "br0").
    package var interfaces: [PlannedInterface]
    /// What the link to the uplink does to packets; nil for nothing.
    package var link: LinkShape?

    /// Addresses towards the uplink: the interface's own first, then a router's further ones, those of 1:1 last.
    package var outerAddresses: [IPAddress] {
        guard uplink != nil, let own = interfaces.first?.address.address else { return [] }
        let nat = translation
        return [own] + (nat?.externals.filter { $0 != own } ?? []) + (nat?.oneToOne.map(\.external) ?? [])
    }

    package init(
        name: String, kind: Kind, namespace: String, uplink: String?, nat: String?,
        translation: PlannedNAT? = nil, interfaces: [PlannedInterface], link: LinkShape? = nil
    ) {
        self.name = name
        self.kind = kind
        self.namespace = namespace
        self.uplink = uplink
        self.nat = nat
        self.translation = translation
        self.interfaces = interfaces
        self.link = link
    }
}

package struct PlannedInterface: Codable, Hashable, Sendable {
    package var name: String
    /// With the prefix length of its network.
    package var address: IPPrefix
    package init(name: String, address: IPPrefix) {
        self.name = name
        self.address = address
    }
}

/// A WireGuard interface of a host, as it will be configured.
///
/// Keys are made, or read from the files, by `up`.
package struct PlannedTunnel: Codable, Hashable, Sendable {
    package enum Backend: String, Codable, Sendable { case auto, kernel, userspace }
    package var host: String
    /// The host's namespace.
    package var namespace: String
    /// Also the name of the network in the topology: "wg0".
    package var interface: String
    package var backend: Backend
    /// With the prefix length of the tunnel's network.
    package var address: IPPrefix
    /// 0 leaves the choice to the kernel.
    package var listenPort: UInt16
    package var mtu: Int
    /// 0 for none.
    package var firewallMark: UInt32
    /// As written in the topology (relative to its folder); nil: `up` makes a key.
    package var privateKeyFile: String?
    package var peers: [PlannedPeer]

    private enum CodingKeys: String, CodingKey {
        case host, namespace, interface, backend, address, mtu, peers
        case listenPort = "listen_port"
        case firewallMark = "firewall_mark"
        case privateKeyFile = "private_key_file"
    }

    package init(
        host: String, namespace: String, interface: String, backend: Backend, address: IPPrefix,
        listenPort: UInt16,
        mtu: Int, firewallMark: UInt32, privateKeyFile: String?, peers: [PlannedPeer]
    ) {
        self.host = host
        self.namespace = namespace
        self.interface = interface
        self.backend = backend
        self.address = address
        self.listenPort = listenPort
        self.mtu = mtu
        self.firewallMark = firewallMark
        self.privateKeyFile = privateKeyFile
        self.peers = peers
    }
}

/// A peer in a tunnel's configuration.
package struct PlannedPeer: Codable, Hashable, Sendable {
    /// The peer is this host's interface of the same name.
    package var host: String
    package var allowedIPs: [IPPrefix]
    /// Known from the start (the peer is on a segment, or the topology says so); nil until it is punched.
    package var endpoint: Endpoint?
    /// Seconds, 0 for off.
    ///
    /// Where there is no endpoint yet the rendezvous client sets it together with the endpoint:
    /// WireGuard starts at most one handshake per 5 s and peer, and an attempt without an endpoint would use it up.
    package var keepalive: UInt16
    package var presharedKeyFile: String?

    private enum CodingKeys: String, CodingKey {
        case host, endpoint, keepalive
        case allowedIPs = "allowed_ips"
        case presharedKeyFile = "preshared_key_file"
    }

    package init(
        host: String, allowedIPs: [IPPrefix], endpoint: Endpoint?, keepalive: UInt16,
        presharedKeyFile: String?
    ) {
        self.host = host
        self.allowedIPs = allowedIPs
        self.endpoint = endpoint
        self.keepalive = keepalive
        self.presharedKeyFile = presharedKeyFile
    }
}

/// The embedded rendezvous server, and how its clients reach it.
package struct PlannedRendezvous: Codable, Hashable, Sendable {
    package var host: String
    package var namespace: String
    /// The UDP port the server listens on, on every address of the host.
    package var port: UInt16
    /// Where the clients send, but for those that are told otherwise.
    package var endpoint: Endpoint
    /// The (host, interface) pairs that run a client: every tunnel of the lab, in the order of `tunnels`.
    package var clients: [PlannedClient]

    package init(host: String, namespace: String, port: UInt16, endpoint: Endpoint, clients: [PlannedClient])
    {
        self.host = host
        self.namespace = namespace
        self.port = port
        self.endpoint = endpoint
        self.clients = clients
    }
}

package struct PlannedClient: Codable, Hashable, Sendable {
    package var host: String
    package var interface: String
    /// Milliseconds from the agent's start to the client's; 0, and left out of the JSON, for one that starts with it.
    package var startDelay: UInt32
    /// What it takes for the server's public key, base64; nil, and left out of the JSON, for the real one.
    package var serverKey: String?
    /// Where it looks for the server; nil, and left out of the JSON, for the rendezvous's endpoint.
    package var endpoint: Endpoint?

    package init(
        host: String, interface: String, startDelay: UInt32 = 0, serverKey: String? = nil,
        endpoint: Endpoint? = nil
    ) {
        self.host = host
        self.interface = interface
        self.startDelay = startDelay
        self.serverKey = serverKey
        self.endpoint = endpoint
    }

    private enum CodingKeys: String, CodingKey {
        case host, interface, endpoint
        case startDelay = "start_delay_ms"
        case serverKey = "server_key"
    }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            host: try container.decode(String.self, forKey: .host),
            interface: try container.decode(String.self, forKey: .interface),
            startDelay: try container.decodeIfPresent(UInt32.self, forKey: .startDelay) ?? 0,
            serverKey: try container.decodeIfPresent(String.self, forKey: .serverKey),
            endpoint: try container.decodeIfPresent(Endpoint.self, forKey: .endpoint))
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(host, forKey: .host)
        try container.encode(interface, forKey: .interface)
        if startDelay > 0 { try container.encode(startDelay, forKey: .startDelay) }
        try container.encodeIfPresent(serverKey, forKey: .serverKey)
        try container.encodeIfPresent(endpoint, forKey: .endpoint)
    }
}

/// A pair of WireGuard peers and what is expected of it.
package struct PlannedPair: Codable, Hashable, Sendable {
    package enum Path: String, Codable, Sendable { case direct, none }
    package var from: String
    package var to: String
    package var interface: String
    package var expected: Path
    package init(from: String, to: String, interface: String, expected: Path) {
        self.from = from
        self.to = to
        self.interface = interface
        self.expected = expected
    }
}

/// One step of `up`, with what undoes it and the line of the topology that asks for it.
package struct PlanStep: Codable, Hashable, Sendable {
    package var effect: Effect
    package var inverse: Inverse
    /// 1-based line of the topology file; nil for what the file does not mention (the default segment).
    package var line: Int?
    package init(_ effect: Effect, inverse: Inverse, line: Int?) {
        self.effect = effect
        self.inverse = inverse
        self.line = line
    }
}

/// What a step does to the machine.
package enum Effect: Hashable, Sendable {
    /// A new network namespace pinned as /run/netns/NAMESPACE, with `lo` up.
    case makeNamespace(namespace: String)
    /// Writes under /proc/sys of the namespace; keys as sysctl(8) has them, with dots.
    case setSysctls(namespace: String, settings: [Sysctl])
    case makeBridge(namespace: String, interface: String)
    /// Both ends at once, each directly in its namespace.
    case makeVeth(end: Port, otherEnd: Port)
    case joinBridge(namespace: String, interface: String, bridge: String)
    case addAddress(namespace: String, interface: String, address: IPPrefix)
    case bringUp(namespace: String, interface: String)
    /// Packets leave the interface one by one, never several as one large one (no segmentation offload): what a
    /// shaped link loses or delays is then a packet.
    case sendSinglePackets(namespace: String, interface: String)
    /// What leaves the interface is delayed, lost and slowed down.
    case shapeLink(namespace: String, interface: String, shape: LinkShape)
    case addRoute(namespace: String, route: Route)
    case addRule(namespace: String, rule: RoutingRule)
    /// One `iptables-restore` with this text in the namespace.
    case loadFirewall(namespace: String, text: String)
    /// One transaction of nft(8) with this text in the namespace.
    case loadNftables(namespace: String, text: String)
    /// The interface, with its backend's process where it needs one; see `LabPlan.tunnels` for the settings.
    case makeWireGuard(namespace: String, host: String, interface: String)
    /// Private key, port and peers of the tunnel.
    case configureWireGuard(namespace: String, host: String, interface: String)
    /// The lab's one process: rendezvous server and clients.
    case startAgent
}

/// What takes a step's effect away.
package enum Inverse: Hashable, Sendable {
    case removeNamespace(namespace: String)
    /// Ends the process that serves the interface, where the backend has one.
    case removeWireGuard(namespace: String, host: String, interface: String)
    case stopAgent
    /// Nothing of its own to do: the effect lives in the namespace and goes with it.
    case goesWith(namespace: String)
}

package struct Sysctl: Codable, Hashable, Sendable {
    /// As sysctl(8) has it: "net.ipv4.ip_forward".
    package var key: String
    package var value: String
    /// A kernel without the file (no br_netfilter, no IPv6) has nothing to switch off: ENOENT is no error.
    package var ifPresent: Bool
    private enum CodingKeys: String, CodingKey {
        case key, value
        case ifPresent = "if_present"
    }

    package init(_ key: String, _ value: String, ifPresent: Bool = false) {
        self.key = key
        self.value = value
        self.ifPresent = ifPresent
    }
}

/// One end of a veth pair.
package struct Port: Codable, Hashable, Sendable {
    package var namespace: String
    package var interface: String
    package init(namespace: String, interface: String) {
        self.namespace = namespace
        self.interface = interface
    }
}

package struct Route: Codable, Hashable, Sendable {
    /// 0.0.0.0/0 is the default route.
    package var destination: IPPrefix
    package var gateway: IPAddress?
    package var interface: String?
    /// The gateway is on the interface's link although no address there says so (RTNH_F_ONLINK).
    package var onLink: Bool
    /// Nil is the main table.
    package var table: UInt32?
    private enum CodingKeys: String, CodingKey {
        case destination, gateway, interface, table
        case onLink = "on_link"
    }

    package init(
        to destination: IPPrefix, via gateway: IPAddress? = nil, interface: String? = nil,
        onLink: Bool = false,
        table: UInt32? = nil
    ) {
        self.destination = destination
        self.gateway = gateway
        self.interface = interface
        self.onLink = onLink
        self.table = table
    }
}

/// A policy routing rule, as wg-quick(8) uses them for a peer that takes all traffic.
package struct RoutingRule: Codable, Hashable, Sendable {
    package enum Family: String, Codable, Sendable { case ipv4, ipv6 }
    package var family: Family
    package var priority: UInt32?
    package var firewallMark: UInt32?
    /// FIB_RULE_INVERT: matches what does not carry the mark.
    package var invert: Bool
    package var table: UInt32
    /// FRA_SUPPRESS_PREFIXLEN; nil for none.
    package var suppressPrefixLength: UInt32?
    private enum CodingKeys: String, CodingKey {
        case family, priority, invert, table
        case firewallMark = "firewall_mark"
        case suppressPrefixLength = "suppress_prefix_length"
    }

    package init(
        family: Family, priority: UInt32? = nil, firewallMark: UInt32? = nil, invert: Bool = false,
        table: UInt32,
        suppressPrefixLength: UInt32? = nil
    ) {
        self.family = family
        self.priority = priority
        self.firewallMark = firewallMark
        self.invert = invert
        self.table = table
        self.suppressPrefixLength = suppressPrefixLength
    }
}
