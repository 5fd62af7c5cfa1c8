import Glibc
import NetlinkWire
import SystemCalls

/// Open files and rtnetlink sockets of the lab's namespaces, and the indexes of the links made in them.
///
/// Kept open because each further socket costs a thread (50-80 us); bounded because a lab may have more
/// namespaces than a process may have files.
final class NamespaceConnections {
    private final class Connection {
        let file: Descriptor
        let socket: RouteSocket
        var lastUse: UInt64 = 0
        init(_ file: consuming Descriptor, _ socket: RouteSocket) {
            self.file = file
            self.socket = socket
        }
    }

    private var open: [String: Connection] = [:]
    private var uses: UInt64 = 0
    private var held: [Connection] = []
    /// Two descriptors each; a quarter of what is allowed stays for everything else.
    private let limit: Int
    private var indexes: [Link: Int32] = [:]
    private var lastIndex: [String: Int32] = [:]

    private struct Link: Hashable {
        var namespace: String
        var name: String
    }

    init() { limit = max(16, Self.raiseFileLimit() * 3 / 8) }

    /// Adopts the socket of a namespace that was just made.
    func adopt(_ socket: consuming Descriptor, of namespace: NetworkNamespace) throws(OperationFailure) {
        let file = try namespace.open()
        let connection = Connection(file, try RouteSocket(adopting: socket, namespace: namespace.name))
        insert(connection, namespace.name)
    }

    func socket(_ namespace: String) throws(OperationFailure) -> RouteSocket {
        try connection(namespace).socket
    }

    /// The namespace's open file; stays open until `releaseFiles`.
    func file(_ namespace: String) throws(OperationFailure) -> Int32 {
        let connection = try connection(namespace)
        held.append(connection)
        return connection.file.rawValue
    }

    /// After the requests that name files have been carried out.
    func releaseFiles() { held.removeAll(keepingCapacity: true) }

    /// An index for a link that is about to be made.
    ///
    /// Chosen here, so that requests that follow can name the link without waiting for an answer. From 101
    /// on: below is what the kernel makes by itself in a new namespace (lo, tunl0, sit0, ...).
    func newIndex(_ namespace: String, _ name: String) -> Int32 {
        let index = (lastIndex[namespace] ?? 100) + 1
        lastIndex[namespace] = index
        indexes[Link(namespace: namespace, name: name)] = index
        return index
    }

    /// The index of a link that natlab or a program has made; ENODEV when there is none.
    func index(_ namespace: String, _ name: String) throws(OperationFailure) -> Int32 {
        let link = Link(namespace: namespace, name: name)
        if let index = indexes[link] { return index }
        let index = try socket(namespace).linkIndex(name)
        indexes[link] = index
        return index
    }

    private func connection(_ name: String) throws(OperationFailure) -> Connection {
        uses += 1
        if let found = open[name] {
            found.lastUse = uses
            return found
        }
        let namespace = NetworkNamespace(name)
        let connection = Connection(try namespace.open(), try RouteSocket(namespace))
        insert(connection, name)
        return connection
    }

    private func insert(_ connection: Connection, _ name: String) {
        uses += 1
        connection.lastUse = uses
        if open.count >= limit {
            // The half that was used longest ago, so that this happens seldom.
            let border = open.values.map(\.lastUse).sorted()[open.count / 2]
            open = open.filter { $0.value.lastUse > border }
        }
        open[name] = connection
    }

    /// Lifts the soft limit of open files to the hard one; what then is allowed.
    private static func raiseFileLimit() -> Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 1024 }
        let before = limit.rlim_cur
        limit.rlim_cur = limit.rlim_max
        if setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) != 0 { limit.rlim_cur = before }
        return Int(clamping: limit.rlim_cur)
    }
}
