import NetAddress
package import TopologyModel

/// Clients that are told to look for the rendezvous where it is not; a file may mean it, so it is no error.
package func clientWarnings(_ topology: Topology, fileName: String) -> [Diagnostic] {
    guard topology.hosts.contains(where: { $0.client?.endpoint != nil }) else { return [] }
    let plan = compile(topology)
    guard let rendezvous = plan.rendezvous else { return [] }
    return topology.hosts.compactMap { host in
        guard let client = host.client, let endpoint = client.endpoint, !plan.leads(endpoint, to: rendezvous)
        else { return nil }
        return Diagnostic(
            .warning,
            "\(endpoint) is not where the rendezvous listens (\(rendezvous.endpoint)): `\(host.name)` will get no "
                + "answer", file: fileName, at: client.span,
            hint: "leave `endpoint` out unless you want that")
    }
}

extension LabPlan {
    /// Whether the server is there: at its host's own address, where the others look for it, or behind a port or an
    /// address that a router always leads there.
    fileprivate func leads(_ endpoint: Endpoint, to rendezvous: PlannedRendezvous) -> Bool {
        if endpoint == rendezvous.endpoint { return true }
        let host = nodes.first { $0.name == rendezvous.host }
        if endpoint.port == rendezvous.port,
            host?.interfaces.contains(where: { $0.address.address == endpoint.address }) == true
        {
            return true
        }
        return nodes.compactMap(\.translation).contains { nat in
            nat.forwards.contains {
                $0.transport == .udp && $0.external == endpoint && $0.host == rendezvous.host
                    && $0.inner.port == rendezvous.port
            }
                || nat.oneToOne.contains {
                    $0.external == endpoint.address && $0.host == rendezvous.host
                        && endpoint.port == rendezvous.port
                }
        }
    }
}
