import CMNL
import CNLGenl
import Glibc
package import NetAddress

/// A link as the kernel reports it.
package struct LinkRecord: Hashable, Sendable {
    package var index: Int32
    package var name: String
    /// "veth", "bridge", "tun", "wireguard"; nil for links without one ("lo").
    package var kind: String?
    /// Administratively up (IFF_UP).
    package var isUp: Bool
    /// Whether it can carry anything (IFF_LOWER_UP): of a veth, whether both ends are up.
    package var hasCarrier: Bool
    /// Bytes.
    package var mtu: UInt32
    /// The bridge it is a port of.
    package var master: Int32?
    /// What its packets begin with: ARPHRD_* of linux/if_arp.h.
    package var hardware: UInt16

    init?(_ message: RouteReplyMessage) {
        guard message.type == UInt16(RTM_NEWLINK), let header = message.header(as: ifinfomsg.self) else {
            return nil
        }
        index = header.ifi_index
        hardware = header.ifi_type
        isUp = header.ifi_flags & interfaceUp != 0
        hasCarrier = header.ifi_flags & interfaceLowerUp != 0
        name = ""
        mtu = 0
        for attribute in message.attributes(after: MemoryLayout<ifinfomsg>.size) {
            switch Int(attribute.type) {
            case IFLA_IFNAME: name = attribute.text
            case IFLA_MTU: mtu = attribute.unsigned32 ?? 0
            case IFLA_MASTER: master = attribute.unsigned32.map { Int32(bitPattern: $0) }
            case IFLA_LINKINFO: kind = attribute.nested.first { Int($0.type) == IFLA_INFO_KIND }?.text
            default: break
            }
        }
    }
}

/// What an interface does with the packets that it takes in: net.ipv4.conf.NAME of the sysctls.
///
/// Source: linux/netconf.h, whose numbers these are.
package struct InterfaceSettings: Hashable, Sendable {
    /// -1 is "all", -2 "default".
    package var index: Int32
    package var forwards: Bool

    /// RTM_GETNETCONF; what answers it is RTM_NEWNETCONF.
    static let request = 82
    private static let answer: UInt16 = 80

    init?(_ message: RouteReplyMessage) {
        guard message.type == Self.answer else { return nil }
        var index: UInt32?
        var forwards: UInt32?
        // The family, and padding.
        for attribute in message.attributes(after: 4) {
            switch attribute.type {
            case 1: index = attribute.unsigned32
            case 2: forwards = attribute.unsigned32
            default: break
            }
        }
        guard let index, let forwards else { return nil }
        self.index = Int32(bitPattern: index)
        self.forwards = forwards != 0
    }
}

/// An address of a link as the kernel reports it.
package struct AddressRecord: Hashable, Sendable {
    package var linkIndex: Int32
    package var address: IPPrefix

    init?(_ message: RouteReplyMessage) {
        guard message.type == UInt16(RTM_NEWADDR), let header = message.header(as: ifaddrmsg.self) else {
            return nil
        }
        var local: IPAddress?
        var other: IPAddress?
        for attribute in message.attributes(after: MemoryLayout<ifaddrmsg>.size) {
            switch Int(attribute.type) {
            case IFA_LOCAL: local = IPAddress(bytes: Array(attribute.payload))
            case IFA_ADDRESS: other = IPAddress(bytes: Array(attribute.payload))
            default: break
            }
        }
        // IFA_ADDRESS is the far end of a point-to-point link; IPv6 has nothing else.
        guard let found = local ?? other, let prefix = IPPrefix(found, length: Int(header.ifa_prefixlen))
        else {
            return nil
        }
        linkIndex = Int32(bitPattern: header.ifa_index)
        address = prefix
    }
}

/// A route as the kernel reports it.
package struct RouteRecord: Hashable, Sendable {
    package var destination: IPPrefix
    package var gateway: IPAddress?
    package var linkIndex: Int32?
    package var table: UInt32
    /// RTN_UNICAST (1), RTN_LOCAL (2), RTN_BROADCAST (3), ...
    package var type: UInt8

    init?(_ message: RouteReplyMessage) {
        guard message.type == UInt16(RTM_NEWROUTE), let header = message.header(as: rtmsg.self) else {
            return nil
        }
        let any = IPAddress(bytes: [UInt8](repeating: 0, count: Int32(header.rtm_family) == AF_INET ? 4 : 16))
        var target = any
        table = UInt32(header.rtm_table)
        type = header.rtm_type
        for attribute in message.attributes(after: MemoryLayout<rtmsg>.size) {
            switch rtattr_type_t(rawValue: UInt32(attribute.type)) {
            case RTA_DST: target = IPAddress(bytes: Array(attribute.payload))
            case RTA_GATEWAY: gateway = IPAddress(bytes: Array(attribute.payload))
            case RTA_OIF: linkIndex = attribute.unsigned32.map { Int32(bitPattern: $0) }
            case RTA_TABLE: table = attribute.unsigned32 ?? table
            default: break
            }
        }
        guard let target, let prefix = IPPrefix(target, length: Int(header.rtm_dst_len)) else { return nil }
        destination = prefix
    }
}

/// Which way the kernel would send a packet.
package struct RouteAnswer: Hashable, Sendable {
    /// The interface's index; that of `lo` for an address of the namespace itself.
    package var interface: Int32
    /// Nil where the destination is on the link.
    package var gateway: IPAddress?
    /// The source address that the packet would get.
    package var source: IPAddress?
    /// Bytes, where the route or an ICMP message says so (RTAX_MTU); nil: the link's own.
    package var mtu: Int?

    package init(interface: Int32, gateway: IPAddress? = nil, source: IPAddress? = nil, mtu: Int? = nil) {
        self.interface = interface
        self.gateway = gateway
        self.source = source
        self.mtu = mtu
    }

    init?(_ message: RouteReplyMessage) {
        guard message.type == UInt16(RTM_NEWROUTE) else { return nil }
        var index: UInt32?
        for attribute in message.attributes(after: MemoryLayout<rtmsg>.size) {
            switch rtattr_type_t(rawValue: UInt32(attribute.type)) {
            case RTA_OIF: index = attribute.unsigned32
            case RTA_GATEWAY: gateway = IPAddress(bytes: Array(attribute.payload))
            case RTA_PREFSRC: source = IPAddress(bytes: Array(attribute.payload))
            case RTA_METRICS:
                mtu = attribute.nested.first { Int($0.type) == RTAX_MTU }?.unsigned32.map { Int($0) }
            default: break
            }
        }
        guard let index else { return nil }
        interface = Int32(bitPattern: index)
    }
}
