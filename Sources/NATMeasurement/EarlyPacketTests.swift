import NetAddress
import SystemCalls
import TopologyModel

extension Bench {
    /// A remote endpoint sends to a mapping before the host sends to it, as in hole punching.
    func testEarlyPacket() throws(OperationFailure) {
        if let notTranslated {
            result.earlyPacket = .none(notTranslated)
            return
        }
        // Random ports meet one that another mapping has now and then, and the early packet goes there: lost
        // twice counts.
        for attempt: UInt16 in 0..<2 {
            guard let early = earlyRemote(Self.secondRemotePort + 1 + attempt) else {
                result.earlyPacket = .none(
                    remotes.count < 2
                        ? Self.noSecondRemote
                        : "each remote endpoint sees another port, with an early packet or without")
                return
            }
            result.earlyPacket = try earlyPacket(from: early)
            if result.earlyPacket.value != .lost { return }
        }
    }

    private func earlyPacket(from early: Endpoint) throws(OperationFailure) -> Finding<EarlyPacket> {
        let endpoint = fresh()
        guard let external = try map(endpoint, to: remote) else {
            return .none(Classification.nothingArrived)
        }
        // That it arrives nowhere is what most routers make of it, so no arrival tells that it has come.
        let shot = Shot.inward(early, external)
        let number = try exchange.insist(shot)
        _ = try exchange.wait(exchange.patience) {
            let outcome = exchange.outcome(of: number, shot)
            return outcome.sighting != nil || outcome.error != nil
        }
        guard let seen = try map(endpoint, to: early) else {
            return .none("the host's own packet did not arrive outside")
        }
        return seen == external
            ? Finding(.kept, "\(early) sent to \(external) first and sees \(seen)")
            : Finding(.lost, "\(early) sent to \(external) first and sees \(seen) instead")
    }

    /// One that would see the mapping to `remote` without an early packet too, or that is let in by it; nil:
    /// there is none.
    private func earlyRemote(_ port: UInt16) -> Endpoint? {
        if result.mapping.value == .endpointIndependent || result.filtering.value == .endpointIndependent {
            return stranger(port)
        }
        if result.mapping.value == .addressDependent || result.filtering.value == .addressDependent {
            return Endpoint(remote.address, port: port)
        }
        return nil
    }

    /// Whether the host sees remote endpoints as they are, also where the answer to an inbound packet would
    /// clash with a flow of another mapping to the same remote endpoint.
    func testRemoteSource() throws(OperationFailure) {
        try provokeRewriting()
        if let outcome = rewritten.first, let sighting = outcome.sighting {
            result.remoteSource = Finding(
                .rewritten, "\(sighting.destination) saw \(outcome.shot.source) as \(sighting.source)")
        } else if inwardArrivals > 0 {
            result.remoteSource = Finding(
                .kept, "\(inwardArrivals) of \(inwardArrivals) packets had their source")
        } else {
            result.remoteSource = .none("nothing was let in")
        }
    }

    private func provokeRewriting() throws(OperationFailure) {
        guard let mapping = result.mapping.value, mapping != .endpointIndependent else { return }
        let port = Self.secondRemotePort + 3
        let clashing: Endpoint? =
            switch result.filtering.value {
            case .endpointIndependent: stranger(port)
            case .addressDependent where mapping == .addressAndPortDependent:
                Endpoint(remote.address, port: port)
            default: nil
            }
        guard let clashing else { return }
        let endpoint = fresh()
        guard let external = try map(endpoint, to: remote), try map(endpoint, to: clashing) != nil else {
            return
        }
        _ = try inward([(clashing, external)])
    }
}
