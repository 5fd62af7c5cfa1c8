package import NetAddress

/// What the user asked for, checked: every name resolves, every address fits.
///
/// Only `TopologyFile.parse` makes one, so that code which holds one need not check again.
package struct Topology: Hashable, Sendable {
    package let name: String
    /// The default segment first, where the file does not define it.
    package let segments: [Segment]
    package let routers: [Router]
    package let hosts: [Host]
    package let networks: [WireGuardNetwork]
    package let rendezvous: Rendezvous?
    package let expectations: [Expectation]
}

extension Topology {
    /// A public network.
    package struct Segment: Hashable, Sendable {
        package let name: String
        package let prefix: IPPrefix
        /// Nil for the default segment.
        package let position: SourcePosition?
    }

    /// What a link does to packets, to those of each direction by themselves.
    package struct Link: Hashable, Sendable {
        /// Microseconds; 0 for none.
        package let delay: UInt64
        /// Microseconds, at most the delay, which varies evenly by so much up and down.
        package let jitter: UInt64
        /// Parts per million of the packets.
        package let loss: UInt64
        /// bit/s; nil for what the machine can do.
        package let rate: UInt64?
    }

    package struct Router: Hashable, Sendable {
        package let name: String
        /// A segment or another router.
        package let uplink: String
        package let lan: IPPrefix
        package let nat: NAT
        /// Its addresses at the uplink, the first its own; none leaves the choice to the plan.
        package let wan: [IPAddress]
        package let forwards: [Forward]
        package let oneToOne: [OneToOne]
        /// Of its uplink.
        package let link: Link?
        package let position: SourcePosition
        /// Of what the file says of the NAT, else of the name.
        package let natSpan: SourceSpan
    }

    package enum Transport: String, Codable, Hashable, Sendable, CaseIterable { case udp, tcp }

    /// A port of a router's that leads to a host behind it.
    package struct Forward: Hashable, Sendable {
        package let transport: Transport
        /// One of the router's WAN addresses; nil is the first.
        package let address: IPAddress?
        package let port: UInt16
        package let host: String
        package let innerPort: UInt16
        package let span: SourceSpan
    }

    /// An external address that is one host's alone.
    package struct OneToOne: Hashable, Sendable {
        package let host: String
        package let address: IPAddress
    }

    package struct Host: Hashable, Sendable {
        package let name: String
        /// A segment or a router.
        package let attachment: String
        /// Nil leaves the choice to the plan.
        package let address: IPAddress?
        package let link: Link?
        /// What is otherwise with its rendezvous clients; nil where nothing.
        package let client: ClientSettings?
        package let position: SourcePosition
    }

    /// What a host's rendezvous clients are told instead of what holds for the others.
    package struct ClientSettings: Hashable, Sendable {
        /// What they take for the server's public key, base64 of 32 bytes; nil for the real one.
        package let serverKey: String?
        /// Where they look for the server; nil for where the others do.
        package let endpoint: Endpoint?
        /// Seconds from the agent's start to theirs.
        package let startDelay: Int
        /// Of the endpoint, or of the table where it has none.
        package let span: SourceSpan
    }

    package enum Backend: String, Hashable, Sendable { case auto, kernel, userspace }

    /// Which members are each other's peers.
    package enum PeerLayout: Hashable, Sendable {
        case mesh
        /// The index of the hub in the members.
        case hub(Int)
        /// Pairs of indices in the members, the smaller first, sorted, without duplicates.
        case pairs([MemberPair])
    }

    package struct MemberPair: Hashable, Sendable, Comparable {
        package let first: Int
        package let second: Int

        package init(_ a: Int, _ b: Int) {
            first = min(a, b)
            second = max(a, b)
        }

        package static func < (left: Self, right: Self) -> Bool {
            (left.first, left.second) < (right.first, right.second)
        }
    }

    package struct WireGuardNetwork: Hashable, Sendable {
        /// Also the interface's name on every member.
        package let name: String
        package let prefix: IPPrefix
        /// The member at index i has the prefix's address i + 1.
        package let members: [Member]
        package let peers: PeerLayout
        package let backend: Backend
        package let position: SourcePosition
        /// Of its name.
        package let span: SourceSpan
    }

    /// Where a tunnel's routes go; the words of wg-quick(8).
    package enum RouteTable: Hashable, Sendable {
        case auto
        case off
        case number(UInt32)
    }

    /// A host in a WireGuard network, the settings of the network and of the host merged.
    package struct Member: Hashable, Sendable {
        package let host: String
        /// 0 leaves the choice to the kernel.
        package let listenPort: UInt16
        package let mtu: Int
        /// As written, relative to the topology's folder.
        package let privateKeyFile: String?
        package let table: RouteTable
        /// Seconds, 0 for off; nil where nobody said.
        package let keepalive: UInt16?
        /// By the peer's host name.
        package let peers: [String: PeerOverride]
        package let position: SourcePosition
    }

    /// What the file says of one peer of one host; nil where it says nothing.
    package struct PeerOverride: Hashable, Sendable {
        package let allowedIPs: [IPPrefix]?
        /// Seconds, 0 for off.
        package let keepalive: UInt16?
        package let presharedKeyFile: String?
        package let endpoint: Endpoint?
        package let position: SourcePosition
    }

    package struct Rendezvous: Hashable, Sendable {
        package let host: String
        package let port: UInt16
        /// How clients reach it; nil: at the host's own address.
        package let endpoint: Endpoint?
        package let position: SourcePosition
    }

    package enum Path: String, Hashable, Sendable {
        case direct, none
        /// Whichever of them theory says.
        case theory
    }

    package struct Expectation: Hashable, Sendable {
        /// Two hosts; empty for every pair that no other expectation names.
        package let between: [String]
        package let path: Path
        /// Of the word that says which path.
        package let span: SourceSpan
    }
}

extension Topology.WireGuardNetwork {
    /// Whether two members are peers, for whoever asks often.
    package func peerTest() -> (_ a: Int, _ b: Int) -> Bool {
        switch peers {
        case .mesh: return { $0 != $1 }
        case .hub(let hub): return { $0 != $1 && ($0 == hub || $1 == hub) }
        case .pairs(let pairs):
            let known = Set(pairs)
            return { known.contains(Topology.MemberPair($0, $1)) }
        }
    }

    /// The first pairs of peers, at most so many, in member order, one by one: a mesh has more than one wants to keep.
    ///
    /// - Returns: whether these were all.
    package func visitPairs(atMost limit: Int, _ visit: (Topology.MemberPair) -> Void) -> Bool {
        guard case .mesh = peers else {
            let pairs = pairs
            pairs.prefix(limit).forEach(visit)
            return pairs.count <= limit
        }
        var left = limit
        for first in members.indices {
            for second in (first + 1)..<max(first + 1, members.count) {
                guard left > 0 else { return false }
                left -= 1
                visit(Topology.MemberPair(first, second))
            }
        }
        return true
    }

    /// Every pair of peers once, in member order.
    package var pairs: [Topology.MemberPair] {
        switch peers {
        case .mesh:
            members.indices.flatMap { first in
                ((first + 1)..<members.count).map { Topology.MemberPair(first, $0) }
            }
        case .hub(let hub):
            members.indices.filter { $0 != hub }.map { Topology.MemberPair($0, hub) }.sorted()
        case .pairs(let pairs): pairs
        }
    }
}
