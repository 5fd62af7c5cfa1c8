import NetAddress
import SystemCalls
import TopologyModel

extension Bench {
    /// RFC 5780 section 4.4, each test with a fresh mapping.
    func testFiltering() throws(OperationFailure) {
        guard let other = otherRemote, let stranger = stranger(Self.firstRemotePort) else {
            result.filtering = .none(Self.noSecondRemote)
            result.unsolicited = .none(Self.noSecondRemote)
            return
        }
        let opened = try outward((0..<4).map { _ in (fresh(), remote) })
        let external = opened.compactMap { $0.sighting?.source }
        guard external.count == opened.count else {
            result.filtering = .none(Classification.nothingArrived)
            return
        }
        let outcomes = try inward([
            (remote, external[0]), (remoteOtherPort, external[1]), (other, external[2]),
            (stranger, external[3]),
        ])
        // At whichever host: where ports are random, another mapping may have the same now and then.
        func isDelivered(_ index: Int) -> Bool { outcomes[index].sighting?.side == .inside }
        result.filtering = Classification.filtering(
            .init(contacted: isDelivered(0), otherPort: isDelivered(1), stranger: isDelivered(3)))
        if result.filtering.value == .addressDependent || result.filtering.value == .addressAndPortDependent,
            isDelivered(2)
        {
            result.filtering.evidence += "; also an address that other ports of the host had sent to"
        }
        result.unsolicited = reaction(to: outcomes[3])
    }

    /// What the sender of a packet from outside learns.
    private func reaction(to outcome: Outcome) -> Finding<Unsolicited> {
        if outcome.sighting?.side == .inside {
            return Finding(.delivered, "\(outcome.shot.source) was let in")
        }
        if let error = outcome.error {
            return Finding(
                .refused, "\(error.sender) answers with ICMP type \(error.type), code \(error.code)")
        }
        return Finding(.silent, "nothing arrived inside, and no ICMP outside")
    }

    /// What somebody outside meets who has no mapping to send to: a closed port, and the internal addresses themselves.
    func testOutside() throws(OperationFailure) {
        guard let stranger = stranger(Self.firstRemotePort), let external = request.externalAddresses.first
        else {
            result.closedPort = .none(Self.noSecondRemote)
            result.exposed = .none(Self.noSecondRemote)
            return
        }
        let inner = fresh()
        note(internal: inner)
        // Where ports are random, a mapping may have one of them now and then.
        let ports = [Endpoint(external, port: freshPort()), Endpoint(external, port: freshPort())]
        for port in ports { note(external: port) }
        let closed = try inward(ports.map { (stranger, $0) }).map(reaction)
        result.closedPort = closed.first { $0.value != .delivered } ?? closed[0]
        let leaks = [
            try inward([(stranger, inner)])[0], try inward([(stranger, inner)], .syn)[0],
        ].filter { $0.sighting?.side == .inside }
        result.exposed =
            leaks.isEmpty
            ? Finding(false, "no packet from \(stranger) to \(inner) arrived inside")
            : Finding(true, "a packet from \(stranger) to \(inner) arrived inside")
    }
}
