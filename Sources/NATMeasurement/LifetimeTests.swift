import NetAddress
import SystemCalls
import TopologyModel

/// A mapping that is tested once, at an age of its own.
private struct AgingMapping {
    enum Refresh {
        case none
        case outbound
        case inbound
    }
    let refresh: Refresh
    /// At which it is to be tested, in seconds.
    let age: Double
    let opening: Shot
    let external: Endpoint
    /// The opening packet's.
    let start: MonotonicTime
    /// The test packet's number and shot.
    var test: (number: UInt32, shot: Shot, age: Double)?

    init(_ refresh: Refresh, age: Double, opened: Outcome, _ sighting: Sighting) {
        self.refresh = refresh
        self.age = age
        opening = opened.shot
        external = sighting.source
        start = sighting.time
    }
}

extension Bench {
    /// Opens many mappings at once and tests each once at its own age.
    ///
    /// Once only, since the test is itself a packet that a mapping may live longer for. Takes as long as the
    /// longest lifetime looked for.
    func testLifetime() throws(OperationFailure) {
        if let notTranslated {
            note(lifetime: .none(notTranslated), .none(notTranslated), .none(notTranslated))
            return
        }
        guard let longest = request.lifetime else {
            let reason = "not asked for"
            note(lifetime: .none(reason), .none(reason), .none(reason))
            return
        }
        guard result.filtering.value != nil else {
            let reason = "it is not known whom the router lets in"
            note(lifetime: .none(reason), .none(reason), .none(reason))
            return
        }
        var mappings = try open(longest: Double(longest))
        try age(&mappings)
        func tested(_ refresh: AgingMapping.Refresh) -> [(age: Double, alive: Bool)] {
            mappings.compactMap { mapping in
                guard mapping.refresh == refresh, let test = mapping.test else { return nil }
                return (test.age, exchange.outcome(of: test.number, test.shot).arrived)
            }
        }
        let lifetime = Classification.lifetime(tested(.none))
        note(
            lifetime: lifetime,
            Classification.refresh(tested(.outbound), lifetime: lifetime.value, what: "a packet from inside"),
            Classification.refresh(tested(.inbound), lifetime: lifetime.value, what: "a packet from outside"))
    }

    private func note(lifetime: Finding<Lifetime>, _ outbound: Finding<Bool>, _ inbound: Finding<Bool>) {
        result.lifetime = lifetime
        result.outboundRefresh = outbound
        result.inboundRefresh = inbound
    }

    /// So many ages, evenly spread, and as many as half of them for each kind of refreshing packet.
    private static let ages = 40
    /// The least seconds between two ages.
    private static let leastStep = 0.25

    private func open(longest: Double) throws(OperationFailure) -> [AgingMapping] {
        let count = max(4, min(Self.ages, Int(longest / Self.leastStep)))
        let step = longest / Double(count)
        var plan = (1...count).map { (refresh: AgingMapping.Refresh.none, age: Double($0) * step) }
        for number in 1...max(2, count / 2) {
            plan.append((.outbound, Double(number) * longest / Double(max(2, count / 2))))
            plan.append((.inbound, Double(number) * longest / Double(max(2, count / 2))))
        }
        let outcomes = try outward(plan.map { _ in (fresh(), remote) })
        return zip(plan, outcomes).compactMap { plan, outcome in
            outcome.sighting.map { AgingMapping(plan.refresh, age: plan.age, opened: outcome, $0) }
        }
    }

    /// Sends each mapping its packets at their times.
    private func age(_ mappings: inout [AgingMapping]) throws(OperationFailure) {
        enum Event {
            case refresh
            case test
        }
        var events: [(time: MonotonicTime, index: Int, event: Event)] = []
        for (index, mapping) in mappings.enumerated() {
            events.append((mapping.start + .seconds(mapping.age), index, .test))
            guard mapping.refresh != .none else { continue }
            events.append(
                (mapping.start + .seconds(mapping.age * Classification.refreshPoint), index, .refresh))
        }
        for (time, index, event) in events.sorted(by: { $0.time < $1.time }) {
            _ = try exchange.wait(max(.zero, time - .now())) { MonotonicTime.now() >= time }
            switch event {
            case .refresh: try refresh(mappings[index])
            case .test: mappings[index].test = try test(mappings[index], index)
            }
        }
        let all = mappings.compactMap(\.test)
        _ = try exchange.wait(exchange.patience) {
            all.allSatisfy { exchange.outcome(of: $0.number, $0.shot).arrived }
        }
    }

    private func refresh(_ mapping: AgingMapping) throws(OperationFailure) {
        let shot =
            mapping.refresh == .outbound
            ? Shot.outward(mapping.opening.source, remote) : Shot.inward(remote, mapping.external)
        _ = try exchange.insist(shot)
    }

    /// From an address that was never sent to where the router lets that in: connection tracking then knows
    /// nothing of it, and it is the mapping that is tested.
    private func test(
        _ mapping: AgingMapping, _ index: Int
    ) throws(OperationFailure) -> (number: UInt32, shot: Shot, age: Double) {
        let tester =
            result.filtering.value == .endpointIndependent
            ? stranger(Self.secondRemotePort + 100 + UInt16(truncatingIfNeeded: index)) : nil
        let shot = Shot.inward(tester ?? remote, mapping.external)
        // A lost packet could not be sent again later.
        let number = try exchange.insist(shot)
        let age = Double((MonotonicTime.now() - mapping.start).wholeNanoseconds) / 1e9
        return (number, shot, age)
    }
}
