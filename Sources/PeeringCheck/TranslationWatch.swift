import Glibc
package import LabPlanner
package import NetAddress
import NetlinkWire
import SystemCalls

/// Finds by connection tracking which router shows a host a remote endpoint in place of another.
package final class TranslationWatch {
    private let addresses: AddressBook
    private let namespaces: [String: String]
    private var flows: [String: (read: MonotonicTime, entries: [ConntrackEntry])] = [:]
    /// Many pairs are judged at once.
    private static let freshness = Duration.milliseconds(500)

    package init(_ plan: LabPlan) {
        addresses = AddressBook(plan)
        namespaces = Dictionary(
            plan.nodes.filter { $0.translation != nil }.map { ($0.name, $0.namespace) },
            uniquingKeysWith: { first, _ in first })
    }

    /// The router on the host's way whose inbound flow from another endpoint has this one as its source inside.
    package func translation(_ host: String, _ remote: Endpoint) -> EndpointTranslation? {
        for router in addresses.routers(of: host) {
            for entry in entries(router) where entry.original.proto == UInt8(IPPROTO_UDP) {
                let shown = Endpoint(entry.reply.destination, port: entry.reply.destinationPort)
                let original = Endpoint(entry.original.source, port: entry.original.sourcePort)
                // A host's own flow outward has the NAT's external endpoint there.
                guard shown == remote, original != remote, original.address == remote.address else {
                    continue
                }
                return EndpointTranslation(router: router, original: original)
            }
        }
        return nil
    }

    /// Empty where they cannot be read: then nobody is named, and the verdict stands without.
    private func entries(_ router: String) -> [ConntrackEntry] {
        guard let namespace = namespaces[router] else { return [] }
        if let known = flows[router], MonotonicTime.now() - known.read < Self.freshness {
            return known.entries
        }
        let entries = (try? ConntrackSocket(NetworkNamespace(namespace)).entries()) ?? []
        flows[router] = (.now(), entries)
        return entries
    }
}
