import CMNL
import CNLGenl
import Glibc
package import NetAddress
package import SystemCalls

/// What nftables did with a traced packet at one place.
///
/// Source: enum nft_trace_attributes of linux/netfilter/nf_tables.h; nft_trace_notify in the kernel.
package struct TraceEvent: Hashable, Sendable {
    /// The packet's; given out again once the packet is gone.
    package var packet: UInt32
    /// NFPROTO_* of the base chain: 1 inet, 2 ip, 7 bridge, 10 ip6.
    package var family: UInt8
    package var table: String
    package var chain: String
    /// The rule's handle; nil where it was a chain's policy, or its end.
    package var handle: UInt64?
    package var isPolicy: Bool
    /// NF_DROP; also what a rule says that rejects.
    package var isDrop: Bool
    /// The packet as it came to the base chain; the kernel tells it with the first event there only.
    package var headers: TracedHeaders?

    init?(_ message: RouteReplyMessage) {
        guard message.type == nftablesType(NFT_MSG_TRACE), let header = message.header(as: nfgenmsg.self)
        else { return nil }
        var identity: UInt32?
        var type: UInt32?
        var verdict: UInt32?
        var policy: UInt32?
        var headers = TracedHeaders.Parts()
        (family, table, chain) = (header.nfgen_family, "", "")
        for attribute in message.attributes(after: MemoryLayout<nfgenmsg>.size) {
            switch nft_trace_attributes(rawValue: UInt32(attribute.type)) {
            case NFTA_TRACE_TABLE: table = attribute.text
            case NFTA_TRACE_CHAIN: chain = attribute.text
            case NFTA_TRACE_RULE_HANDLE:
                guard attribute.payload.count == 8 else { return nil }
                handle = UInt64(bigEndian: attribute.payload.loadUnaligned(as: UInt64.self))
            case NFTA_TRACE_ID: identity = attribute.unsigned32
            case NFTA_TRACE_TYPE: type = attribute.unsigned32?.byteSwapped
            case NFTA_TRACE_POLICY: policy = attribute.unsigned32?.byteSwapped
            case NFTA_TRACE_VERDICT:
                let code = attribute.nested.first { UInt32($0.type) == NFTA_VERDICT_CODE.rawValue }
                verdict = code?.unsigned32?.byteSwapped
            case NFTA_TRACE_IIF: headers.inInterface = attribute.unsigned32?.byteSwapped
            case NFTA_TRACE_OIF: headers.outInterface = attribute.unsigned32?.byteSwapped
            case NFTA_TRACE_NETWORK_HEADER: headers.network = Array(attribute.payload)
            case NFTA_TRACE_TRANSPORT_HEADER: headers.transport = Array(attribute.payload)
            default: break
            }
        }
        guard let identity, let type else { return nil }
        packet = identity
        isPolicy = type == NFT_TRACETYPE_POLICY.rawValue
        isDrop = (isPolicy ? policy : verdict) == UInt32(NF_DROP)
        self.headers = TracedHeaders(headers)
    }
}

/// A UDP packet's ends and the interfaces it passes.
package struct TracedHeaders: Hashable, Sendable {
    /// Its index; nil for what the namespace itself sends.
    package var inInterface: Int32?
    package var outInterface: Int32?
    /// Port 0 in a fragment that is not the first.
    package var source: Endpoint
    package var destination: Endpoint
    /// Octets of UDP payload; nil in a fragment that is not the first.
    package var payloadSize: Int?

    /// UDP, and the extension headers that may stand before it.
    private static let mayLeadToUDP: Set<UInt8> = [17, 0, 43, 44, 60]

    struct Parts {
        var inInterface: UInt32?
        var outInterface: UInt32?
        var network: [UInt8] = []
        var transport: [UInt8] = []
    }

    /// Nil for anything but UDP over IP (RFC 791 section 3.1, RFC 8200 section 3, RFC 768).
    init?(_ parts: Parts) {
        let network = parts.network
        let ends: (from: Int, count: Int)
        switch network.first.map({ $0 >> 4 }) {
        case 4 where network.count >= 20 && network[9] == UInt8(IPPROTO_UDP): ends = (12, 4)
        // Extension headers are not followed: where UDP begins is the kernel's finding.
        case 6 where network.count >= 40 && Self.mayLeadToUDP.contains(network[6]): ends = (8, 16)
        default: return nil
        }
        func address(_ number: Int) -> IPAddress? {
            IPAddress(bytes: Array(network[(ends.from + number * ends.count)...].prefix(ends.count)))
        }
        guard let source = address(0), let destination = address(1) else { return nil }
        func word(_ offset: Int) -> UInt16? {
            guard parts.transport.count >= 8 else { return nil }
            return UInt16(parts.transport[offset]) << 8 | UInt16(parts.transport[offset + 1])
        }
        self.source = Endpoint(source, port: word(0) ?? 0)
        self.destination = Endpoint(destination, port: word(2) ?? 0)
        payloadSize = word(4).flatMap { $0 >= 8 ? Int($0) - 8 : nil }
        inInterface = parts.inInterface.map { Int32(bitPattern: $0) }
        outInterface = parts.outInterface.map { Int32(bitPattern: $0) }
    }
}

