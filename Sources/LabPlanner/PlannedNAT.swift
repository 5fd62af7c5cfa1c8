package import NetAddress
package import TopologyModel

/// A router's NAT as it is built: what makes it, what it is declared to do, the addresses it has.
package struct PlannedNAT: Codable, Hashable, Sendable {
    package var engine: Topology.NAT.Engine
    package var behaviour: NATBehaviour
    /// Addresses of `wan0` that mappings get.
    package var externals: [IPAddress]
    /// Addresses that it sees on its LAN side, in the order of the file.
    package var inside: [IPAddress]
    package var forwards: [PlannedForward]
    package var oneToOne: [PlannedOneToOne]

    private enum CodingKeys: String, CodingKey {
        case engine, behaviour, externals, inside, forwards
        case oneToOne = "one_to_one"
    }

    package init(
        engine: Topology.NAT.Engine, behaviour: NATBehaviour, externals: [IPAddress],
        inside: [IPAddress] = [],
        forwards: [PlannedForward] = [], oneToOne: [PlannedOneToOne] = []
    ) {
        self.engine = engine
        self.behaviour = behaviour
        self.externals = externals
        self.inside = inside
        self.forwards = forwards
        self.oneToOne = oneToOne
    }

    /// The external address that an internal endpoint's mappings have; nil where it is any of several.
    ///
    /// - Parameters:
    ///   - inner: nil where it is not known.
    ///   - port: UDP; nil where it is not known.
    package func external(for inner: IPAddress?, port: UInt16?) -> IPAddress? {
        if let own = oneToOne.first(where: { $0.inner == inner }) { return own.external }
        if engine == .nftables, let inner, let port, let own = forward(of: Endpoint(inner, port: port)) {
            return own.external.address
        }
        if externals.count == 1 { return externals[0] }
        guard behaviour.pooling == .paired, let inner, let number = inside.firstIndex(of: inner) else {
            return nil
        }
        return externals[number % externals.count]
    }

    /// The forward that an internal endpoint also goes out by: the first of several.
    package func forward(of inner: Endpoint, _ transport: Topology.Transport = .udp) -> PlannedForward? {
        forwards.first { $0.transport == transport && $0.inner == inner }
    }
}

/// An external port that always leads to one internal endpoint.
package struct PlannedForward: Codable, Hashable, Sendable {
    package var transport: Topology.Transport
    package var external: Endpoint
    package var host: String
    package var inner: Endpoint

    package init(transport: Topology.Transport, external: Endpoint, host: String, inner: Endpoint) {
        self.transport = transport
        self.external = external
        self.host = host
        self.inner = inner
    }
}

/// An external address that always leads to one host.
package struct PlannedOneToOne: Codable, Hashable, Sendable {
    package var external: IPAddress
    package var host: String
    package var inner: IPAddress

    package init(external: IPAddress, host: String, inner: IPAddress) {
        self.external = external
        self.host = host
        self.inner = inner
    }
}
