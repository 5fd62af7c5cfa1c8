import Glibc
import NetlinkWire
package import SystemCalls

/// An interface that wireguard-go (or another userspace WireGuard) serves, by its UAPI socket.
///
/// Each request is a connection of its own, so an object may outlive the program and serve its successor. Not for
/// several threads at once. Source: https://www.wireguard.com/xplatform/.
package final class UserspaceWireGuard: WireGuardTransport {
    let interface: String
    private let path: String
    private let namespace: String?
    private let timeout: Duration

    /// `path` is the socket's, of any length; `namespace` is for error texts; `timeout` is for one request.
    package init(
        interface: String, path: String, namespace: String? = nil, timeout: Duration = .seconds(5)
    ) {
        self.interface = interface
        self.path = path
        self.namespace = namespace
        self.timeout = timeout
    }

    /// Reads the interface and all its peers.
    ///
    /// Throws ENOENT or ECONNREFUSED when the program is not running, ETIMEDOUT when it is stuck.
    package func read() throws(OperationFailure) -> WireGuardDevice {
        let operation = "read WireGuard"
        let answer = try exchange(UAPIRequest.get(), operation)
        do throws(OperationFailure) {
            return try answer.withBytes { (bytes) throws(OperationFailure) in
                try UAPIAnswer.device(bytes, interface: interface)
            }
        } catch { throw explained(error, operation) }
    }

    /// Applies a change; what the program took before a line that it refuses stays applied.
    package func apply(_ change: WireGuardChange) throws(OperationFailure) {
        let operation = "configure WireGuard"
        let answer = try exchange(UAPIRequest.set(change), operation)
        do throws(OperationFailure) {
            try answer.withBytes { (bytes) throws(OperationFailure) in try UAPIAnswer.acknowledgement(bytes) }
        } catch { throw explained(error, operation) }
    }

    private static let mend = "see its log, and start it again (in a lab: `natlab down`, then `natlab up`)"

    func exchange(_ request: WipedBytes, _ operation: String) throws(OperationFailure) -> WipedBytes {
        do throws(OperationFailure) {
            let connection = try UAPIConnection(path: path, deadline: .now() + timeout)
            try connection.send(request)
            return try connection.receive()
        } catch { throw explained(error, operation) }
    }

    /// What failed in terms of the interface; the socket's own failure becomes the detail.
    func explained(_ cause: OperationFailure, _ operation: String) -> OperationFailure {
        var failure = OperationFailure(
            operation, interface, namespace: namespace, errno: cause.errno, detail: cause.detail)
        switch cause.errno {
        case ENOENT, ECONNREFUSED:
            failure.detail = "wireguard-go of \(interface) is not running (no answer on \(path))"
            failure.mend = Self.mend
        case ECONNRESET, EPIPE:
            failure.detail = "wireguard-go of \(interface) ended during the request"
            failure.mend = Self.mend
        case ETIMEDOUT:
            failure.detail = "wireguard-go of \(interface) did not answer on \(path) within \(timeout)"
        default: break
        }
        return failure
    }
}
