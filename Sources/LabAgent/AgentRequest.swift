import FoundationEssentials
import Glibc
package import SystemCalls

extension AgentStatus {
    /// The largest answer that is read: about 1 kB a peer, far above a mesh of 1,000.
    private static let sizeLimit = 1 << 30

    /// Asks the agent behind the socket for its status.
    ///
    /// The agent answers every connection with one JSON document and closes it. Throws ECONNREFUSED or ENOENT when no
    /// agent listens, ETIMEDOUT when it does not answer within `timeout`.
    package static func ask(_ path: String, timeout: Duration = .seconds(5)) throws(OperationFailure)
        -> AgentStatus
    {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw OperationFailure("ask the agent", path, errno: errno) }
        let connection = Descriptor(adopting: descriptor)
        var limit = timeval(tv_sec: Int(timeout.components.seconds), tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        setsockopt(connection.rawValue, SOL_SOCKET, SO_RCVTIMEO, &limit, size)
        setsockopt(connection.rawValue, SOL_SOCKET, SO_SNDTIMEO, &limit, size)
        try UnixAddress(path).withPointer { (address, length) throws(OperationFailure) in
            guard connect(connection.rawValue, address, length) == 0 else {
                let code = errno
                throw OperationFailure(
                    "ask the agent", path, errno: code == EAGAIN ? ETIMEDOUT : code,
                    detail: code == ECONNREFUSED || code == ENOENT ? "it is not running" : nil)
            }
        }
        let bytes: [UInt8]
        do throws(OperationFailure) {
            bytes = try connection.readAll(limit: sizeLimit)
        } catch {
            throw OperationFailure(
                "ask the agent", path, errno: error.errno == EAGAIN ? ETIMEDOUT : error.errno,
                detail: error.errno == EAGAIN ? "it did not answer in \(timeout)" : nil)
        }
        do {
            return try JSONDecoder().decode(AgentStatus.self, from: Data(bytes))
        } catch {
            throw OperationFailure(
                "ask the agent", path, detail: "its answer is not what natlab writes: \(error)")
        }
    }
}

/// The address of a UNIX socket (unix(7)); a path of up to 107 bytes.
struct UnixAddress {
    private var storage = sockaddr_un()

    init(_ path: String) throws(OperationFailure) {
        storage.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        let room = MemoryLayout.size(ofValue: storage.sun_path) - 1
        guard bytes.count <= room else { throw OperationFailure("use socket", path, errno: ENAMETOOLONG) }
        withUnsafeMutableBytes(of: &storage.sun_path) { $0.copyBytes(from: bytes) }
    }

    func withPointer<R>(
        _ body: (UnsafePointer<sockaddr>, socklen_t) throws(OperationFailure) -> R
    ) throws(OperationFailure) -> R {
        // The typed throw cannot pass through rebinding closures of the standard library, so the result is carried out.
        var result: Result<R, OperationFailure>?
        withUnsafePointer(to: storage) { whole in
            whole.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                do throws(OperationFailure) {
                    result = .success(try body(address, socklen_t(MemoryLayout<sockaddr_un>.size)))
                } catch { result = .failure(error) }
            }
        }
        guard let result else { throw OperationFailure("use socket", "address") }
        return try result.get()
    }
}
