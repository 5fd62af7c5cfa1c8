import LabPlanner
import LinuxLab
import NetAddress
import PathTrace
import PeeringDiagnosis
import SystemCalls
import WireGuardKeys

/// Watches datagrams and firewalls of some nodes, from its making on.
final class LabWatch {
    private let paths: PathWatch?
    private var sorted: [Datagram]?
    /// By HOST.INTERFACE.
    private var readings: [String: [PairEvidence.Initiation]] = [:]
    private var firewalls: [(node: String, watch: DropWatch)] = []
    private(set) var drops: [String: [PacketDrop]] = [:]
    /// Nodes whose drops are not seen.
    private(set) var untraced: Set<String> = []
    private(set) var gaps: [String] = []
    /// By a node, more than anybody reads.
    private static let mostDrops = 2000

    init(_ plan: LabPlan, nodes: [PlannedNode]) {
        let map = NodeMap(plan)
        let inner = nodes.filter { $0.kind != .segment }
        let points = inner.flatMap { node in
            node.interfaces.map { WatchPoint(node: node.name, namespace: node.namespace, interface: $0.name) }
        }
        do throws(OperationFailure) { paths = try PathWatch(points) } catch {
            paths = nil
            gaps.append("\(error)")
        }
        let addresses = inner.flatMap { map.addresses(of: $0.name) }
        for node in inner {
            do throws(OperationFailure) {
                let watch = try DropWatch(NetworkNamespace(node.namespace), addresses: addresses)
                firewalls.append((node.name, watch))
            } catch {
                untraced.insert(node.name)
                gaps.append("what \(node.name)'s firewall drops cannot be traced: \(error)")
            }
        }
        gaps += (paths?.unwatched ?? []).map { "\($0.interface) of \($0.node) cannot be watched: \($1)" }
    }

    /// In the order of their first sightings.
    ///
    /// Kept until the next `collect`, as the readings are: of many pairs each asks for them.
    var datagrams: [Datagram] {
        if let sorted { return sorted }
        let fresh = paths?.datagrams ?? []
        sorted = fresh
        return fresh
    }
    var icmpErrors: [ICMPError] { paths?.icmpErrors ?? [] }

    /// Reads what waits.
    func collect() {
        paths?.collect()
        sorted = nil
        readings = [:]
        for (node, watch) in firewalls {
            // What cannot be read now is read the next time; at worst a drop is not explained.
            guard let found = try? watch.drops(), !found.isEmpty else { continue }
            drops[node] = Array(((drops[node] ?? []) + found).suffix(Self.mostDrops))
        }
    }

    /// The handshake initiations that have reached a host, as its private key reads them.
    func initiations(at tunnel: PlannedTunnel, of view: LabView) -> [PairEvidence.Initiation] {
        let name = "\(tunnel.host).\(tunnel.interface)"
        if let known = readings[name] { return known }
        let fresh = read(at: tunnel, of: view)
        readings[name] = fresh
        return fresh
    }

    private func read(at tunnel: PlannedTunnel, of view: LabView) -> [PairEvidence.Initiation] {
        let arrived = datagrams.compactMap { datagram -> (Datagram, Sighting)? in
            guard datagram.kind == .handshakeInitiation,
                let last = datagram.sightings.last(where: { $0.point.node == tunnel.host && !$0.isOutgoing })
            else { return nil }
            return (datagram, last)
        }
        guard !arrived.isEmpty,
            let key = try? KeyFile.readPrivateKey(
                view.state.privateKeyFile(host: tunnel.host, interface: tunnel.interface)
            ).key
        else { return [] }
        return arrived.compactMap { datagram, last in
            guard let reading = try? HandshakeInitiation.reading(datagram.payload, responder: key) else {
                return nil
            }
            return PairEvidence.Initiation(time: last.time, source: last.source, reading: reading)
        }
    }
}
