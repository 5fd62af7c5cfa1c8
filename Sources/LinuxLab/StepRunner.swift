import Glibc
import LabPlanner
import NetlinkWire
import SystemCalls
import WireGuardControl

/// Carries out a plan's steps, in order, several at a time where they go to the same place.
final class StepRunner {
    private let steps: [PlanStep]
    private let plan: LabPlan
    private let state: LabState
    private let journal: Journal
    private let keys: LabKeys
    private let backends: [String: LabRecord.Backend]
    private let drivers: LabDrivers
    private let connections = NamespaceConnections()
    private var firewalls = FirewallLoads()

    init(
        _ plan: LabPlan, _ state: LabState, _ journal: Journal, _ keys: LabKeys,
        _ backends: [String: LabRecord.Backend], _ drivers: LabDrivers
    ) {
        self.plan = plan
        steps = plan.steps
        self.state = state
        self.journal = journal
        self.keys = keys
        self.backends = backends
        self.drivers = drivers
    }

    /// A step that failed.
    struct Failure: Error {
        var index: Int
        var cause: OperationFailure
    }

    /// Carries out the group of steps that begins at `start`; where the next begins.
    func runGroup(at start: Int) throws(Failure) -> Int {
        let group = groupRange(from: start)
        do throws(OperationFailure) {
            try journal.begin(group, of: steps)
        } catch { throw Failure(index: start, cause: error) }
        try perform(group)
        journal.done(through: group.upperBound - 1)
        return group.upperBound
    }

    /// Waits for what runs beside the steps.
    func finish() throws(Failure) {
        try firewalls.finishAll()
        do throws(OperationFailure) {
            try journal.flush()
        } catch { throw Failure(index: max(0, steps.count - 1), cause: error) }
    }

    // MARK: Groups

    /// The steps from `start` on that go together: to one thread, one socket or side by side.
    private func groupRange(from start: Int) -> Range<Int> {
        var end = start + 1
        switch steps[start].effect {
        case .makeNamespace(let namespace):
            if end < steps.count, case .setSysctls(namespace, _) = steps[end].effect { end += 1 }
        case .makeWireGuard:
            while end < steps.count, case .makeWireGuard = steps[end].effect { end += 1 }
        default:
            guard let place = routeNamespace(of: steps[start].effect) else { break }
            // Bounded for the sake of the files that the requests hold open.
            let limit = min(steps.count, start + 64)
            while end < limit, routeNamespace(of: steps[end].effect) == place { end += 1 }
        }
        return start..<end
    }

    /// The namespace whose rtnetlink socket an effect goes to; nil for effects of other kinds.
    private func routeNamespace(of effect: Effect) -> String? {
        switch effect {
        case .makeBridge(let namespace, _), .joinBridge(let namespace, _, _),
            .addAddress(let namespace, _, _),
            .bringUp(let namespace, _), .sendSinglePackets(let namespace, _), .shapeLink(let namespace, _, _),
            .addRoute(let namespace, _), .addRule(let namespace, _):
            namespace
        case .makeVeth(let end, _): end.namespace
        case .makeNamespace, .setSysctls, .loadFirewall, .loadNftables, .makeWireGuard, .configureWireGuard,
            .startAgent:
            nil
        }
    }

    // MARK: Effects

    private func perform(_ group: Range<Int>) throws(Failure) {
        let index = group.lowerBound
        let effect = steps[index].effect
        do throws(OperationFailure) {
            switch effect {
            case .makeNamespace(let namespace):
                try makeNamespace(namespace, group)
            case .setSysctls(let namespace, let settings):
                // Those of conntrack are there once rules have made the kernel load it.
                try firewalls.finishAllPlainly()
                try NetworkNamespace(namespace).write(sysctls: Self.pairs(settings))
            case .loadFirewall(let namespace, let text):
                try firewalls.start(index, namespace, text)
            case .loadNftables(let namespace, let text):
                try NetworkNamespace(namespace).nft(text)
            case .makeWireGuard:
                try makeWireGuard(group)
            case .configureWireGuard(_, let host, let interface):
                let tunnel = try tunnel(host, interface)
                try drivers.wireGuard.transport(to: tunnel, in: state).apply(try keys.change(for: tunnel))
            case .startAgent:
                try firewalls.finishAllPlainly()
                try drivers.startAgent(state, plan)
            case .makeBridge, .makeVeth, .joinBridge, .addAddress, .bringUp, .sendSinglePackets, .shapeLink,
                .addRoute, .addRule:
                try performRouteRequests(group)
            }
        } catch {
            throw locate(error, in: group)
        }
    }

    /// Which step of a group failed: found by what failed, since the group was carried out as one.
    private func locate(_ failure: OperationFailure, in group: Range<Int>) -> Failure {
        if let (index, cause) = firewalls.takeFailure() { return Failure(index: index, cause: cause) }
        if let index = failedRequest { return Failure(index: index, cause: failure) }
        if case .makeNamespace = steps[group.lowerBound].effect, failure.operation == "set sysctl" {
            return Failure(index: group.lowerBound + 1, cause: failure)
        }
        if case .makeWireGuard = steps[group.lowerBound].effect, let namespace = failure.namespace {
            for index in group {
                if case .makeWireGuard(namespace, _, _) = steps[index].effect {
                    return Failure(index: index, cause: failure)
                }
            }
        }
        return Failure(index: group.lowerBound, cause: failure)
    }

