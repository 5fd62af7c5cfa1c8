import CMNL
import Glibc
package import SystemCalls

/// Whether the kernel has nf_tables, by making a table.
package enum NetfilterTables {
    /// Makes a table, which stays there.
    ///
    /// EPROTONOSUPPORT, EOPNOTSUPP: the kernel has no nf_tables. ETIMEDOUT: no answer. Source: linux/netfilter/nfnetlink.h, nf_tables.h.
    package static func makeTable(
        _ name: String, in network: NetworkNamespace
    ) throws(OperationFailure) {
        let (operation, namespace) = ("create nftables table", network.name)
        let socket = try network.netlinkSocket(NETLINK_NETFILTER)
        var limit = timeval(tv_sec: 5, tv_usec: 0)
        guard
            setsockopt(
                socket.rawValue, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size)) == 0
        else { throw OperationFailure(operation, name, namespace: namespace, errno: errno) }
        let channel = try KernelChannel(socket, namespace: namespace)
        do throws(OperationFailure) {
            try send(batch(name), by: channel)
            let outcome = try answer(of: channel)
            guard outcome.errno == 0 else {
                throw OperationFailure(operation, name, errno: outcome.errno, detail: outcome.detail)
            }
        } catch {
            throw OperationFailure(
                operation, name, namespace: namespace, errno: error.errno == EAGAIN ? ETIMEDOUT : error.errno,
                detail: error.detail)
        }
    }

    /// struct nfgenmsg.
    private struct Header {
        var family: UInt8
        var version: UInt8 = 0
        /// In network byte order.
        var resource: UInt16
    }

    private static let subsystem = 10
    private static let tableSequence: UInt32 = 2

    /// NFNL_MSG_BATCH_BEGIN, NFT_MSG_NEWTABLE (family inet, NFTA_TABLE_NAME), NFNL_MSG_BATCH_END.
    private static func batch(_ name: String) throws(OperationFailure) -> RouteMessageBuffer {
        let border = Header(family: 0, resource: UInt16(subsystem).bigEndian)
        let requests: [(RouteRequest, Int32)] = [
            (RouteRequest("begin", "batch", type: 0x10, header: border), 0),
            (
                RouteRequest(
                    "create table", name, type: subsystem << 8, flags: NLM_F_CREATE,
                    header: Header(family: 1, resource: 0)
                ) { $0.put(1, name) }, NLM_F_ACK
            ),
            (RouteRequest("end", "batch", type: 0x11, header: border), 0),
        ]
        var buffer = RouteMessageBuffer(capacity: 1024)
        for (offset, (request, flags)) in requests.enumerated() {
            guard buffer.append(request, flags: flags, sequence: UInt32(offset) + 1) else {
                throw OperationFailure(request.operation, request.object, errno: EMSGSIZE)
            }
        }
        return buffer
    }

    /// Borrows the messages for as long as their bytes are used.
    private static func send(
        _ messages: borrowing RouteMessageBuffer, by channel: KernelChannel
    ) throws(OperationFailure) {
        try channel.send(messages.bytes)
    }

    /// The first error of any of the three, or the table's acknowledgement.
    private static func answer(of channel: KernelChannel) throws(OperationFailure) -> RouteOutcome {
        let incoming = UnsafeMutableRawBufferPointer.allocate(byteCount: 8192, alignment: 16)
        defer { incoming.deallocate() }
        while true {
            let count = try channel.receive(into: incoming)
            var walk = RouteReplyWalk(UnsafeRawBufferPointer(rebasing: incoming[..<count]))
            while let message = walk.next() {
                guard message.type == UInt16(NLMSG_ERROR), let outcome = message.outcome else { continue }
                if outcome.errno != 0 || message.sequence == tableSequence { return outcome }
            }
            guard walk.isWhole, count > 0 else {
                throw OperationFailure("read netlink answer", "NETLINK_NETFILTER", errno: EPROTO)
            }
        }
    }
}
