import NetAddress
import SystemCalls
import TopologyModel

extension Bench {
    /// RFC 5780 section 4.3, for UDP and TCP.
    func testMapping() throws(OperationFailure) {
        if let notTranslated {
            result.mapping = .none(notTranslated)
            result.tcpMapping = .none(notTranslated)
            return
        }
        guard let otherRemote, let otherRemoteOtherPort else {
            result.mapping = .none(Self.noSecondRemote)
            result.tcpMapping = .none(Self.noSecondRemote)
            return
        }
        let targets = [remote, remoteOtherPort, otherRemote, otherRemoteOtherPort]
        result.mapping = Classification.mapping(try samples(to: targets, .udp))
        if request.scope == .router { try testTCPMapping(targets) }
    }

    /// The same for TCP alone, where UDP does not come through.
    func testTCPMapping() throws(OperationFailure) {
        guard let otherRemote, let otherRemoteOtherPort else {
            result.tcpMapping = .none(Self.noSecondRemote)
            return
        }
        try testTCPMapping([remote, remoteOtherPort, otherRemote, otherRemoteOtherPort])
        guard let external = pairs[host]?.first else { return }
        result.translated = Finding(external != host, "\(host) was \(external) outside, by TCP")
    }

    private func testTCPMapping(_ targets: [Endpoint]) throws(OperationFailure) {
        let samples = try samples(to: targets, .syn)
        // UDP may be translated where TCP is not.
        let plain = samples.first { $0.external.contains($0.internalEndpoint) }
        result.tcpMapping =
            plain.map { .none("\($0.internalEndpoint) was the same outside: TCP is not translated") }
            ?? Classification.mapping(samples)
    }

    /// So many internal endpoints: a random external port is now and then the same twice.
    private static let sampleCount = 3

    private func samples(
        to targets: [Endpoint], _ kind: Shot.Kind
    ) throws(OperationFailure) -> [Classification.MappingSample] {
        let endpoints = (0..<Self.sampleCount).map { _ in fresh() }
        let flows = endpoints.flatMap { endpoint in targets.map { (endpoint, $0) } }
        let outcomes = try outward(flows, kind)
        return endpoints.enumerated().map { index, endpoint in
            let own = outcomes[index * targets.count..<(index + 1) * targets.count]
            return Classification.MappingSample(
                internalEndpoint: endpoint, external: own.map { $0.sighting?.source })
        }
    }
}
