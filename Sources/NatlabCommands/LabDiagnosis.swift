import Glibc
import LabAgent
import LabPlanner
import LinuxLab
import NetAddress
import NetlinkWire
import PathTrace
import PeeringCheck
import PeeringDiagnosis
import RendezvousProtocol
import SystemCalls
import WireGuardControl
import WireGuardKeys

/// Finds out why hosts of a lab that is up do or do not reach each other: looks, probes, watches, looks again, judges.
///
/// It adds echoes through the tunnels and nothing else: no peer is changed, no mapping removed.
final class LabDiagnosis {
    private let view: LabView
    private let pairs: [PlannedPair]
    private let map: NodeMap
    private let theory: TraversalTheory
    private let hosts: [String]
    private let tunnels: [PlannedTunnel]
    private let keys: [PublicKey: String]
    private let labKeys: [String: PublicKey]
    private let gaps: [String]

    /// A pair that has no session yet: WireGuard repeats a handshake after 5 s (WireGuard paper, section 6.4).
    static let patience = 6.0
    /// Longer, where punches come through: clients and WireGuard leave 5 s between two handshakes with a peer, so that the
    /// first after an earlier session may come that late.
    static let handshakePatience = 6.0
    /// Where what was read has already told why.
    private static let briefPatience = 1.5

    init(_ view: LabView, pairs: [PlannedPair]) {
        self.view = view
        self.pairs = pairs
        map = NodeMap(view.plan)
        theory = TraversalTheory(view.plan)
        var hosts: [String] = []
        for host in pairs.flatMap({ [$0.from, $0.to] }) where !hosts.contains(host) { hosts.append(host) }
        self.hosts = hosts
        tunnels = view.plan.tunnels.filter { tunnel in
            pairs.contains { $0.interface == tunnel.interface && [$0.from, $0.to].contains(tunnel.host) }
        }
        var keys: [PublicKey: String] = [:]
        var labKeys: [String: PublicKey] = [:]
        var gaps: [String] = []
        for tunnel in view.plan.tunnels {
            do throws(OperationFailure) {
                let key = try view.publicKey(host: tunnel.host, interface: tunnel.interface)
                keys[key] = tunnel.host
                labKeys["\(tunnel.host).\(tunnel.interface)"] = key
            } catch {
                gaps.append("\(error)")
            }
        }
        self.keys = keys
        self.labKeys = labKeys
        self.gaps = gaps
    }

    /// - Parameters:
    ///   - patience: seconds to watch pairs that are not connected.
    ///   - probesAlone: first lets only one side send where a NAT may have forgotten the other's mapping.
    /// - Returns: one for each pair whose keys can be read, in their order.
    func run(patience: Double = LabDiagnosis.patience, probesAlone: Bool) throws(CommandFailure)
        -> [WhyReport]
    {
        let before = LabLook(view, nodes: watchedNodes, tunnels: tunnels)
        let watch = LabWatch(view.plan, nodes: watchedNodes)
        let began = WallTime(nanoseconds: wallClockNanoseconds())
        let alone = probesAlone ? probeAlone(before, watch) : [:]
        let length = pairs.allSatisfy { isPlain($0, before) } ? min(patience, Self.briefPatience) : patience
        var verdicts = try verdicts(within: length, watch)
        let open = patience >= Self.patience ? verdicts.filter { awaitsHandshake($0, watch) } : []
        if !open.isEmpty {
            verdicts = try self.verdicts(within: Self.handshakePatience, watch) {
                !open.contains { self.awaitsHandshake($0, watch) }
            }
        }
        let large = verdicts.map { $0.observed == .direct ? passesLargePackets($0, watch) : nil }
        watch.collect()
        let after = LabLook(view, nodes: watchedNodes, tunnels: tunnels, after: before)
        // A lab that is taken down meanwhile has nothing that is to be explained.
        _ = try orFailed(.lab) { () throws(OperationFailure) in try view.state.readRecord() }
        let ended = WallTime(nanoseconds: wallClockNanoseconds())
        return zip(verdicts, large).compactMap { verdict, large in
            let evidence = evidence(
                verdict, large, alone, before: before, after: after, watch: watch, began: began, ended: ended)
            guard let evidence else { return nil }
            let diagnosis = DiagnosisJudge(evidence, plan: view.plan).diagnosis()
            return WhyReport(lab: view.plan.lab, evidence: evidence, diagnosis: diagnosis, plan: view.plan)
        }
    }

