import Glibc
import NetAddress
import NetlinkWire
import SystemCalls

/// Takes out of routers what a measurement has left there.
struct Cleaning {
    /// Of its hosts.
    let addresses: [IPAddress]
    /// Those of its hosts, what they were outside, and others that only it has used.
    let endpoints: Set<Endpoint>

    /// Deletes the connections, and the neighbours on all links; how many connections there were.
    ///
    /// Goes on after a failure, and throws the first then.
    func run(in networks: [NetworkNamespace]) throws(OperationFailure) -> Int {
        var count = 0
        var first: OperationFailure?
        for network in networks {
            do throws(OperationFailure) {
                count += try removeConnections(in: network)
                try removeNeighbours(in: network)
            } catch { first = first ?? error }
        }
        if let first { throw first }
        return count
    }

    private func removeConnections(in network: NetworkNamespace) throws(OperationFailure) -> Int {
        let socket = try ConntrackSocket(network)
        var count = 0
        for entry in try socket.entries() where isOwn(entry) {
            if try socket.delete(entry) { count += 1 }
        }
        return count
    }

    /// By the endpoints too: another measurement may have the same addresses, on other ports.
    private func isOwn(_ entry: ConntrackEntry) -> Bool {
        addresses.contains(where: entry.has)
            && [entry.original, entry.reply].contains { tuple in
                endpoints.contains(Endpoint(tuple.source, port: tuple.sourcePort))
                    || endpoints.contains(Endpoint(tuple.destination, port: tuple.destinationPort))
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
