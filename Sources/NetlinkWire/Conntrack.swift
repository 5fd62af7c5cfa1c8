import CMNL
import CNLGenl
import Glibc
package import NetAddress
package import SystemCalls

/// One direction of a flow that connection tracking knows.
package struct ConntrackTuple: Hashable, Sendable {
    package var source: IPAddress
    package var destination: IPAddress
    /// IPPROTO_*.
    package var proto: UInt8
    /// 0 for protocols without ports.
    package var sourcePort: UInt16
    package var destinationPort: UInt16

    package init(
        source: IPAddress, destination: IPAddress, proto: UInt8, sourcePort: UInt16 = 0,
        destinationPort: UInt16 = 0
    ) {
        self.source = source
        self.destination = destination
        self.proto = proto
        self.sourcePort = sourcePort
        self.destinationPort = destinationPort
    }
}

/// A flow that connection tracking knows.
///
/// What a NAT did to it is the difference between `original` and the mirrored `reply`. Source:
/// linux/netfilter/nfnetlink_conntrack.h.
package struct ConntrackEntry: Hashable, Sendable {
    /// As the first packet came in.
    package var original: ConntrackTuple
    /// As an answer has to come in.
    package var reply: ConntrackTuple
    /// IPS_* of linux/netfilter/nf_conntrack_common.h.
    package var status: UInt32
    /// Seconds left to live; nil where the kernel tells none.
    package var timeout: UInt32?
    /// Tells the entry from a later one with the same tuples.
    var identity: UInt32?

    /// Whether packets have gone both ways (IPS_SEEN_REPLY).
    package var isReplied: Bool { status & 0x2 != 0 }

    /// Whether this is an end of the flow, before or after translation.
    package func has(_ address: IPAddress) -> Bool {
        [original.source, original.destination, reply.source, reply.destination].contains(address)
    }

    init?(_ message: RouteReplyMessage) {
        guard message.type == conntrackType(IPCTNL_MSG_CT_NEW.rawValue) else { return nil }
        var tuples: [Int: ConntrackTuple] = [:]
        status = 0
        for attribute in message.attributes(after: MemoryLayout<nfgenmsg>.size) {
            switch Int(attribute.type) {
            case number(CTA_TUPLE_ORIG), number(CTA_TUPLE_REPLY):
                tuples[Int(attribute.type)] = ConntrackTuple(attribute.nested)
            case number(CTA_STATUS): status = attribute.unsigned32?.byteSwapped ?? 0
            case number(CTA_TIMEOUT): timeout = attribute.unsigned32?.byteSwapped
            case number(CTA_ID): identity = attribute.unsigned32
            default: break
            }
        }
        guard let original = tuples[number(CTA_TUPLE_ORIG)], let reply = tuples[number(CTA_TUPLE_REPLY)]
        else {
            return nil
        }
        self.original = original
        self.reply = reply
    }
}

extension ConntrackTuple {
    init?(_ attributes: RouteAttributeList) {
        var ends: [Int: IPAddress] = [:]
        var ports: [Int: UInt16] = [:]
        var proto: UInt8?
        for attribute in attributes {
            switch UInt32(attribute.type) {
            case CTA_TUPLE_IP.rawValue:
                for end in attribute.nested { ends[Int(end.type)] = IPAddress(bytes: Array(end.payload)) }
            case CTA_TUPLE_PROTO.rawValue:
                for part in attribute.nested {
                    if UInt32(part.type) == CTA_PROTO_NUM.rawValue { proto = part.unsigned8 }
                    guard part.payload.count == 2 else { continue }
                    ports[Int(part.type)] = UInt16(bigEndian: part.payload.loadUnaligned(as: UInt16.self))
                }
            default: break
            }
        }
        func address(_ v4: ctattr_ip, _ v6: ctattr_ip) -> IPAddress? {
            ends[Int(v4.rawValue)] ?? ends[Int(v6.rawValue)]
        }
        guard let proto, let source = address(CTA_IP_V4_SRC, CTA_IP_V6_SRC),
            let destination = address(CTA_IP_V4_DST, CTA_IP_V6_DST)
        else { return nil }
        self.init(
            source: source, destination: destination, proto: proto,
            sourcePort: ports[Int(CTA_PROTO_SRC_PORT.rawValue)] ?? 0,
            destinationPort: ports[Int(CTA_PROTO_DST_PORT.rawValue)] ?? 0)
    }

