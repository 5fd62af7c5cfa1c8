import CMNL
import CNLGenl
import Glibc
package import NetAddress
package import SystemCalls

/// What carries netlink datagrams to the kernel and back; tests put their own in.
package protocol NetlinkChannel: AnyObject {
    /// Throws an errno in `OperationFailure`.
    func send(_ bytes: UnsafeRawBufferPointer) throws(OperationFailure)
    /// Waits for a datagram and returns its length; EAGAIN on a socket that does not wait, EMSGSIZE when it was longer than the buffer.
    func receive(into buffer: UnsafeMutableRawBufferPointer) throws(OperationFailure) -> Int
}

/// An rtnetlink connection to one network namespace.
///
/// Not for several threads at once. Every failure carries the kernel's extended-ack text.
package final class RouteSocket {
    private let channel: any NetlinkChannel
    /// For errors; nil is the machine's own namespace.
    private let namespace: String?
    /// Whose answers these are, for errors.
    private let family: String
    private var sequence: UInt32 = 0
    private var outgoing = RouteMessageBuffer()
    /// 32 KiB: what the kernel fills at most in one datagram of a dump (netlink(7), `NLMSG_GOODSIZE`).
    private let incoming = UnsafeMutableRawBufferPointer.allocate(byteCount: 32_768, alignment: 16)

    /// Takes a NETLINK_ROUTE socket over, in whichever namespace it was made.
    package convenience init(adopting socket: consuming Descriptor, namespace: String?)
        throws(OperationFailure)
    {
        self.init(channel: try KernelChannel(socket, namespace: namespace), namespace: namespace)
    }

    /// Connects to a pinned namespace.
    package convenience init(_ namespace: NetworkNamespace) throws(OperationFailure) {
        let socket = try namespace.netlinkSocket(NETLINK_ROUTE)
        try self.init(adopting: socket, namespace: namespace.name)
    }

    /// Connects to a new namespace that goes with the connection: for trying what the kernel can do.
    package static func inNewNamespace() throws(OperationFailure) -> RouteSocket {
        try RouteSocket(
            adopting: try NetworkNamespace.netlinkSocketInNewNamespace(NETLINK_ROUTE), namespace: nil)
    }

    package init(channel: any NetlinkChannel, namespace: String?, family: String = "NETLINK_ROUTE") {
        self.channel = channel
        self.namespace = namespace
        self.family = family
    }

    deinit { incoming.deallocate() }

    /// A request that the kernel refused, by its place among those that were to be carried out.
    package struct Refusal: Sendable {
        package var position: Int
        package var failure: OperationFailure
    }

    /// Carries out the requests in order; throws the first that fails.
    package func perform(_ requests: [RouteRequest]) throws(OperationFailure) {
        if let refusal = try refusal(of: requests) { throw refusal.failure }
    }

    /// Carries out the requests in order; the first that the kernel refused.
    ///
    /// They go in as few datagrams as will hold them. The kernel goes on after a refused one, so what follows
    /// it in the same datagram may have happened too. Throws only when the exchange itself fails.
    package func refusal(of requests: [RouteRequest]) throws(OperationFailure) -> Refusal? {
        var rest = requests[...]
        while !rest.isEmpty {
            let count = try sendBatch(rest)
            if let refusal = try receiveOutcomes(of: rest.prefix(count)) { return refusal }
            rest = rest.dropFirst(count)
        }
        return nil
    }

    package func perform(_ request: RouteRequest) throws(OperationFailure) { try perform([request]) }

    /// Carries out requests to an nfnetlink subsystem as one transaction: all of them, or none when it throws.
    ///
    /// The connection is of no use after a throw. Source: nfnetlink_rcv_batch in the kernel's net/netfilter/nfnetlink.c.
    func transact(_ requests: [RouteRequest], subsystem: Int32) throws(OperationFailure) {
        outgoing.removeAll()
        let first = sequence &+ 1
        let batch = [RouteRequest.beginBatch(subsystem)] + requests + [.endBatch(subsystem)]
        for (position, request) in batch.enumerated() {
            sequence &+= 1
            // All verdicts come, in order, when the transaction has ended. That of the last request ends them: older
            // kernels acknowledge no end of a batch.
            let flags = position == requests.count ? NLM_F_ACK : 0
            guard outgoing.append(request, flags: flags, sequence: sequence) else {
                throw OperationFailure(
                    request.operation, request.object, namespace: namespace, errno: EMSGSIZE)
            }
        }
        try sendOutgoing(requests[...])
        var refusal: OperationFailure?
        var done = false
        while !done {
            try receive(for: requests.first) { message throws(OperationFailure) in
                let position = message.sequence &- first
                guard position <= UInt32(requests.count), message.type == UInt16(NLMSG_ERROR),
                    let outcome = message.outcome
                else { throw self.malformed("an answer to no request (sequence \(message.sequence))") }
                if outcome.errno != 0, refusal == nil {
                    // What befalls the whole batch is told of its beginning.
                    refusal = self.failure(batch[max(1, Int(position))], outcome)
                }
                if position == 0 || position == UInt32(requests.count) { done = true }
            }
        }
        if let refusal { throw refusal }
    }

    /// The index of the link of this name; ENODEV when there is none.
    package func linkIndex(_ name: String) throws(OperationFailure) -> Int32 { try link(name).index }

    /// The link of this name; ENODEV when there is none.
    package func link(_ name: String) throws(OperationFailure) -> LinkRecord {
        try one(.getLink(name: name), absent: ENODEV) { LinkRecord($0) }
    }

    /// Which way a packet with this firewall mark would go, as `ip route get`.
    ///
    /// ENETUNREACH where there is no route; what a route says otherwise: EHOSTUNREACH, EACCES, EINVAL ("unreachable",
    /// "prohibit", "blackhole" of ip-route(8)).
    package func lookUp(_ destination: IPAddress, mark: UInt32 = 0) throws(OperationFailure) -> RouteAnswer {
        try one(.getRoute(to: destination, mark: mark), absent: ENETUNREACH) { RouteAnswer($0) }
    }

    /// The only record of an answer.
    private func one<R>(
        _ request: RouteRequest, absent: Int32, _ record: (RouteReplyMessage) -> R?
    ) throws(OperationFailure) -> R {
        var found: R?
        // NLM_F_ACK ends the answer: the record, then the acknowledgement.
        try send(request, flags: NLM_F_ACK)
        _ = try collect(request) { found = record($0) ?? found }
        guard let found else { throw failure(request, RouteOutcome(errno: absent)) }
        return found
    }

    package func links() throws(OperationFailure) -> [LinkRecord] { try dump(.dumpLinks) { LinkRecord($0) } }
    /// Of every interface, for IPv4.
    package func interfaceSettings() throws(OperationFailure) -> [InterfaceSettings] {
        try dump(.dumpInterfaceSettings) { InterfaceSettings($0) }
    }
    package func addresses() throws(OperationFailure) -> [AddressRecord] {
        try dump(.dumpAddresses) { AddressRecord($0) }
    }
    /// Of all tables, the local one too.
    package func routes() throws(OperationFailure) -> [RouteRecord] {
        try dump(.dumpRoutes) { RouteRecord($0) }
    }

    // MARK: Requests

    /// As many of the requests as fit one datagram; how many they were.
    private func sendBatch(_ requests: ArraySlice<RouteRequest>) throws(OperationFailure) -> Int {
        outgoing.removeAll()
        var count = 0
        for request in requests.prefix(Self.batchLimit) {
            guard outgoing.append(request, flags: 0, sequence: sequence &+ 1) else { break }
            sequence &+= 1
            count += 1
        }
        guard count > 0 else {
            let request = requests[requests.startIndex]
            throw OperationFailure(request.operation, request.object, namespace: namespace, errno: EMSGSIZE)
        }
        // Only the last is acknowledged: errors always are (netlink_rcv_skb), and the kernel works them off
        // in order, so that one acknowledgement stands for all.
        outgoing.acknowledgeLast()
        try sendOutgoing(requests)
        return count
    }

    /// So many errors fit the socket's receive buffer (212,992 bytes, some 800 a message with the kernel's
    /// overhead).
    private static let batchLimit = 64

    private func sendOutgoing(_ requests: ArraySlice<RouteRequest>) throws(OperationFailure) {
        do throws(OperationFailure) {
            try channel.send(outgoing.bytes)
        } catch {
            let first = requests.first
            throw OperationFailure(
                first?.operation ?? error.operation, first?.object ?? error.object, namespace: namespace,
                errno: error.errno, detail: "netlink send")
        }
    }

    private func send(_ request: RouteRequest, flags: Int32) throws(OperationFailure) {
        outgoing.removeAll()
        sequence &+= 1
        guard outgoing.append(request, flags: flags, sequence: sequence) else {
            throw OperationFailure(request.operation, request.object, namespace: namespace, errno: EMSGSIZE)
        }
        try sendOutgoing([request])
    }

    /// Reads until the last request's outcome, so that nothing is left to read; the first that was refused.
    private func receiveOutcomes(of requests: ArraySlice<RouteRequest>) throws(OperationFailure) -> Refusal? {
        let last = sequence
        let first = last &- UInt32(requests.count) &+ 1
        var refused: Refusal?
        var done = false
        while !done {
            try receive(for: requests.first) { message throws(OperationFailure) in
                let position = message.sequence &- first
                guard position < UInt32(requests.count), let outcome = message.outcome,
                    message.type == UInt16(NLMSG_ERROR)
                else { throw self.malformed("an answer to no request (sequence \(message.sequence))") }
                if outcome.errno != 0, refused == nil {
                    let place = requests.startIndex + Int(position)
                    refused = Refusal(position: place, failure: self.failure(requests[place], outcome))
                }
                if message.sequence == last { done = true }
            }
        }
        return refused
    }

    // MARK: Dumps

    /// Interrupted dumps (NLM_F_DUMP_INTR: something changed meanwhile) start again, at most this often.
    private static let dumpAttempts = 8

    /// Asks for a dump and reads it whole; what `record` makes nil is left out.
    func dump<R>(
        _ request: RouteRequest, _ record: (RouteReplyMessage) -> R?
    ) throws(OperationFailure) -> [R] {
        for _ in 0..<Self.dumpAttempts {
            var records: [R] = []
            try send(request, flags: NLM_F_DUMP)
            let interrupted = try collect(request) { message in
                if let one = record(message) { records.append(one) }
            }
            if !interrupted { return records }
        }
        throw OperationFailure(
            request.operation, request.object, namespace: namespace, errno: EINTR,
            detail: "changed during each of \(Self.dumpAttempts) readings")
    }

    /// Reads the answer to the last request up to its end; whether a dump was interrupted.
    private func collect(
        _ request: RouteRequest, _ body: (RouteReplyMessage) -> Void
    ) throws(OperationFailure) -> Bool {
        var interrupted = false
        var outcome: RouteOutcome?
        while outcome == nil {
            try receive(for: request) { message throws(OperationFailure) in
                guard message.sequence == self.sequence else {
                    throw self.malformed("an answer to no request (sequence \(message.sequence))")
                }
                if message.flags & UInt16(NLM_F_DUMP_INTR) != 0 { interrupted = true }
                switch Int32(message.type) {
                case NLMSG_ERROR, NLMSG_DONE:
                    guard let found = message.outcome else { throw self.malformed("a short acknowledgement") }
                    outcome = found
                default: body(message)
                }
            }
        }
        if let outcome, outcome.errno != 0 { throw failure(request, outcome) }
        return interrupted
    }

    // MARK: Answers

    private func receive(
        for request: RouteRequest?, _ body: (RouteReplyMessage) throws(OperationFailure) -> Void
    ) throws(OperationFailure) {
        let count: Int
        do throws(OperationFailure) {
            count = try channel.receive(into: incoming)
        } catch {
            throw OperationFailure(
                request?.operation ?? error.operation, request?.object ?? error.object, namespace: namespace,
                errno: error.errno, detail: "netlink receive")
        }
        var walk = RouteReplyWalk(UnsafeRawBufferPointer(rebasing: incoming[..<count]))
        while let message = walk.next() { try body(message) }
        guard walk.isWhole, count > 0 else { throw malformed("a message of a wrong length") }
    }

    private func failure(_ request: RouteRequest, _ outcome: RouteOutcome) -> OperationFailure {
        OperationFailure(
            request.operation, request.object, namespace: namespace, errno: outcome.errno,
            detail: outcome.detail)
    }

    private func malformed(_ detail: String) -> OperationFailure {
        OperationFailure(
            "read netlink answer", family, namespace: namespace, errno: EPROTO, detail: detail)
    }
}

