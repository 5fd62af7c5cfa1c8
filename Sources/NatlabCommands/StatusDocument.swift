import LabPlanner
import NetAddress
import WireGuardKeys

/// What `status` shows; docs/json.md documents the JSON form.
///
/// Every key is always there, null where there is nothing, so each type encodes itself: what the compiler makes leaves
/// a nil out.
struct StatusReport: Encodable {
    /// What a link does to the packets of each direction.
    struct Link: Encodable, CustomStringConvertible {
        var shape: LinkShape

        var description: String { shape.description }

        private enum CodingKeys: String, CodingKey {
            case delay = "delay_us"
            case jitter = "jitter_us"
            case loss = "loss_ppm"
            case rate = "rate_bit_per_s"
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(shape.delay, forKey: .delay)
            try container.encode(shape.jitter, forKey: .jitter)
            try container.encode(shape.loss, forKey: .loss)
            try container.encode(shape.rate, forKey: .rate)
        }
    }

    struct Node: Encodable {
        var name: String
        var kind: String
        var namespace: String
        var uplink: String?
        var nat: String?
        /// By interface.
        var addresses: [String: IPPrefix]
        /// Of the link to the uplink.
        var link: Link?

        private enum CodingKeys: String, CodingKey {
            case name, kind, namespace, uplink, nat, addresses, link
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(name, forKey: .name)
            try container.encode(kind, forKey: .kind)
            try container.encode(namespace, forKey: .namespace)
            try container.encode(uplink, forKey: .uplink)
            try container.encode(nat, forKey: .nat)
            try container.encode(addresses, forKey: .addresses)
            try container.encode(link, forKey: .link)
        }
    }

    struct Tunnel: Encodable {
        var host: String
        var interface: String
        var backend: String
        var address: IPPrefix
        var publicKey: PublicKey?
        var listenPort: UInt16?
        /// Why it could not be read.
        var problem: String?
        /// How its rendezvous client stands, in words.
        var client: String?
        var peers: [Peer]

        private enum CodingKeys: String, CodingKey {
            case host, interface, backend, address, problem, client, peers
            case publicKey = "public_key"
            case listenPort = "listen_port"
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(host, forKey: .host)
            try container.encode(interface, forKey: .interface)
            try container.encode(backend, forKey: .backend)
            try container.encode(address, forKey: .address)
            try container.encode(publicKey, forKey: .publicKey)
            try container.encode(listenPort, forKey: .listenPort)
            try container.encode(problem, forKey: .problem)
            try container.encode(client, forKey: .client)
            try container.encode(peers, forKey: .peers)
        }
    }

    struct Peer: Encodable {
        /// Nil for a key that is no host's of the lab.
        var host: String?
        var publicKey: PublicKey
        var endpoint: Endpoint?
        var endpointOwner: String?
        var allowedIPs: [IPPrefix]
        /// Seconds, 0 for off.
        var keepalive: UInt16
        /// Seconds.
        var handshakeAge: Double?
        /// Milliseconds from both sides' clients being up.
        var firstHandshake: Double?
        var receivedBytes: UInt64
        var sentBytes: UInt64
        var client: String?

        private enum CodingKeys: String, CodingKey {
            case host, endpoint, client
            case publicKey = "public_key"
            case endpointOwner = "endpoint_owner"
            case allowedIPs = "allowed_ips"
            case keepalive = "keepalive_s"
            case handshakeAge = "handshake_age_s"
            case firstHandshake = "first_handshake_ms"
            case receivedBytes = "received_bytes"
            case sentBytes = "sent_bytes"
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(host, forKey: .host)
            try container.encode(publicKey, forKey: .publicKey)
            try container.encode(endpoint, forKey: .endpoint)
            try container.encode(endpointOwner, forKey: .endpointOwner)
            try container.encode(allowedIPs, forKey: .allowedIPs)
            try container.encode(keepalive, forKey: .keepalive)
            try container.encode(handshakeAge, forKey: .handshakeAge)
            try container.encode(firstHandshake, forKey: .firstHandshake)
            try container.encode(receivedBytes, forKey: .receivedBytes)
            try container.encode(sentBytes, forKey: .sentBytes)
            try container.encode(client, forKey: .client)
        }
    }

    struct Rendezvous: Encodable {
        var host: String
        var endpoint: Endpoint
        var publicKey: PublicKey?
        /// How many clients the server knows an address of.
        var registered: Int?
        var problem: String?

        private enum CodingKeys: String, CodingKey {
            case host, endpoint, registered, problem
            case publicKey = "public_key"
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(host, forKey: .host)
            try container.encode(endpoint, forKey: .endpoint)
            try container.encode(publicKey, forKey: .publicKey)
            try container.encode(registered, forKey: .registered)
            try container.encode(problem, forKey: .problem)
        }
    }

    var lab: String
    /// Seconds since `up` was done.
    var age: Double
    var nodes: [Node]
    var wireguard: [Tunnel]
    var rendezvous: Rendezvous?

    private enum CodingKeys: String, CodingKey {
        case lab, nodes, wireguard, rendezvous
        case age = "age_s"
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(lab, forKey: .lab)
        try container.encode(age, forKey: .age)
        try container.encode(nodes, forKey: .nodes)
        try container.encode(wireguard, forKey: .wireguard)
        try container.encode(rendezvous, forKey: .rendezvous)
    }
}