    fileprivate func put(_ type: Int, into attributes: inout RouteAttributeWriter) {
        let (from, to) = source.isV4 ? (CTA_IP_V4_SRC, CTA_IP_V4_DST) : (CTA_IP_V6_SRC, CTA_IP_V6_DST)
        attributes.nest(type) { tuple in
            tuple.nest(Int(CTA_TUPLE_IP.rawValue)) { ends in
                ends.put(Int(from.rawValue), bytes: source.bytes)
                ends.put(Int(to.rawValue), bytes: destination.bytes)
            }
            tuple.nest(Int(CTA_TUPLE_PROTO.rawValue)) { parts in
                parts.put(Int(CTA_PROTO_NUM.rawValue), proto)
                parts.put(Int(CTA_PROTO_SRC_PORT.rawValue), structure: sourcePort.bigEndian)
                parts.put(Int(CTA_PROTO_DST_PORT.rawValue), structure: destinationPort.bigEndian)
            }
        }
    }
}

/// A ctnetlink connection to one network namespace: what its connection tracking knows.
///
/// Not for several threads at once.
package final class ConntrackSocket {
    private let socket: RouteSocket

    /// Connects to a namespace.
    package convenience init(_ namespace: NetworkNamespace) throws(OperationFailure) {
        let file = try namespace.netlinkSocket(NETLINK_NETFILTER)
        self.init(
            channel: try KernelChannel(file, namespace: namespace.name), namespace: namespace.name)
    }

    package init(channel: any NetlinkChannel, namespace: String?) {
        socket = RouteSocket(channel: channel, namespace: namespace, family: "NETLINK_NETFILTER")
    }

    /// All flows; those of protocols that are told without addresses are left out.
    package func entries() throws(OperationFailure) -> [ConntrackEntry] {
        try socket.dump(.dumpConntrack) { ConntrackEntry($0) }
    }

    /// Deletes a flow with ports, UDP or TCP; whether it was still there.
    @discardableResult
    package func delete(_ entry: ConntrackEntry) throws(OperationFailure) -> Bool {
        guard let refusal = try socket.refusal(of: [.deleteConntrack(entry)]) else { return true }
        if refusal.failure.errno == ENOENT { return false }
        throw refusal.failure
    }
}

extension RouteRequest {
    static var dumpConntrack: RouteRequest {
        RouteRequest(
            "list", "connection tracking", type: Int(conntrackType(IPCTNL_MSG_CT_GET.rawValue)),
            header: nfgenmsg())
    }

    /// The kernel compares CTA_ID too: a flow that has taken the place of this one stays.
    static func deleteConntrack(_ entry: ConntrackEntry) -> RouteRequest {
        var header = nfgenmsg()
        header.nfgen_family = UInt8(truncatingIfNeeded: entry.original.source.isV4 ? AF_INET : AF_INET6)
        return RouteRequest(
            "delete connection", "\(entry.original)", type: Int(conntrackType(IPCTNL_MSG_CT_DELETE.rawValue)),
            header: header
        ) { attributes in
            entry.original.put(number(CTA_TUPLE_ORIG), into: &attributes)
            if let identity = entry.identity { attributes.put(number(CTA_ID), identity) }
        }
    }
}

extension ConntrackTuple: CustomStringConvertible {
    package var description: String {
        "\(proto) \(Endpoint(source, port: sourcePort))>\(Endpoint(destination, port: destinationPort))"
    }
}

/// NFNL_SUBSYS_CTNETLINK above, the message below.
private func conntrackType(_ message: UInt32) -> UInt16 {
    UInt16(NFNL_SUBSYS_CTNETLINK) << 8 | UInt16(truncatingIfNeeded: message)
}

private func number(_ attribute: ctattr_type) -> Int { Int(attribute.rawValue) }
