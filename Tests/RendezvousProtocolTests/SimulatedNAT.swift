import RendezvousProtocol

/// One network that hosts and NATs have addresses on: a LAN, a carrier's, or the internet.
final class SimulatedSegment {
    /// The way out; nil for the internet.
    weak var gateway: SimulatedNAT?
    private(set) var hosts: [SimulatedHost] = []
    private(set) var routers: [SimulatedNAT] = []

    func add(_ host: SimulatedHost) { hosts.append(host) }
    func add(_ router: SimulatedNAT) { routers.append(router) }

    func has(_ ip: UInt32) -> Bool {
        hosts.contains { $0.ip == ip } || routers.contains { $0.ip == ip }
            || gateway == nil && ip == Simulation.serverAddress.ip
    }
}

/// A NAT as RFC 4787 describes them.
///
/// As in natlab's own, filter state belongs to the mapping, and replies leave by the mapping that the packet came in on.
final class SimulatedNAT {
    enum Dependence: Sendable, CaseIterable { case none, address, addressAndPort }
    struct Behaviour: Sendable, Hashable, CustomStringConvertible {
        var mapping: Dependence
        var filtering: Dependence
        var description: String { "\(mapping)/\(filtering)" }
        static let all = Dependence.allCases.flatMap { mapping in
            Dependence.allCases.map { Behaviour(mapping: mapping, filtering: $0) }
        }
        static let open = Behaviour(mapping: .none, filtering: .none)
        static let portRestricted = Behaviour(mapping: .none, filtering: .addressAndPort)
        static let symmetric = Behaviour(mapping: .addressAndPort, filtering: .addressAndPort)
    }

    /// One conversation, as conntrack holds it.
    private struct Flow {
        var inside: WireAddress
        /// The remote end as the inside sees it.
        var shown: WireAddress
        var outside: WireAddress
        var remote: WireAddress
    }
    private struct Mapping {
        var inside: WireAddress
        /// What it is for, as far as the mapping depends on it.
        var target: WireAddress
        var port: UInt16
        var contacted: Set<WireAddress> = []
    }

    var behaviour: Behaviour
    var isBlocked = false
    /// Lets what is sent to its own external address turn round, with an external source (RFC 4787 REQ-9).
    var hairpins = false
    /// Linux gives a remote end another port where two of an inside address' conversations would look alike; else the newer
    /// one replaces the older.
    var rewritesRemotePorts = true
    let ip: UInt32
    let inner = SimulatedSegment()
    unowned let outer: SimulatedSegment
    private var mappings: [Mapping] = []
    private var flows: [Flow] = []
    private var nextPort: UInt16 = 30000
    private var shift: UInt16 = 0
    /// Every address a datagram ever left with.
    private(set) var history: Set<WireAddress> = []
    private(set) var rewritten = 0

    init(_ behaviour: Behaviour, ip: UInt32, on outer: SimulatedSegment) {
        self.behaviour = behaviour
        self.ip = ip
        self.outer = outer
        inner.gateway = self
        outer.add(self)
    }

    /// What leaves for a datagram from inside; nil when nothing does.
    func outbound(from inside: WireAddress, to target: WireAddress) -> (
        source: WireAddress, target: WireAddress
    )? {
        guard !isBlocked, hairpins || target.ip != ip else { return nil }
        let flow: Flow
        if let known = flows.first(where: { $0.inside == inside && $0.shown == target }) {
            flow = known
        } else {
            let outside = WireAddress(ip: ip, port: mappings[mapping(of: inside, to: target)].port)
            flow = Flow(inside: inside, shown: target, outside: outside, remote: target)
            flows.append(flow)
        }
        note(flow)
        return (flow.outside, flow.remote)
    }

    /// What arrives inside; nil for what is not let in.
    func inbound(from remote: WireAddress, at outside: WireAddress) -> (
        source: WireAddress, inside: WireAddress
    )? {
        guard !isBlocked else { return nil }
        if let flow = flows.first(where: { $0.outside == outside && $0.remote == remote }) {
            return (flow.shown, flow.inside)
        }
        guard let mapping = mappings.first(where: { $0.port == outside.port }) else { return nil }
        switch behaviour.filtering {
        case .none: break
        case .address: guard mapping.contacted.contains(where: { $0.ip == remote.ip }) else { return nil }
        case .addressAndPort: guard mapping.contacted.contains(remote) else { return nil }
        }
        var flow = Flow(inside: mapping.inside, shown: remote, outside: outside, remote: remote)
        if let like = flows.firstIndex(where: { $0.inside == mapping.inside && $0.shown == remote }) {
            if rewritesRemotePorts {
                nextPort += 7
                flow.shown.port = nextPort
                rewritten += 1
            } else {
                flows.remove(at: like)
            }
        }
        flows.append(flow)
        return (flow.shown, flow.inside)
    }

    private func note(_ flow: Flow) {
        history.insert(flow.outside)
        guard let index = mappings.firstIndex(where: { $0.port == flow.outside.port }) else { return }
        mappings[index].contacted.insert(flow.remote)
    }

    private func mapping(of inside: WireAddress, to target: WireAddress) -> Int {
        var scope = WireAddress(ip: 0, port: 0)
        if behaviour.mapping != .none { scope.ip = target.ip }
        if behaviour.mapping == .addressAndPort { scope.port = target.port }
        if let known = mappings.firstIndex(where: { $0.inside == inside && $0.target == scope }) {
            return known
        }
        var port = inside.port &+ shift
        while behaviour.mapping != .none || mappings.contains(where: { $0.port == port }) {
            nextPort += 7
            port = nextPort
            if !mappings.contains(where: { $0.port == port }) { break }
        }
        mappings.append(Mapping(inside: inside, target: scope, port: port))
        return mappings.count - 1
    }

    /// Forgets everything, as a rebooted router does; the ports change.
    func rebind() {
        shift += 100
        nextPort += 100
        mappings = []
        flows = []
    }
}