    /// "-" in front of what the kernel need not have, as sysctl.d(5) writes it.
    private static func pairs(_ settings: [Sysctl]) -> [(key: String, value: String)] {
        settings.map { (($0.ifPresent ? "-" : "") + $0.key, $0.value) }
    }

    private func makeNamespace(_ name: String, _ group: Range<Int>) throws(OperationFailure) {
        var sysctls: [(key: String, value: String)] = []
        if group.count == 2, case .setSysctls(_, let settings) = steps[group.lowerBound + 1].effect {
            sysctls = Self.pairs(settings)
        }
        let namespace = NetworkNamespace(name)
        let socket = try namespace.make(sysctls: sysctls)
        journal.made(namespace, cookie: NetworkNamespace.cookie(ofSocket: socket))
        try connections.adopt(socket, of: namespace)
    }

    private func makeWireGuard(_ group: Range<Int>) throws(OperationFailure) {
        var userspace: [PlannedTunnel] = []
        for index in group {
            guard case .makeWireGuard(let namespace, let host, let interface) = steps[index].effect else {
                continue
            }
            let tunnel = try tunnel(host, interface)
            switch backends["\(host).\(interface)"] {
            case .kernel:
                let index = connections.newIndex(namespace, interface)
                try connections.socket(namespace).perform(
                    .makeLink(kind: "wireguard", name: interface, index: index, mtu: UInt32(tunnel.mtu)))
            case .userspace: userspace.append(tunnel)
            case nil:
                throw OperationFailure(
                    "create WireGuard", interface, namespace: namespace, detail: "no backend decided")
            }
        }
        guard !userspace.isEmpty else { return }
        try drivers.wireGuard.startUserspace(userspace, in: state)
        for tunnel in userspace {
            let index = try connections.index(tunnel.namespace, tunnel.interface)
            try connections.socket(tunnel.namespace).perform(
                .setMTU(index: index, UInt32(tunnel.mtu), name: tunnel.interface))
        }
    }

    private func tunnel(_ host: String, _ interface: String) throws(OperationFailure) -> PlannedTunnel {
        guard let tunnel = plan.tunnel(host: host, interface: interface) else {
            throw OperationFailure(
                "create WireGuard", interface, detail: "host \(host) has no such tunnel in the plan")
        }
        return tunnel
    }

    // MARK: rtnetlink

    /// The step whose request the kernel refused.
    private var failedRequest: Int?

    private func performRouteRequests(_ group: Range<Int>) throws(OperationFailure) {
        var requests: [RouteRequest] = []
        guard let namespace = routeNamespace(of: steps[group.lowerBound].effect) else { return }
        for index in group {
            failedRequest = index
            requests.append(try request(for: steps[index].effect))
        }
        failedRequest = nil
        defer { connections.releaseFiles() }
        let refused = try connections.socket(namespace).refusal(of: requests)
        if let refused {
            failedRequest = group.lowerBound + refused.position
            throw refused.failure
        }
    }

    private func request(for effect: Effect) throws(OperationFailure) -> RouteRequest {
        switch effect {
        case .makeBridge(let namespace, let interface):
            return .makeLink(
                kind: "bridge", name: interface, index: connections.newIndex(namespace, interface))
        case .makeVeth(let end, let other):
            return .makeVeth(
                VethEnd(name: end.interface, index: connections.newIndex(end.namespace, end.interface)),
                VethEnd(
                    name: other.interface, index: connections.newIndex(other.namespace, other.interface),
                    network: try connections.file(other.namespace)))
        case .joinBridge(let namespace, let interface, let bridge):
            return .setMaster(
                index: try connections.index(namespace, interface),
                master: try connections.index(namespace, bridge),
                name: interface)
        case .addAddress(let namespace, let interface, let address):
            return .addAddress(address, index: try connections.index(namespace, interface), name: interface)
        case .bringUp(let namespace, let interface):
            return .setUp(index: try connections.index(namespace, interface), name: interface)
        case .sendSinglePackets(let namespace, let interface):
            return .setSegmentsPerPacket(
                index: try connections.index(namespace, interface), 1, name: interface)
        case .shapeLink(let namespace, let interface, let shape):
            return .addQueue(
                QueueDiscipline(shape), index: try connections.index(namespace, interface), name: interface)
        case .addRoute(let namespace, let route):
            let index: Int32? =
                if let name = route.interface { try connections.index(namespace, name) } else { nil }
            return .addRoute(
                to: route.destination, via: route.gateway, index: index, onLink: route.onLink,
                table: route.table)
        case .addRule(_, let rule):
            return .addRule(
                ipv6: rule.family == .ipv6, priority: rule.priority, firewallMark: rule.firewallMark,
                invert: rule.invert, table: rule.table, suppressPrefixLength: rule.suppressPrefixLength)
        case .makeNamespace, .setSysctls, .loadFirewall, .loadNftables, .makeWireGuard, .configureWireGuard,
            .startAgent:
            throw OperationFailure("make netlink request", "\(effect)", detail: "not a step of rtnetlink")
        }
    }
}
