import NetAddress
import SystemCalls
import TopologyModel

extension Bench {
    /// RFC 5780 section 4.4, each test with a fresh mapping; and what comes from outside to an internal
    /// address.
    func testFiltering() throws(OperationFailure) {
        guard let other = otherRemote, let stranger = stranger(Self.firstRemotePort) else {
            result.filtering = .none(Self.noSecondRemote)
            result.unsolicited = .none(Self.noSecondRemote)
            result.exposed = .none(Self.noSecondRemote)
            return
        }
        let opened = try outward((0..<4).map { _ in (fresh(), remote) })
        let external = opened.compactMap { $0.sighting?.source }
        guard external.count == opened.count else {
            result.filtering = .none(Classification.nothingArrived)
            return
        }
        var flows = [
            (remote, external[0]), (remoteOtherPort, external[1]), (other, external[2]),
            (stranger, external[3]),
        ]
        // To a port that no mapping has.
        let inner = fresh()
        note(internal: inner)
        if request.scope == .router { flows.append((stranger, inner)) }
        let outcomes = try inward(flows)
        // At whichever host: where ports are random, another mapping may have the same now and then.
        func isDelivered(_ index: Int) -> Bool { outcomes[index].sighting?.side == .inside }
        result.filtering = Classification.filtering(
            .init(contacted: isDelivered(0), otherPort: isDelivered(1), stranger: isDelivered(3)))
        if result.filtering.value == .addressDependent || result.filtering.value == .addressAndPortDependent,
            isDelivered(2)
        {
            result.filtering.evidence += "; also an address that other ports of the host had sent to"
        }
        result.unsolicited =
            if isDelivered(3) {
                Finding(.delivered, "\(stranger) was let in")
            } else if let error = outcomes[3].error {
                Finding(.refused, "\(error.sender) answers with ICMP type \(error.type), code \(error.code)")
            } else {
                Finding(.silent, "nothing arrived inside, and no ICMP outside")
            }
        guard request.scope == .router else { return }
        result.exposed =
            outcomes[4].arrived
            ? Finding(true, "a packet from \(stranger) to \(inner) arrived inside")
            : Finding(false, "no packet from \(stranger) to \(inner) arrived inside")
    }
}