/// Makes nftables trace the UDP packets of some addresses in a namespace, and reads what it tells.
///
/// The namespace's table `natlab-why` belongs to the socket and goes with it, also after SIGKILL. Events of packets that
/// others have marked (`meta nftrace set 1` in a rule of the user's) come too. Not for several threads at once.
package final class TraceSocket {
    private let channel: any NetlinkChannel
    private let namespace: String?
    /// Readable when there is something.
    package let descriptor: Int32
    /// Whether events have been lost because nobody read them in time.
    package private(set) var hasLostEvents = false
    private let incoming = UnsafeMutableRawBufferPointer.allocate(byteCount: 32_768, alignment: 16)

    package static let table = "natlab-why"
    /// So many may watch one namespace at once, each with a table of its own: "natlab-why", "natlab-why-2", ...
    private static let tables = 8
    /// Events of some thousand packets.
    private static let room: Int32 = 8 << 20

    /// Begins to trace packets that have one of the addresses as source or destination.
    ///
    /// EPERM without the right to it; EBUSY where too many watch already; ENOENT, EOPNOTSUPP or EINVAL where the kernel has
    /// no nftables, no tracing, or no tables with an owner (before Linux 5.12).
    package convenience init(
        _ namespace: NetworkNamespace, addresses: [IPAddress]
    ) throws(OperationFailure) {
        let channel = try Self.begin(namespace, addresses)
        self.init(channel: channel, descriptor: channel.descriptor, namespace: namespace.name)
    }

    init(channel: any NetlinkChannel, descriptor: Int32, namespace: String?) {
        self.channel = channel
        self.descriptor = descriptor
        self.namespace = namespace
    }

    deinit { incoming.deallocate() }

    /// The events since the last call; does not wait.
    package func events() throws(OperationFailure) -> [TraceEvent] {
        var events: [TraceEvent] = []
        while true {
            let count: Int
            do throws(OperationFailure) {
                count = try channel.receive(into: incoming)
            } catch {
                switch error.errno {
                case EAGAIN: return events
                // What was lost, lost; what waits is whole.
                case ENOBUFS: hasLostEvents = true
                default:
                    throw OperationFailure(
                        "read", "traces of packets", namespace: namespace, errno: error.errno)
                }
                continue
            }
            var walk = RouteReplyWalk(UnsafeRawBufferPointer(rebasing: incoming[..<count]))
            while let message = walk.next() {
                if let event = TraceEvent(message) { events.append(event) }
            }
            guard walk.isWhole, count > 0 else {
                throw OperationFailure(
                    "read", "traces of packets", namespace: namespace, errno: EPROTO,
                    detail: "a message of a wrong length")
            }
        }
    }

    // MARK: Beginning

    private static func begin(
        _ namespace: NetworkNamespace, _ addresses: [IPAddress]
    ) throws(OperationFailure) -> KernelChannel {
        // The bridge family too, where the kernel has it.
        var families = [NFPROTO_INET, NFPROTO_BRIDGE].map { UInt8($0) }
        var number = 1
        while true {
            let name = number == 1 ? table : "\(table)-\(number)"
            do throws(OperationFailure) {
                return try begin(
                    namespace, TraceTable(name: name, addresses: addresses, families: families))
            } catch {
                switch error.errno {
                // A table of this name has another owner. Without the right to any, the socket's options have said so.
                case EEXIST where number < tables, EPERM where error.operation == "create" && number < tables:
                    number += 1
                case EEXIST,
                    EPERM where error.operation == "create":
                    // The kernel's word for it would be taken for a lack of privilege.
                    throw OperationFailure(
                        error.operation, error.object, namespace: error.namespace, errno: EBUSY,
                        detail: "\(tables) others watch there already (tables \(table), \(table)-2, ...)")
                case ENOENT where families.count > 1, EOPNOTSUPP where families.count > 1:
                    families.removeLast()
                default: throw error
                }
            }
        }
    }

    /// Makes the table, then listens, so that the verdicts on the one are not mixed with the events of the other.
    private static func begin(
        _ namespace: NetworkNamespace, _ table: TraceTable
    ) throws(OperationFailure) -> KernelChannel {
        let file = try namespace.netlinkSocket(NETLINK_NETFILTER)
        try set(file.rawValue, SOL_SOCKET, SO_RCVBUFFORCE, room, namespace)
        let channel = try KernelChannel(file, namespace: namespace.name)
        let socket = RouteSocket(channel: channel, namespace: namespace.name, family: "NETLINK_NETFILTER")
        for requests in [table.requests] + table.fillings {
            try socket.transact(requests, subsystem: NFNL_SUBSYS_NFTABLES)
        }
        try set(
            channel.descriptor, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, Int32(NFNLGRP_NFTRACE.rawValue),
            namespace)
        guard fcntl(channel.descriptor, F_SETFL, O_NONBLOCK) == 0 else {
            throw OperationFailure(
                "stop waiting on", "netlink socket", namespace: namespace.name, errno: errno)
        }
        return channel
    }

    private static func set(
        _ file: Int32, _ level: Int32, _ option: Int32, _ value: Int32, _ namespace: NetworkNamespace
    ) throws(OperationFailure) {
        var value = value
        guard setsockopt(file, level, option, &value, socklen_t(MemoryLayout<Int32>.size)) == 0 else {
            throw OperationFailure(
                "set netlink option", "\(option)", namespace: namespace.name, errno: errno)
        }
    }
}