/// MSG_TRUNC as an argument: Linux declares it as an enumerator.
private let truncation: Int32 = 0x20

/// A netlink socket of the kernel.
final class KernelChannel: NetlinkChannel {
    private let socket: Descriptor

    init(_ socket: consuming Descriptor, namespace: String?) throws(OperationFailure) {
        // Extended acks; acks without the request; dumps that refuse what they would otherwise ignore.
        for option in [NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK] {
            var on: Int32 = 1
            guard
                setsockopt(socket.rawValue, SOL_NETLINK, option, &on, socklen_t(MemoryLayout<Int32>.size))
                    == 0
            else {
                throw OperationFailure("set netlink option", "\(option)", namespace: namespace, errno: errno)
            }
        }
        self.socket = socket
    }

    /// For poll(2) and socket options.
    var descriptor: Int32 { socket.rawValue }

    func send(_ bytes: UnsafeRawBufferPointer) throws(OperationFailure) {
        var kernel = sockaddr_nl()
        kernel.nl_family = UInt16(AF_NETLINK)
        while true {
            let count = withUnsafePointer(to: &kernel) { address in
                address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    sendto(
                        socket.rawValue, bytes.baseAddress, bytes.count, 0, $0,
                        socklen_t(MemoryLayout<sockaddr_nl>.size))
                }
            }
            if count >= 0 { return }
            let code = errno
            guard code == EINTR else { throw OperationFailure("send", "netlink message", errno: code) }
        }
    }

    func receive(into buffer: UnsafeMutableRawBufferPointer) throws(OperationFailure) -> Int {
        while true {
            var sender = sockaddr_nl()
            var length = socklen_t(MemoryLayout<sockaddr_nl>.size)
            let count = withUnsafeMutablePointer(to: &sender) { address in
                address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    // MSG_TRUNC: the datagram's real length, so that a cut one is seen.
                    recvfrom(socket.rawValue, buffer.baseAddress, buffer.count, truncation, $0, &length)
                }
            }
            if count < 0 {
                let code = errno
                guard code == EINTR else { throw OperationFailure("receive", "netlink message", errno: code) }
                continue
            }
            // Any process may send to a netlink socket; the kernel is port 0.
            guard sender.nl_pid == 0 else { continue }
            guard count <= buffer.count else {
                throw OperationFailure("receive", "netlink message", errno: EMSGSIZE)
            }
            return count
        }
    }
}
