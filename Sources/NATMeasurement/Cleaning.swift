import Glibc
import NetAddress
import NetlinkWire
import SystemCalls

/// Takes out of routers what a measurement has left there.
struct Cleaning {
    /// Of its hosts.
    let addresses: [IPAddress]
    /// Those of its hosts, what they were outside, and others that only it has used.
    private var endpoints: Set<Endpoint>
    /// How many connections there were.
    private(set) var count = 0
    /// By namespace: the external endpoints of those connections.
    private(set) var traces: [String: Set<Endpoint>] = [:]

    init(addresses: [IPAddress], endpoints: Set<Endpoint>) {
        self.addresses = addresses
        self.endpoints = endpoints
    }

    /// Deletes the connections, and the neighbours on all links.
    ///
    /// Goes on after a failure, and throws the first then.
    ///
    /// - Parameter networks: from the inside: what one router has made of an endpoint tells the connection in the next.
    mutating func run(in networks: [NetworkNamespace]) throws(OperationFailure) {
        var first: OperationFailure?
        for network in networks {
            do throws(OperationFailure) {
                try removeConnections(in: network)
                try removeNeighbours(in: network)
            } catch { first = first ?? error }
        }
        if let first { throw first }
    }

    private mutating func removeConnections(in network: NetworkNamespace) throws(OperationFailure) {
        let socket = try ConntrackSocket(network)
        var external: Set<Endpoint> = []
        for entry in try socket.entries() where isOwn(entry) {
            // Outward its answers come there; inward it was sent there.
            external.insert(entry.reply.destinationEndpoint)
            external.insert(entry.original.destinationEndpoint)
            if try socket.delete(entry) { count += 1 }
        }
        endpoints.formUnion(external)
        traces[network.name] = external
    }

    /// By the endpoints too: another measurement may have the same addresses, on other ports.
    private func isOwn(_ entry: ConntrackEntry) -> Bool {
        addresses.contains(where: entry.has)
            && [entry.original, entry.reply].contains { tuple in
                endpoints.contains(Endpoint(tuple.source, port: tuple.sourcePort))
                    || endpoints.contains(tuple.destinationEndpoint)
            }
    }

    private func removeNeighbours(in network: NetworkNamespace) throws(OperationFailure) {
        let socket = try RouteSocket(network)
        for link in try socket.links() {
            for address in addresses {
                let refusal = try socket.refusal(
                    of: [.deleteNeighbour(address, index: link.index, name: link.name)])
                // Most links do not have it.
                if let failure = refusal?.failure, failure.errno != ENOENT { throw failure }
            }
        }
    }
}

extension ConntrackTuple {
    fileprivate var destinationEndpoint: Endpoint { Endpoint(destination, port: destinationPort) }
}
