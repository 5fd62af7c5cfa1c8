/// Why two hosts do not reach each other.
///
/// The raw values are those of the JSON. In the order in which one explains the other: of several that are found the first is
/// the verdict.
package enum Cause: String, Codable, Hashable, Sendable, CaseIterable {
    /// The program behind a WireGuard interface does not answer, or the interface is gone.
    case wireGuardDead = "wireguard-dead"
    /// A link on the way is down.
    case interfaceDown = "interface-down"
    /// The lab's agent, which runs rendezvous server and clients, does not answer.
    case agentDead = "agent-dead"
    /// A side has another public key for its peer than the peer's.
    case wrongPublicKey = "wrong-public-key"
    /// One or both do not list the other.
    case notMutualPeers = "not-mutual-peers"
    /// Cryptokey routing (WireGuard paper, section 2) has no way for the other's address, in or out.
    case allowedIPs = "allowed-ips"
    /// A handshake's TAI64N timestamp is not later than one that was accepted (WireGuard paper, section 5.1).
    case timestampRefused = "timestamp-refused"
    case wrongPresharedKey = "wrong-preshared-key"
    /// WireGuard sends to where neither the topology nor the rendezvous nor the peer has said.
    case endpointOverwritten = "endpoint-overwritten"
    /// What a client sends to the rendezvous goes into the tunnel that it is to help to set up.
    case throughTunnel = "rendezvous-through-tunnel"
    case wrongServerKey = "wrong-server-key"
    /// A router has its forwarding switched off.
    case notForwarded = "not-forwarded"
    /// A host or router has no route to where a packet goes, or one that refuses it.
    case noRoute = "no-route"
    /// Nobody listens where a client looks for the rendezvous.
    case rendezvousDown = "rendezvous-down"
    /// A firewall on the way out lets a host's UDP not pass.
    case droppedOutbound = "udp-dropped-outbound"
    case rendezvousUnreachable = "rendezvous-unreachable"
    /// The rendezvous does not know the key that it is asked for.
    case unknownKey = "unknown-key"
    /// Both are behind one NAT that does not let them reach each other's external endpoints (RFC 4787 section 6).
    case hairpinMissing = "hairpin-missing"
    /// A firewall on the way in, other than a NAT's own filtering.
    case droppedInbound = "udp-dropped-inbound"
    /// The peer's packet came before the hole was punched, and its flow took the port that the mapping had.
    case mappingStolen = "mapping-stolen"
    case mappingExpired = "mapping-expired"
    /// A mapping that depends on the destination (RFC 4787 section 4.1).
    case symmetricNAT = "symmetric-nat"
    /// A NAT has no mapping for the endpoint that is sent to, and has had none.
    case noMapping = "no-mapping"
    /// Lost on the way, and nothing tells by whom.
    case lost
    /// Nobody tells a side where the other is.
    case noEndpoint = "no-endpoint"
    /// Small packets pass, those of the tunnel's MTU do not.
    case mtuTooSmall = "mtu-too-small"
    /// They reach each other, but through somebody else.
    case notDirect = "not-direct"
    /// WireGuard's packets pass both ways, what they carry does not.
    case insideTunnel = "inside-tunnel"
    case unexplained
}

/// Something that was found to be wrong.
package struct Finding: Codable, Hashable, Sendable {
    package var cause: Cause
    /// The host, router or segment where it is.
    package var node: String?
    /// One sentence, without a full stop.
    package var text: String
    /// What would help; nil where that depends.
    package var mend: String?

    package init(_ cause: Cause, at node: String?, _ text: String, mend: String? = nil) {
        self.cause = cause
        self.node = node
        self.text = text
        self.mend = mend
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(cause, forKey: .cause)
        try container.encode(node, forKey: .node)
        try container.encode(text, forKey: .text)
        try container.encode(mend, forKey: .mend)
    }
}
