import NetAddress
import SystemCalls
import TopologyModel

extension Bench {
    /// Whether one host reaches the other's external endpoint, and which source that one sees.
    func testHairpin() throws(OperationFailure) {
        if let notTranslated {
            result.hairpin = .none(notTranslated)
            return
        }
        guard let secondHost else {
            result.hairpin = .none(Self.noSecondHost)
            return
        }
        let first = fresh()
        let second = Endpoint(secondHost, port: freshPort())
        let opened = try outward([(first, remote), (second, remote)])
        guard let external = opened[0].sighting?.source, let otherExternal = opened[1].sighting?.source else {
            result.hairpin = .none(Classification.nothingArrived)
            return
        }
        // The first host's filter lets in only what it has sent to; that this arrives is not asked for.
        let opening = Shot.outward(first, otherExternal)
        let number = try exchange.insist(opening)
        _ = try exchange.wait(exchange.patience / 2) { exchange.outcome(of: number, opening).sighting != nil }
        let outcome = try exchange.deliver([.outward(second, external)])[0]
        guard let sighting = outcome.sighting, sighting.side == .inside else {
            if result.mapping.value == .endpointIndependent || result.filtering.value == .endpointIndependent
            {
                result.hairpin = Finding(Hairpin.none, "\(second) did not reach \(first) at \(external)")
            } else {
                result.hairpin = .none(
                    "mapping and filtering let no host in at an endpoint that it could know")
            }
            return
        }
        if sighting.source != second { note(external: sighting.source) }
        let isExternal =
            request.externalAddresses.contains(sighting.source.address)
            || sighting.source.address == otherExternal.address
        result.hairpin = Finding(
            isExternal ? .external : sighting.source == second ? .internal : .other,
            "\(second) reached \(first) at \(external), as \(sighting.source)")
    }
}
