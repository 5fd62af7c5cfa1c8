import NetAddress

/// A value with its place in the file.
struct Located<Value> {
    var value: Value
    var span: SourceSpan

    init(_ value: Value, _ span: SourceSpan) {
        self.value = value
        self.span = span
    }

    func map<Other>(_ transform: (Value) -> Other) -> Located<Other> {
        Located<Other>(transform(value), span)
    }
}

/// The file as read: right types, but nothing is resolved yet, and what was wrong is nil.
struct TopologyDraft {
    var name = ""
    var segments: [SegmentDraft] = []
    var routers: [RouterDraft] = []
    var hosts: [HostDraft] = []
    var networks: [NetworkDraft] = []
    var rendezvous: RendezvousDraft?
    var expectations: [ExpectationDraft] = []
}

struct SegmentDraft {
    var name: Located<String>
    var prefix: Located<IPPrefix>?
    var isDefault = false
}

struct RouterDraft {
    var name: Located<String>
    var uplink: Located<String>?
    var lan: Located<IPPrefix>?
    var nat: Topology.NAT = .masquerade
    /// The file says what the NAT is, and wrong.
    var natIsBroken = false
    var natSpan: SourceSpan?
    /// The first is the router's own; none leaves the choice to the plan.
    var wan: [Located<IPAddress>] = []
    var forwards: [ForwardDraft] = []
    var oneToOne: [OneToOneDraft] = []
    var link: Topology.Link?
}

struct ForwardDraft {
    var span: SourceSpan
    var port: Located<UInt16>?
    var host: Located<String>?
    var innerPort: Located<UInt16>?
    var transport: Topology.Transport = .udp
    var address: Located<IPAddress>?
}

struct OneToOneDraft {
    var host: Located<String>
    var address: Located<IPAddress>
}

struct HostDraft {
    var name: Located<String>
    var attachment: Located<String>?
    var address: Located<IPAddress>?
    var link: Topology.Link?
    var overrides: [OverrideDraft] = []
    var client: ClientDraft?
    /// There is no `[host.X]`, only overrides for it: a slip in the name, most likely.
    var isPhantom = false
}

/// What `[host.X.rendezvous]` says.
struct ClientDraft {
    var span: SourceSpan
    var serverKey: String?
    var endpoint: Located<Endpoint>?
    var startDelay: Int?
}

/// What `[host.X.wireguard.wgN]` says.
struct OverrideDraft {
    var network: Located<String>
    var listenPort: Located<UInt16>?
    var mtu: Int?
    var privateKeyFile: String?
    var table: Topology.RouteTable?
    var peers: [PeerDraft] = []
}

/// What `[host.X.wireguard.wgN.peer.Y]` says.
struct PeerDraft {
    var peer: Located<String>
    var allowedIPs: [Located<IPPrefix>]?
    var keepalive: Located<UInt16>?
    var presharedKeyFile: Located<String>?
    var endpoint: Located<Endpoint>?
}

struct NetworkDraft {
    enum Peers {
        case mesh
        case hub(Located<String>)
        case pairs([Located<(Located<String>, Located<String>)>])
    }

    var name: Located<String>
    var prefix: Located<IPPrefix>?
    var members: [Located<String>] = []
    /// Some member could not be read, so an unknown peer is no news.
    var membersAreBroken = false
    var peers: Peers? = .mesh
    var listenPort: Located<UInt16>?
    var backend: Topology.Backend = .auto
    var mtu: Int?
    var keepalive: Located<UInt16>?
}

struct RendezvousDraft {
    var span: SourceSpan
    var host: Located<String>?
    var port: Located<UInt16>?
    var endpoint: Located<Endpoint>?
}

struct ExpectationDraft {
    enum Between {
        case pair(Located<String>, Located<String>)
        /// Every pair that no other expectation names.
        case others
    }

    var span: SourceSpan
    var between: Located<Between>?
    var path: Located<Topology.Path>?
}
