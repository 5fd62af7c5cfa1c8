import NetAddress
import SystemCalls
import TopologyModel

extension Bench {
    /// Which external ports new mappings get.
    func testPorts() throws(OperationFailure) {
        if let notTranslated {
            result.ports = .none(notTranslated)
            result.preserved = .none(notTranslated)
            result.parity = .none(notTranslated)
            result.pooling = .none(notTranslated)
            return
        }
        // Half of the ports are far from the others: a host's block of ports may hold one half, which it then
        // keeps.
        let near = (0..<8).map { _ in freshPort() }
        let far = (0..<8).map { _ in freshPort() + Self.farPorts }
        let endpoints = (near + far).enumerated().map { index, port in
            Endpoint(hosts[index % hosts.count], port: port)
        }
        // In the order of arrival: what was lost and sent again got its port later.
        let arrivals = try outward(endpoints.map { ($0, remote) })
            .compactMap { outcome in outcome.sighting.map { (outcome.shot.source, $0) } }
            .sorted { $0.1.time < $1.1.time }
        let samples = arrivals.map { endpoint, sighting in
            Classification.PortSample(
                host: hosts.firstIndex(of: endpoint.address) ?? 0, internalPort: endpoint.port,
                externalPort: sighting.source.port)
        }
        result.ports = Classification.ports(samples)
        result.preserved = Classification.preserved(samples)
        result.parity = Classification.parity(samples)
    }

    static let farPorts: UInt16 = 32_768

    /// Two hosts that use the same port, towards the same and towards different destinations.
    func testSharing() throws(OperationFailure) {
        if let notTranslated {
            result.sharing = .none(notTranslated)
            result.sharedDelivery = .none(notTranslated)
            return
        }
        guard let secondHost, let otherRemote else {
            let reason = secondHost == nil ? Self.noSecondHost : Self.noSecondRemote
            result.sharing = .none(reason)
            result.sharedDelivery = .none(reason)
            return
        }
        let same = freshPort()
        // Random ports are the same now and then: twice counts.
        let different = [freshPort(), freshPort()]
        let flows =
            [(Endpoint(host, port: same), remote), (Endpoint(secondHost, port: same), remote)]
            + different.flatMap {
                [(Endpoint(host, port: $0), remote), (Endpoint(secondHost, port: $0), otherRemote)]
            }
        let opened = try outward(flows)
        let external = opened.compactMap { $0.sighting?.source }
        guard external.count == flows.count else {
            // The second host to the same destination cannot be served where every port is overloaded.
            result.sharing = .none(Classification.nothingArrived)
            result.sharedDelivery = .none(Classification.nothingArrived)
            return
        }
        if let plain = zip(flows, external).first(where: { !request.externalAddresses.contains($1.address) })
        {
            let reason = "\(plain.0.0) came out as \(plain.1), which is none of the router's addresses"
            result.sharing = .none(reason)
            result.sharedDelivery = .none(reason)
            return
        }
        result.sharing =
            external[2] == external[3] && external[4] == external[5]
            ? Finding(.overloaded, "\(flows[2].0) and \(flows[3].0) were both \(external[2])")
            : Finding(.exclusive, "\(flows[2].0) and \(flows[3].0) were \(external[2]) and \(external[3])")
        // Connection tracking knows whose the answers of those are that were sent to; a stranger's packet
        // shows the mapping itself.
        var answers = zip(flows, external).map { (from: $0.1, to: $1, host: $0.0) }
        if result.filtering.value == .endpointIndependent, let stranger = stranger(Self.secondRemotePort + 4)
        {
            answers += zip(flows, external).map { (stranger, $1, $0.0) }
        }
        let outcomes = try inward(answers.map { ($0.from, $0.to) })
        let wrong = zip(answers, outcomes).filter { $1.sighting?.destination != $0.host }
        // Random ports meet one that another mapping has now and then: one pair of hosts does not tell.
        let ports = Set(wrong.map(\.0.host.port))
        let text = wrong.first.map { answer, outcome in
            "what was for \(answer.host) "
                + (outcome.sighting.map { "reached \($0.destination)" } ?? "did not arrive")
        }
        result.sharedDelivery = Finding(
            ports.count < 2,
            (text ?? "each got what was for it") + (ports.count == 1 ? ", all else arrived" : ""))
    }

    /// From all that was seen in the other tests.
    func judgePooling() {
        guard notTranslated == nil else { return }
        result.pooling = Classification.pooling(pairs, addresses: request.externalAddresses.count)
    }
}
