import NetAddress
package import TopologyModel

/// Turns a topology into everything that `up` does.
///
/// The same topology gives the same plan, to the byte. Nothing is looked up on the machine.
package func compile(_ topology: Topology) -> LabPlan {
    let underlay = Underlay(topology)
    let tunnels = TunnelPlanner(topology, underlay)
    let hubs = topology.networks.compactMap { network in
        if case .hub(let number) = network.peers { network.members[number].host } else { nil }
    }
    let network = NetworkPlanner(underlay, hubs: Set(hubs))

    var steps = network.steps() + tunnels.steps()
    let rendezvous = tunnels.rendezvous()
    if rendezvous != nil {
        steps.append(PlanStep(.startAgent, inverse: .stopAgent, line: topology.rendezvous?.position.line))
    }
    let nodes = network.nodes()
    let planned = tunnels.tunnels.map(\.planned)
    let theory = TraversalTheory(nodes: nodes, tunnels: planned, rendezvous: rendezvous)
    return LabPlan(
        lab: topology.name, nodes: nodes, tunnels: planned, rendezvous: rendezvous,
        pairs: tunnels.pairs(theory), steps: steps)
}
