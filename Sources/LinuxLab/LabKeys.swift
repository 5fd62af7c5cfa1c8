import Glibc
import LabPlanner
import SystemCalls
import WireGuardControl
import WireGuardKeys

/// The keys of the lab's tunnels, made or read before any step, kept under STATE/keys.
final class LabKeys {
    private var privateKeys: [String: PrivateKey] = [:]
    private var publicKeys: [String: PublicKey] = [:]
    private var presharedKeys: [String: PresharedKey] = [:]
    private let filesFolder: String
    /// Which tunnels a rendezvous client serves, by their names.
    private let clients: Set<String>
    /// About files that others can read, in the order of the plan.
    private(set) var warnings: [String] = []

    /// Makes or reads all keys of the plan; relative names of key files are meant from `filesFolder`.
    ///
    /// What it throws is about a file that the topology names.
    init(_ plan: LabPlan, filesFolder: String) throws(OperationFailure) {
        self.filesFolder = filesFolder
        clients = Set((plan.rendezvous?.clients ?? []).map { Self.name($0.host, $0.interface) })
        for tunnel in plan.tunnels {
            let name = Self.name(tunnel.host, tunnel.interface)
            let key: PrivateKey
            if let file = tunnel.privateKeyFile {
                key = use(try KeyFile.readPrivateKey(path(file)))
            } else {
                key = PrivateKey.generate()
            }
            privateKeys[name] = key
            publicKeys[name] = key.publicKey
            for peer in tunnel.peers {
                guard let file = peer.presharedKeyFile, presharedKeys[file] == nil else { continue }
                presharedKeys[file] = use(try KeyFile.readPresharedKey(path(file)))
            }
        }
        try checkThatKeysDiffer(plan)
    }

    /// All of the tunnel's settings, with every peer.
    func change(for tunnel: PlannedTunnel) throws(OperationFailure) -> WireGuardChange {
        // A client sets it together with the endpoint: an attempt of WireGuard before that would only use up the one
        // per 5 s. Where nobody does, it has to be there when the peer has shown where it is.
        let clientSetsIt = clients.contains(Self.name(tunnel.host, tunnel.interface))
        var peers: [WireGuardPeerChange] = []
        for peer in tunnel.peers {
            guard let key = publicKeys[Self.name(peer.host, tunnel.interface)] else {
                throw OperationFailure(
                    "configure WireGuard", tunnel.interface, namespace: tunnel.namespace,
                    detail: "its peer \(peer.host) has no such interface")
            }
            peers.append(
                WireGuardPeerChange(
                    publicKey: key, presharedKey: peer.presharedKeyFile.flatMap { presharedKeys[$0] },
                    endpoint: peer.endpoint,
                    persistentKeepalive: peer.endpoint == nil && clientSetsIt ? nil : peer.keepalive,
                    replaceAllowedIPs: true, allowedIPs: peer.allowedIPs))
        }
        return WireGuardChange(
            privateKey: privateKeys[Self.name(tunnel.host, tunnel.interface)], listenPort: tunnel.listenPort,
            firewallMark: tunnel.firewallMark, replacePeers: true, peers: peers)
    }

    /// Writes all keys down, for the agent, `status` and `verify`.
    func write(_ plan: LabPlan, _ state: LabState) throws(OperationFailure) {
        for tunnel in plan.tunnels {
            let name = Self.name(tunnel.host, tunnel.interface)
            guard let secret = privateKeys[name], let shown = publicKeys[name] else { continue }
            let path = state.privateKeyFile(host: tunnel.host, interface: tunnel.interface)
            var failure: OperationFailure?
            secret.withBase64 { text in
                do throws(OperationFailure) {
                    try Files.writeAtomically(path, copying: text, mode: 0o600)
                } catch { failure = error }
            }
            if let failure { throw failure }
            try Files.writeAtomically(
                state.publicKeyFile(host: tunnel.host, interface: tunnel.interface),
                Array((shown.base64 + "\n").utf8),
                mode: 0o600)
        }
    }

    private func path(_ file: String) -> String { file.hasPrefix("/") ? file : "\(filesFolder)/\(file)" }

    private func use<Key>(_ reading: KeyFile.Reading<Key>) -> Key {
        if let warning = reading.warning { warnings.append(warning) }
        return reading.key
    }

    /// Throws where two hosts would be one to their peers: in one network, or to the rendezvous server, which knows
    /// the interfaces of all networks by their keys alone.
    private func checkThatKeysDiffer(_ plan: LabPlan) throws(OperationFailure) {
        var owners: [PublicKey: [PlannedTunnel]] = [:]
        for tunnel in plan.tunnels {
            let name = Self.name(tunnel.host, tunnel.interface)
            // The same tunnel twice is not two hosts: its second step fails by itself.
            guard let key = publicKeys[name],
                owners[key]?.contains(where: { Self.name($0.host, $0.interface) == name }) != true
            else { continue }
            let other = owners[key]?.first {
                $0.interface == tunnel.interface
                    || clients.contains(name) && clients.contains(Self.name($0.host, $0.interface))
            }
            guard let other else {
                owners[key, default: []].append(tunnel)
                continue
            }
            throw OperationFailure(
                "use private key", tunnel.privateKeyFile.map(path) ?? "",
                detail:
                    "\(tunnel.interface) of \(tunnel.host) and \(other.interface) of \(other.host) would have the"
                    + " same public key, by which their peers tell them apart",
                mend: "give each a file with a key of its own: (umask 077; wg genkey > FILE)")
        }
    }

    private static func name(_ host: String, _ interface: String) -> String { "\(host).\(interface)" }
}