    /// - Parameter isEnough: asked some times a second; true ends it.
    private func verdicts(
        within timeout: Double, _ watch: LabWatch, isEnough: () -> Bool = { false }
    ) throws(CommandFailure) -> [PairVerdict] {
        var asked = MonotonicTime.now()
        return try LabVerification(view: view, pairs: pairs).run(timeout: timeout) {
            watch.collect()
            guard MonotonicTime.now() - asked > .milliseconds(200) else { return false }
            asked = .now()
            return isEnough()
        } progress: { _ in
        }.pairs
    }

    private func awaitsHandshake(_ verdict: PairVerdict, _ watch: LabWatch) -> Bool {
        verdict.observed != .direct
            && PeeringDiagnosis.awaitsHandshake(
                verdict.from, verdict.to, watch.datagrams,
                now: WallTime(nanoseconds: wallClockNanoseconds()))
    }

    // MARK: Watching

    /// The nodes on all ways, those to the rendezvous too.
    private var watchedNodes: [PlannedNode] {
        var names: [String] = []
        for host in hosts + (view.plan.rendezvous.map { [$0.host] } ?? []) {
            for name in map.way(from: host) where !names.contains(name) { names.append(name) }
        }
        return names.compactMap { view.plan.node($0) }
    }

    /// Whether what is read tells enough: a dead part, a link that is down, a peer that is missing.
    private func isPlain(_ pair: PlannedPair, _ look: LabLook) -> Bool {
        let sides = [(pair.from, pair.to), (pair.to, pair.from)]
        return sides.contains { host, other in
            guard let device = look.device(host, pair.interface),
                let key = labKeys["\(other).\(pair.interface)"]
            else {
                return true
            }
            return device.peer(look.device(other, pair.interface)?.publicKey ?? key) == nil
        } || look.links.contains { !$0.isUp || !$0.hasCarrier }
    }

    // MARK: Probing

    /// Where a pair has had a session through a NAT: whether the host behind that is still reached when only the other sends.
    private func probeAlone(_ look: LabLook, _ watch: LabWatch) -> [String: (Int, Int)] {
        var result: [String: (Int, Int)] = [:]
        for pair in pairs {
            let sides = [(pair.from, pair.to), (pair.to, pair.from)]
            // Who sends opens its own mapping: so only one side, the first asked for.
            let first = sides.first { host, other in
                let key =
                    look.device(other, pair.interface)?.publicKey ?? labKeys["\(other).\(pair.interface)"]
                let peer = key.flatMap { look.device(host, pair.interface)?.peer($0) }
                return peer?.lastHandshake != nil && peer?.endpoint != nil
                    && map.way(from: other).contains { view.plan.node($0)?.translation != nil }
            }
            guard let (host, other) = first,
                let (from, to) = tunnelPair(host, other, pair.interface)
            else { continue }
            let answer = echo(from: from, to: to, size: 256, tries: 5, watch)
            if let answer { result["\(host).\(pair.interface)"] = answer }
        }
        return result
    }

    private func passesLargePackets(_ verdict: PairVerdict, _ watch: LabWatch) -> Bool? {
        guard let (from, to) = tunnelPair(verdict.from, verdict.to, verdict.interface) else { return nil }
        let answer = echo(
            from: from, to: to, size: min(from.mtu, to.mtu), tries: 5, watch)
        return answer.map { $0.answered > 0 }
    }

    private func tunnelPair(_ one: String, _ other: String, _ interface: String) -> (
        PlannedTunnel, PlannedTunnel
    )? {
        guard let first = view.plan.tunnel(host: one, interface: interface),
            let second = view.plan.tunnel(host: other, interface: interface)
        else { return nil }
        return (first, second)
    }

    /// Nil where the interface is gone.
    private func echo(
        from: PlannedTunnel, to: PlannedTunnel, size: Int, tries: Int, _ watch: LabWatch
    ) -> (sent: Int, answered: Int)? {
        guard let socket = try? EchoSocket.open(in: from) else { return nil }
        defer { close(socket) }
        // As long as the ways' declared delays may take.
        let delay = watchedNodes.reduce(0) { $0 + Int($1.link?.delay ?? 0) }
        return EchoProbe(socket: socket, target: to.address.address, size: size).run(
            tries: tries, interval: .milliseconds(150) + .microseconds(Int64(delay) * 4),
            meanwhile: { watch.collect() })
    }

    // MARK: Putting together

