import Glibc
import LabAgent
import LabPlanner
import LinuxLab
import NetAddress
import NetlinkWire
import PeeringDiagnosis
import SystemCalls
import WireGuardControl

/// What a lab's interfaces, connection tracking and agent say at one moment.
struct LabLook {
    /// By HOST.INTERFACE.
    private var devices: [String: WireGuardDevice] = [:]
    private(set) var unreadable: [String: String] = [:]
    private(set) var links: [PairEvidence.Link] = []
    /// UDP, by router.
    private(set) var flows: [String: [PairEvidence.Flow]] = [:]
    private(set) var agent: Result<AgentStatus?, OperationFailure>
    /// What could not be read, each as a sentence.
    private(set) var gaps: [String] = []

    var status: AgentStatus? { (try? agent.get()) ?? nil }

    /// - Parameter earlier: a look before this one: an agent that did not answer then is not waited for again.
    init(_ view: LabView, nodes: [PlannedNode], tunnels: [PlannedTunnel], after earlier: LabLook? = nil) {
        if let earlier, case .failure = earlier.agent {
            agent = earlier.agent
        } else {
            do throws(OperationFailure) { agent = .success(try view.agentStatus()) } catch {
                agent = .failure(error)
            }
        }
        for tunnel in tunnels {
            let name = "\(tunnel.host).\(tunnel.interface)"
            do throws(OperationFailure) {
                devices[name] = try view.transport(to: tunnel).read()
            } catch {
                unreadable[name] = "\(tunnel.interface) of \(tunnel.host) does not answer: \(error)"
            }
        }
        for node in nodes {
            do throws(OperationFailure) {
                try look(at: node, tunnels.filter { $0.host == node.name }.map(\.interface))
            } catch {
                gaps.append("\(error)")
            }
        }
    }

    func device(_ host: String, _ interface: String) -> WireGuardDevice? { devices["\(host).\(interface)"] }

    private mutating func look(at node: PlannedNode, _ tunnels: [String]) throws(OperationFailure) {
        let network = NetworkNamespace(node.namespace)
        let socket = try RouteSocket(network)
        let records = try socket.links()
        let settings = node.kind == .router ? try socket.interfaceSettings() : []
        for name in node.interfaces.map(\.name) + tunnels {
            guard let record = records.first(where: { $0.name == name }) else {
                // A dead wireguard-go takes its interface along, which is said of it.
                guard !tunnels.contains(name) else { continue }
                var link = PairEvidence.Link(
                    node: node.name, interface: name, isUp: false, hasCarrier: false, mtu: 0)
                link.isThere = false
                links.append(link)
                continue
            }
            var link = PairEvidence.Link(
                node: node.name, interface: name, isUp: record.isUp, hasCarrier: record.hasCarrier,
                mtu: Int(record.mtu))
            link.forwards = settings.first { $0.index == record.index }?.forwards
            links.append(link)
        }
        guard node.kind == .router else { return }
        flows[node.name] = try ConntrackSocket(network).entries().compactMap { PairEvidence.Flow($0) }
    }

    /// The interface that a host's packets with this mark leave by; nil where there is no way.
    static func route(from tunnel: PlannedTunnel, to address: IPAddress, mark: UInt32) -> String? {
        guard let socket = try? RouteSocket(NetworkNamespace(tunnel.namespace)),
            let route = try? socket.lookUp(address, mark: mark)
        else { return nil }
        return (try? socket.links())?.first { $0.index == route.interface }?.name
    }

    /// What a namespace's routes say of an address that they have no way for; nil where they have one.
    static func missingRoute(_ namespace: String, to address: IPAddress, mark: UInt32) -> String? {
        guard let socket = try? RouteSocket(NetworkNamespace(namespace)) else { return nil }
        do throws(OperationFailure) { _ = try socket.lookUp(address, mark: mark) } catch {
            return switch error.errno {
            case ENETUNREACH: "no route"
            case EHOSTUNREACH: "an unreachable route"
            case EACCES: "a prohibit route"
            case EINVAL: "a blackhole route"
            default: nil
            }
        }
        return nil
    }

    /// Whether a tunnel's interface has its address; nil where that cannot be read.
    static func hasAddress(_ tunnel: PlannedTunnel) -> Bool? {
        guard let addresses = try? RouteSocket(NetworkNamespace(tunnel.namespace)).addresses() else {
            return nil
        }
        return addresses.contains { $0.address.address == tunnel.address.address }
    }
}
