import NetAddress
package import TopologyModel

/// What the NATs between a host and a network outside do together.
///
/// A path is as dependent as its most dependent NAT: another port at one NAT is another port at all behind it, and what one
/// filters no other lets in.
package struct NATPath: Hashable, Sendable {
    package struct Hop: Hashable, Sendable {
        package var router: String
        package var mapping: NATDependence
        package var filtering: NATDependence
        package var udp: NATUDP
    }

    /// From the host outward.
    package var hops: [Hop]

    package init(_ hops: [Hop] = []) { self.hops = hops }

    package var mapping: NATDependence { hops.map(\.mapping).max() ?? .endpointIndependent }
    package var filtering: NATDependence { hops.map(\.filtering).max() ?? .endpointIndependent }

    /// The first on the way that lets no UDP through.
    package var barrier: Hop? { hops.first { $0.udp != .forward } }

    /// The first that is as dependent as the whole.
    var mapper: Hop? { hops.first { $0.mapping == mapping } }
    var filter: Hop? { hops.first { $0.filtering == filtering } }
}

extension PlannedNAT {
    /// The NAT as a host's WireGuard port, or any other endpoint inside, passes it.
    ///
    /// An address or port that always leads to the host is endpoint-independent both ways. MASQUERADE does not use a forward
    /// for what goes out, so there the forward counts only where it keeps the port.
    func hop(_ router: String, _ inner: Endpoint?) -> NATPath.Hop {
        let isStatic = inner.map(leadsAlways) ?? false
        return NATPath.Hop(
            router: router, mapping: isStatic ? .endpointIndependent : behaviour.mapping,
            filtering: isStatic ? .endpointIndependent : behaviour.filtering, udp: behaviour.udp)
    }

    private func leadsAlways(to inner: Endpoint) -> Bool {
        if oneToOne.contains(where: { $0.inner == inner.address }) { return true }
        return forwards.contains { forward in
            guard forward.transport == .udp, forward.inner == inner else { return false }
            return engine == .nftables || forward.external.port == inner.port
        }
    }
}
