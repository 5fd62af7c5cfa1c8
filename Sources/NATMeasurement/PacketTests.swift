import NetAddress
import SystemCalls

extension Bench {
    /// ICMP errors from outside about what the NAT has translated (RFC 4787 section 8).
    func testICMP() throws(OperationFailure) {
        let opened = try outward([(fresh(), remote)])[0]
        guard let sighting = opened.sighting else {
            result.icmp = .none(Classification.nothingArrived)
            result.icmpSurvived = .none(Classification.nothingArrived)
            return
        }
        var error: ErrorSighting?
        for _ in 0..<exchange.tries where error == nil {
            try exchange.refuse(opened.number, sighting)
            _ = try exchange.wait(exchange.patience) {
                exchange.outcome(of: opened.number, opened.shot).error?.side == .inside
            }
            error = exchange.outcome(of: opened.number, opened.shot).error
        }
        result.icmp =
            if let error {
                Finding(
                    error.source == opened.shot.source && error.destination == opened.shot.destination,
                    "\"port unreachable\" about \(sighting.source) arrived inside about \(error.source)")
            } else {
                Finding(false, "\"port unreachable\" about \(sighting.source) did not arrive inside")
            }
        let alive = try inward([(remote, sighting.source)])[0].arrived
        result.icmpSurvived = Finding(
            alive, "after it, a packet to \(sighting.source) \(alive ? "arrived" : "did not arrive") inside")
    }

    /// UDP in two fragments (RFC 4787 section 11).
    func testFragments() throws(OperationFailure) {
        let flows = [(fresh(), remote), (fresh(), remote)]
        let forward = try outward([flows[0]], .fragments(reversed: false))[0]
        let reversed = try outward([flows[1]], .fragments(reversed: true))[0]
        func finding(_ arrived: Bool, _ where: String) -> Finding<Bool> {
            Finding(
                arrived, "a datagram in two fragments \(arrived ? "arrived" : "did not arrive") \(`where`)")
        }
        result.fragments = finding(forward.arrived, "outside")
        result.fragmentsReversed = finding(reversed.arrived, "outside, the last fragment first")
        guard let external = try map(fresh(), to: remote) else {
            result.fragmentsInward = .none(Classification.nothingArrived)
            return
        }
        let inward = try exchange.deliver([.inward(remote, external, .fragments(reversed: false))])[0]
        result.fragmentsInward = finding(inward.arrived, "inside")
    }

    /// Whether a host that was never sent to reaches what is behind each static forward.
    func testForwards() throws(OperationFailure) {
        guard !request.forwards.isEmpty else { return }
        guard
            let stranger = stranger(Self.secondRemotePort + 5)
                ?? remotes.first.map({ Endpoint($0, port: 3484) })
        else { return }
        let pairs = request.forwards.map { forward in
            let port = forward.externalPort ?? forward.internalPort ?? freshPort()
            return (
                external: Endpoint(forward.external, port: port),
                inner: Endpoint(forward.internal, port: forward.internalPort ?? port)
            )
        }
        noteForwards(from: stranger)
        let outcomes = try exchange.deliver(pairs.map { .inward(stranger, $0.external) })
        result.forwards = zip(pairs, outcomes).map { pair, outcome in
            let works = outcome.sighting?.destination == pair.inner
            let seen = outcome.sighting.map { "arrived at \($0.destination)" } ?? "did not arrive"
            return ForwardFinding(
                external: "\(pair.external)", internal: "\(pair.inner)",
                works: Finding(works, "a packet from \(stranger) \(seen)"))
        }
    }
}
