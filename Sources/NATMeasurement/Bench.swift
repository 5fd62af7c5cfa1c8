import NetAddress
import SystemCalls
import TopologyModel

/// A router with hosts of the measurement's own on both sides, for as long as it takes to measure it.
///
/// The tests are its extensions, one file each; they run one after the other and fill `result`.
final class Bench {
    let request: MeasurementRequest
    let exchange: Exchange
    /// One or two, inside.
    let hosts: [IPAddress]
    /// One to three, outside; the third is never sent to before a test says so.
    let remotes: [IPAddress]
    var result: RouterMeasurement
    private var portsUsed: UInt16 = 0
    private(set) var internalEndpoints: Set<Endpoint> = []
    private(set) var externalEndpoints: Set<Endpoint> = []
    private var forwardEndpoints: Set<Endpoint> = []
    /// What tells the connections that the measurement has left behind.
    var ownEndpoints: Set<Endpoint> {
        internalEndpoints.union(externalEndpoints).union(forwardEndpoints)
    }
    /// The external addresses that each host was seen with.
    private(set) var pairs: [IPAddress: Set<IPAddress>] = [:]
    /// Arrivals inside whose source was not the remote endpoint.
    private(set) var rewritten: [Outcome] = []
    private(set) var inwardArrivals = 0

    /// STUN's port and the next: some routers let only well-known ones through.
    static let firstRemotePort: UInt16 = 3478
    static let secondRemotePort: UInt16 = 3479

    static let noSecondHost = "there is no room for a second host inside"
    static let noSecondRemote = "there is no room for a second host outside"

    init(_ request: MeasurementRequest, exchange: Exchange, hosts: [IPAddress], remotes: [IPAddress]) {
        self.request = request
        self.exchange = exchange
        self.hosts = hosts
        self.remotes = remotes
        result = RouterMeasurement(router: request.router, unmeasured: "nothing came through")
    }

    // MARK: Endpoints

    var host: IPAddress { hosts[0] }
    var secondHost: IPAddress? { hosts.count > 1 ? hosts[1] : nil }
    /// S1:p1, S1:p2, S2:p1 and S2:p2 of RFC 5780.
    var remote: Endpoint { Endpoint(remotes[0], port: Self.firstRemotePort) }
    var remoteOtherPort: Endpoint { Endpoint(remotes[0], port: Self.secondRemotePort) }
    var otherRemote: Endpoint? {
        remotes.count > 1 ? Endpoint(remotes[1], port: Self.firstRemotePort) : nil
    }
    var otherRemoteOtherPort: Endpoint? {
        remotes.count > 1 ? Endpoint(remotes[1], port: Self.secondRemotePort) : nil
    }
    /// An address that was never sent to; where there is no third, one that the mapping in question was not.
    func stranger(_ port: UInt16) -> Endpoint? {
        remotes.count > 1 ? Endpoint(remotes[remotes.count > 2 ? 2 : 1], port: port) : nil
    }

    /// A port that nothing in this measurement has used.
    func freshPort() -> UInt16 {
        // The span is wide enough for all tests; beyond it ports would meet those of another measurement.
        defer { portsUsed = (portsUsed + 1) % MeasurementRequest.portSpan }
        return request.firstPort + portsUsed
    }

    /// A fresh endpoint of the first host.
    func fresh() -> Endpoint { Endpoint(host, port: freshPort()) }

    // MARK: Packets

    /// Sends to remote endpoints.
    func outward(
        _ flows: [(Endpoint, Endpoint)], _ kind: Shot.Kind = .udp
    ) throws(OperationFailure) -> [Outcome] {
        // Before they are sent: what fails half-way is cleaned up too.
        for flow in flows { note(internal: flow.0) }
        let outcomes = try exchange.deliver(flows.map { .outward($0.0, $0.1, kind) })
        for outcome in outcomes { note(outcome) }
        return outcomes
    }

    func note(_ outcome: Outcome) {
        guard let sighting = outcome.sighting, sighting.side == .outside else { return }
        externalEndpoints.insert(sighting.source)
        pairs[outcome.shot.source.address, default: []].insert(sighting.source.address)
    }

    /// The forwards' own endpoints are the lab's: only the connections from here are the measurement's.
    func noteForwards(from remote: Endpoint) { forwardEndpoints.insert(remote) }
    func note(internal endpoint: Endpoint) { internalEndpoints.insert(endpoint) }
    func note(external endpoint: Endpoint) { externalEndpoints.insert(endpoint) }

    /// The external endpoint of a new mapping to a remote endpoint; nil when nothing arrives.
    func map(_ endpoint: Endpoint, to remote: Endpoint) throws(OperationFailure) -> Endpoint? {
        try outward([(endpoint, remote)])[0].sighting?.source
    }

    /// Sends from remote endpoints to external ones.
    func inward(
        _ flows: [(Endpoint, Endpoint)], _ kind: Shot.Kind = .udp
    ) throws(OperationFailure) -> [Outcome] {
        let outcomes = try exchange.deliver(flows.map { .inward($0.0, $0.1, kind) })
        for outcome in outcomes {
            guard let sighting = outcome.sighting, sighting.side == .inside else { continue }
            inwardArrivals += 1
            if sighting.source != outcome.shot.source { rewritten.append(outcome) }
        }
        return outcomes
    }
}