    private func evidence(
        _ verdict: PairVerdict, _ large: Bool?, _ alone: [String: (Int, Int)], before: LabLook,
        after: LabLook,
        watch: LabWatch, began: WallTime, ended: WallTime
    ) -> PairEvidence? {
        func side(_ host: String, _ other: String) -> PairEvidence.Side? {
            self.side(host, other, verdict.interface, alone, before: before, after: after, watch: watch)
        }
        guard let from = side(verdict.from, verdict.to), let to = side(verdict.to, verdict.from) else {
            return nil
        }
        var evidence = PairEvidence(
            interface: verdict.interface, from: from, to: to, verdict: verdict,
            theory: theory.verdict(verdict.from, verdict.to, interface: verdict.interface), began: began,
            ended: ended)
        evidence.passesLargePackets = large
        evidence.hostsByKey = keys
        evidence.links = after.links
        // What others have sent tells nothing of these two, and is most of it where many are looked at.
        let senders = Set([verdict.from, verdict.to] + (view.plan.rendezvous.map { [$0.host] } ?? []))
        evidence.datagrams = watch.datagrams.filter { datagram in
            datagram.sightings.first.map { senders.contains($0.point.node) } ?? false
        }
        evidence.icmpErrors = watch.icmpErrors
        evidence.drops = watch.drops
        evidence.untraced = watch.untraced
        evidence.gaps = gaps + after.gaps + watch.gaps
        if case .failure(let failure) = after.agent {
            evidence.agentFailure = "\(failure)"
            evidence.gaps.append("\(failure)")
        }
        var names = from.routers
        for name in to.routers.reversed() where !names.contains(name) { names.append(name) }
        evidence.routers = names.map { name in
            PairEvidence.Router(
                name: name, nat: view.plan.node(name)?.translation, before: before.flows[name] ?? [],
                after: after.flows[name] ?? [])
        }
        for side in [from, to] { addMissingRoutes(side, &evidence) }
        if let rendezvous = view.plan.rendezvous {
            evidence.rendezvous = PairEvidence.Rendezvous(
                host: rendezvous.host, port: rendezvous.port, endpoint: rendezvous.endpoint,
                way: map.way(from: rendezvous.host), server: after.status?.server)
        }
        return evidence
    }

    /// Looks up the ways that datagrams had to go from where they were last seen, and those of the host itself.
    private func addMissingRoutes(_ side: PairEvidence.Side, _ evidence: inout PairEvidence) {
        var wanted: [String: Set<IPAddress>] = [:]
        for peer in side.device?.peers ?? [] where keys[peer.publicKey] == evidence.other(than: side).host {
            if let endpoint = peer.endpoint { wanted[side.host] = [endpoint.address] }
        }
        for datagram in evidence.datagrams {
            guard let last = datagram.sightings.last, !last.isOutgoing, side.routers.contains(last.point.node)
            else { continue }
            let inner = (evidence.router(last.point.node)?.after ?? []).compactMap(\.mapping).filter {
                $0.outer == last.destination
            }.map(\.inner.address)
            wanted[last.point.node, default: []].formUnion([last.destination.address] + inner)
        }
        for (name, addresses) in wanted {
            guard let node = view.plan.node(name) else { continue }
            let mark = name == side.host ? side.device?.firewallMark ?? 0 : 0
            // The rendezvous and the peers: more are strangers'.
            for address in addresses.sorted().prefix(32) {
                evidence.missingRoutes[name, default: [:]][address] = LabLook.missingRoute(
                    node.namespace, to: address, mark: mark)
            }
        }
    }

    private func side(
        _ host: String, _ other: String, _ interface: String, _ alone: [String: (Int, Int)], before: LabLook,
        after: LabLook,
        watch: LabWatch
    ) -> PairEvidence.Side? {
        guard let tunnel = view.plan.tunnel(host: host, interface: interface),
            let key = labKeys["\(host).\(interface)"]
        else { return nil }
        var side = PairEvidence.Side(tunnel: tunnel, way: map.way(from: host), labKey: key)
        side.device = after.device(host, interface)
        side.unreadable = after.unreadable["\(host).\(interface)"]
        side.deviceBefore = before.device(host, interface)
        side.client = after.status?.clients.first { $0.host == host && $0.interface == interface }
        side.alone = alone["\(host).\(interface)"].map { (sent: $0.0, answered: $0.1) }
        if let rendezvous = view.plan.rendezvous {
            side.serverInterface = LabLook.route(
                from: tunnel, to: (side.client?.server ?? rendezvous.endpoint).address,
                mark: side.device?.firewallMark ?? tunnel.firewallMark)
        }
        side.hasAddress = LabLook.hasAddress(tunnel)
        if let other = view.plan.tunnel(host: other, interface: interface) {
            side.peerInterface = LabLook.route(from: tunnel, to: other.address.address, mark: 0)
        }
        side.initiations = watch.initiations(at: tunnel, of: view)
        return side
    }
}
