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
        if request.scope == .router {
            result.tcpMapping = Classification.mapping(try samples(to: targets, .syn))
        }
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
