import Glibc
import NetAddress
import NetlinkWire
import SystemCalls

/// Takes out of routers what the addresses of a measurement have left there.
enum Cleaning {
    /// Deletes the connections, and the neighbours on all links; how many connections there were.
    ///
    /// Goes on after a failure, and throws the first then.
    static func run(_ addresses: [IPAddress], in networks: [NetworkNamespace]) throws(OperationFailure) -> Int
    {
        var count = 0
        var first: OperationFailure?
        for network in networks {
            do throws(OperationFailure) {
                count += try removeConnections(of: addresses, in: network)
                try removeNeighbours(addresses, in: network)
            } catch { first = first ?? error }
        }
        if let first { throw first }
        return count
    }

    private static func removeConnections(
        of addresses: [IPAddress], in network: NetworkNamespace
    ) throws(OperationFailure) -> Int {
        let socket = try ConntrackSocket(network)
        var count = 0
        for entry in try socket.entries() where addresses.contains(where: entry.has) {
            if try socket.delete(entry) { count += 1 }
        }
        return count
    }

    private static func removeNeighbours(
        _ addresses: [IPAddress], in network: NetworkNamespace
    ) throws(OperationFailure) {
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
