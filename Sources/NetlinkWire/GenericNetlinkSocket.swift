import CNLGenl
import Glibc
package import SystemCalls

/// A generic netlink socket over libnl, of the machine's own network namespace or, adopted, of another one.
///
/// Not for several threads at once. Blocks until the kernel has answered, at most `timeout` a request.
/// Errors carry the kernel's errno and its text (NETLINK_EXT_ACK). Source: libnl, netlink/socket.h; linux/netlink.h.
package final class GenericNetlinkSocket {
    private let socket: OpaquePointer
    private let file: Int32
    private let namespace: String?
    private let timeout: Duration
    private var sequence: UInt32 = 0

    /// Opens a socket in the calling thread's namespace: the machine's own.
    package convenience init() throws(OperationFailure) {
        let file = Glibc.socket(AF_NETLINK, Self.type, NETLINK_GENERIC)
        let code = errno
        guard file >= 0 else { throw OperationFailure("open", "generic netlink socket", errno: code) }
        try self.init(adopting: file)
    }

    /// Opens a socket in a namespace.
    package convenience init(in namespace: NetworkNamespace) throws(OperationFailure) {
        let file = try namespace.socket(domain: AF_NETLINK, type: Self.type, protocol: NETLINK_GENERIC)
        try self.init(adopting: file.take(), namespace: namespace.name)
    }

    private static let type = Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue)

    /// Adopts an AF_NETLINK/NETLINK_GENERIC socket, for instance one made in another namespace; closes it, also on failure.
    ///
    /// `namespace` is that namespace's name, for error texts.
    package init(adopting file: Int32, namespace: String? = nil, timeout: Duration = .seconds(5))
        throws(OperationFailure)
    {
        self.file = file
        self.namespace = namespace
        self.timeout = timeout
        guard cnlgenl_bind(file) == 0 else {
            let code = errno
            close(file)
            throw OperationFailure("bind", "generic netlink socket", namespace: namespace, errno: code)
        }
        guard let socket = nl_socket_alloc() else {
            close(file)
            throw OperationFailure("open", "generic netlink socket", namespace: namespace, errno: ENOMEM)
        }
        let status = nl_socket_set_fd(socket, NETLINK_GENERIC, file)
        guard status == 0 else {
            close(file)
            nl_socket_free(socket)
            throw OperationFailure(
                "adopt", "generic netlink socket", namespace: namespace, errno: errnoOfLibnl(status),
                detail: textOfLibnl(status))
        }
        // From here on nl_socket_free closes the file; assigned last, since a throw after it would run deinit too.
        self.socket = socket
        // The kernel caps a dump's messages at 32 KiB; a buffer that
        // always suffices is never moved by libnl, which would leave a private key behind in freed memory.
        nl_socket_disable_msg_peek(socket)
        nl_socket_set_msg_buf_size(socket, 64 * 1024)
        var on: Int32 = 1
        for option in [NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK] {
            // All three are refinements; a kernel before 4.20 lacks some and answers ENOPROTOOPT.
            _ = setsockopt(file, SOL_NETLINK, option, &on, socklen_t(MemoryLayout<Int32>.size))
        }
    }

    deinit { nl_socket_free(socket) }

    /// The message type of a generic netlink family; nil when the kernel has no such family.
    ///
    /// The kernel loads the family's module first where it can (CTRL_CMD_GETFAMILY, linux/genetlink.h).
    /// libnl's genl_ctrl_resolve reports every failure as "not found", which would hide a real one.
    package func family(named name: String) throws(OperationFailure) -> UInt16? {
        let request = GenericMessage(command: UInt8(CTRL_CMD_GETFAMILY), version: 1)
        request.put(UInt16(CTRL_ATTR_FAMILY_NAME), string: name)
        var family: UInt16?
        do {
            try exchange(
                request, family: UInt16(NLMSG_MIN_TYPE), flags: NLM_F_REQUEST | NLM_F_ACK,
                operation: "look up generic netlink family", object: name
            ) { payload throws(OperationFailure) in
                var attributes = GenericAttributeReader(payload)
                while let attribute = try attributes.next() {
                    if attribute.type == UInt16(CTRL_ATTR_FAMILY_ID) { family = try attribute.integer() }
                }
            }
        } catch {
            if error.errno == ENOENT { return nil }
            throw error
        }
        guard let family else { throw .malformedNetlink("no id for the generic netlink family \(name)") }
        return family
    }

    /// Sends a request and waits for the kernel's acknowledgement.
    package func request(
        _ message: GenericMessage, family: UInt16, operation: String, object: String
    ) throws(OperationFailure) {
        try exchange(
            message, family: family, flags: NLM_F_REQUEST | NLM_F_ACK, operation: operation, object: object
        ) { _ throws(OperationFailure) in }
    }

    /// Sends a dump request and hands out the attributes of each answer, in order; they must not outlive the call.
    ///
    /// Throws EINTR when the kernel says that the objects changed meanwhile (NLM_F_DUMP_INTR): what was handed out
    /// is then worthless and the caller asks again.
    package func dump(
        _ message: GenericMessage, family: UInt16, operation: String, object: String,
        each: (UnsafeRawBufferPointer) throws(OperationFailure) -> Void
    ) throws(OperationFailure) {
        try exchange(
            message, family: family, flags: NLM_F_REQUEST | NLM_F_DUMP, operation: operation, object: object,
            each: each)
    }

    private func exchange(
        _ message: GenericMessage, family: UInt16, flags: Int32, operation: String, object: String,
        each: (UnsafeRawBufferPointer) throws(OperationFailure) -> Void
    ) throws(OperationFailure) {
        sequence &+= 1
        message.stamp(
            type: family, flags: UInt16(flags), sequence: sequence, port: nl_socket_get_local_port(socket))
        let failure = OperationFailure(operation, object, namespace: namespace)
        try send(message, failure)
        let deadline = MonotonicTime.now() + timeout
        var state = Progress(sequence: sequence)
        while !state.finished {
            try wait(until: deadline, failure)
            try receive(failure) { (datagram) throws(OperationFailure) in
                try state.take(datagram, family: family, failure: failure, each: each)
            }
        }
        if state.interrupted {
            var failure = failure
            failure.errno = EINTR
            failure.detail = "the answer was interrupted by a change"
            throw failure
        }
    }

    private func send(_ message: GenericMessage, _ failure: OperationFailure) throws(OperationFailure) {
        let status = message.withBytes { bytes in
            // nl_sendto takes a pointer without const but only reads.
            nl_sendto(socket, UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count)
        }
        guard status >= 0 else { throw failure.with(libnl: status) }
    }

    private func wait(until deadline: MonotonicTime, _ failure: OperationFailure) throws(OperationFailure) {
        var entry = pollfd(fd: file, events: Int16(POLLIN), revents: 0)
        while true {
            let status = poll(&entry, 1, deadline.millisecondsLeft())
            let code = errno
            if status > 0 { return }
            guard status < 0 else {
                var failure = failure
                failure.errno = ETIMEDOUT
                failure.detail = "the kernel did not answer within \(timeout)"
                throw failure
            }
            guard code == EINTR else {
                var failure = failure
                failure.errno = code
                throw failure
            }
        }
    }

    private func receive(
        _ failure: OperationFailure, _ body: (UnsafeRawBufferPointer) throws(OperationFailure) -> Void
    ) throws(OperationFailure) {
        var buffer: UnsafeMutablePointer<UInt8>?
        var sender: UInt32 = 0
        let count = cnlgenl_receive(socket, &buffer, &sender)
        guard count >= 0 else { throw failure.with(libnl: count) }
        guard let buffer else { return }
        defer { cnlgenl_free(buffer, Int(count)) }
        // Any process may send to a netlink socket; only the kernel has port id 0.
        guard sender == 0 else { return }
        try body(UnsafeRawBufferPointer(start: buffer, count: Int(count)))
    }
}

/// How far the answer to one request has come.
private struct Progress {
    let sequence: UInt32
    var finished = false
    var interrupted = false

    mutating func take(
        _ datagram: UnsafeRawBufferPointer, family: UInt16, failure: OperationFailure,
        each: (UnsafeRawBufferPointer) throws(OperationFailure) -> Void
    ) throws(OperationFailure) {
        var answers = GenericAnswerReader(datagram, family: family)
        while let answer = try answers.next() {
            // An answer to an earlier request, which was given up at its deadline.
            guard answer.sequence == sequence else { continue }
            interrupted = interrupted || answer.interrupted
            switch answer.content {
            case .attributes(let payload):
                if !finished, !interrupted { try each(payload) }
            case .acknowledgement(let code, let text), .done(let code, let text):
                finished = true
                guard code == 0 else {
                    var failure = failure
                    failure.errno = code
                    failure.detail = text
                    throw failure
                }
            case .other: break
            }
        }
    }
}

extension OperationFailure {
    fileprivate func with(libnl code: Int32) -> OperationFailure {
        var failure = self
        failure.errno = errnoOfLibnl(code)
        failure.detail = textOfLibnl(code)
        return failure
    }
}
