package import LabAgent
package import LabPlanner
package import LinuxLab
package import NetAddress
package import NetlinkWire
package import PathTrace
package import PeeringCheck
package import RendezvousProtocol
package import WireGuardControl
package import WireGuardKeys

/// All that was found out about two hosts, for the judge.
package struct PairEvidence: Sendable {
    package var interface: String
    package var from: Side
    package var to: Side
    /// What verify says of them, over the time of the watch.
    package var verdict: PairVerdict
    package var theory: TraversalTheory.Verdict
    /// Whether echoes of the tunnel's MTU pass both ways; nil where small ones do not.
    package var passesLargePackets: Bool?
    /// Why the agent does not answer; nil where it does, or where the lab has none.
    package var agentFailure: String?
    package var rendezvous: Rendezvous?
    /// Of the nodes on both ways and on those to the rendezvous.
    package var links: [Link] = []
    /// The routers on both ways, each once, from `from` to `to`.
    package var routers: [Router] = []
    package var datagrams: [Datagram] = []
    package var icmpErrors: [ICMPError] = []
    /// What firewalls dropped, by node.
    package var drops: [String: [PacketDrop]] = [:]
    /// Nodes of whose firewalls that is not known.
    package var untraced: Set<String> = []
    /// When the watch began and ended, by CLOCK_REALTIME.
    package var began: WallTime
    package var ended: WallTime
    /// The lab's hosts by the public keys that it has given them.
    package var hostsByKey: [PublicKey: String] = [:]
    /// Destinations that a node has no way for, and what its routes say instead: "no route", "a blackhole route".
    package var missingRoutes: [String: [IPAddress: String]] = [:]
    /// What could not be looked at, each as a sentence.
    package var gaps: [String] = []

    package init(
        interface: String, from: Side, to: Side, verdict: PairVerdict, theory: TraversalTheory.Verdict,
        began: WallTime, ended: WallTime
    ) {
        self.interface = interface
        self.from = from
        self.to = to
        self.verdict = verdict
        self.theory = theory
        self.began = began
        self.ended = ended
    }

    /// One of the two hosts.
    package struct Side: Sendable {
        package var tunnel: PlannedTunnel
        /// Nodes from the host up to its segment: itself, its routers from the inside, the segment.
        package var way: [String]
        /// The key that the lab has given it.
        package var labKey: PublicKey
        /// Nil where it cannot be read.
        package var device: WireGuardDevice?
        package var unreadable: String?
        /// Its WireGuard as it was before the watch.
        package var deviceBefore: WireGuardDevice?
        package var client: ClientStatus?
        /// The interface that its packets to the rendezvous leave by.
        package var serverInterface: String?
        /// Echoes that it alone sent before the other side did, and answers; nil where that was not tried.
        package var alone: (sent: Int, answered: Int)?
        /// Whether its WireGuard interface still has its address, and the interface that its packets for the other's address
        /// leave by; nil where that cannot be told.
        package var hasAddress: Bool?
        package var peerInterface: String?
        /// WireGuard's handshake initiations that reached it, as its private key reads them.
        package var initiations: [Initiation] = []

        package init(tunnel: PlannedTunnel, way: [String], labKey: PublicKey) {
            self.tunnel = tunnel
            self.way = way
            self.labKey = labKey
        }

        package var host: String { tunnel.host }
        package var address: IPAddress { tunnel.address.address }
        package var routers: [String] { Array(way.dropFirst().dropLast()) }
        /// The key that it has now.
        package var key: PublicKey { device?.publicKey ?? labKey }

        /// Whether a key is its own: the one that it has now, or the one that the lab has given it.
        func has(_ other: PublicKey) -> Bool { other == key || other == labKey }

        /// What its client knows of the other side.
        func word(of other: Side) -> ClientPeerStatus? { client?.peers.first { other.has($0.publicKey) } }
    }

    /// A handshake initiation that has arrived.
    package struct Initiation: Hashable, Sendable {
        package var time: Int64
        package var source: Endpoint
        package var reading: HandshakeInitiation.Reading
        package init(time: Int64, source: Endpoint, reading: HandshakeInitiation.Reading) {
            self.time = time
            self.source = source
            self.reading = reading
        }
    }

    package struct Rendezvous: Sendable {
        package var host: String
        package var port: UInt16
        package var endpoint: Endpoint
        /// From the host up to its segment.
        package var way: [String]
        /// Nil where the agent does not answer.
        package var server: ServerSnapshot?
        package init(host: String, port: UInt16, endpoint: Endpoint, way: [String], server: ServerSnapshot?) {
            self.host = host
            self.port = port
            self.endpoint = endpoint
            self.way = way
            self.server = server
        }
    }

    package struct Link: Hashable, Sendable {
        package var node: String
        package var interface: String
        package var isUp: Bool
        package var hasCarrier: Bool
        /// Bytes.
        package var mtu: Int
        package var isThere = true
        /// Whether what comes in here is sent on (net.ipv4.conf.NAME.forwarding); nil where that was not read.
        package var forwards: Bool?
        package init(node: String, interface: String, isUp: Bool, hasCarrier: Bool, mtu: Int) {
            self.node = node
            self.interface = interface
            self.isUp = isUp
            self.hasCarrier = hasCarrier
            self.mtu = mtu
        }
    }

    /// A router, and the UDP flows that its connection tracking knows.
    package struct Router: Sendable {
        package var name: String
        package var nat: PlannedNAT?
        package var before: [Flow]
        package var after: [Flow]
        package init(name: String, nat: PlannedNAT?, before: [Flow], after: [Flow]) {
            self.name = name
            self.nat = nat
            self.before = before
            self.after = after
        }
    }

    /// A UDP flow as connection tracking has it: what the NAT did is the difference between both directions.
    package struct Flow: Hashable, Sendable {
        package var source: Endpoint
        package var destination: Endpoint
        /// Where an answer comes from, and where to.
        package var replySource: Endpoint
        package var replyDestination: Endpoint
        package var isReplied: Bool
        /// Seconds left; nil where the kernel tells none.
        package var timeout: UInt32?

        package init(
            source: Endpoint, destination: Endpoint, replySource: Endpoint, replyDestination: Endpoint,
            isReplied: Bool, timeout: UInt32? = nil
        ) {
            self.source = source
            self.destination = destination
            self.replySource = replySource
            self.replyDestination = replyDestination
            self.isReplied = isReplied
            self.timeout = timeout
        }

        /// Nil for what is no UDP.
        package init?(_ entry: ConntrackEntry) {
            // IPPROTO_UDP.
            guard entry.original.proto == 17 else { return nil }
            self.init(
                source: Endpoint(entry.original.source, port: entry.original.sourcePort),
                destination: Endpoint(entry.original.destination, port: entry.original.destinationPort),
                replySource: Endpoint(entry.reply.source, port: entry.reply.sourcePort),
                replyDestination: Endpoint(entry.reply.destination, port: entry.reply.destinationPort),
                isReplied: entry.isReplied, timeout: entry.timeout)
        }

        /// The endpoint inside and the one it has outside; nil for flows that are not translated.
        package var mapping: (inner: Endpoint, outer: Endpoint, remote: Endpoint)? {
            if replyDestination != source { return (source, replyDestination, replySource) }
            if replySource != destination { return (replySource, destination, source) }
            return nil
        }
    }

    /// Each with the other, `from` first.
    var sides: [(side: Side, other: Side)] { [(from, to), (to, from)] }

    /// The side that is not this one.
    package func other(than side: Side) -> Side { side.host == from.host ? to : from }
    package func router(_ name: String) -> Router? { routers.first { $0.name == name } }
}
