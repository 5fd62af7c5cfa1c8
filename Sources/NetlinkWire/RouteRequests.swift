import CMNL
import CNLGenl
import Glibc
package import NetAddress

/// One end of a veth pair.
package struct VethEnd: Hashable, Sendable {
    package var name: String
    /// The index it gets; 0 lets the kernel choose.
    package var index: Int32
    /// An open file of the namespace it is made in; nil: that of the socket.
    package var network: Int32?
    package init(name: String, index: Int32 = 0, network: Int32? = nil) {
        self.name = name
        self.index = index
        self.network = network
    }
}

extension RouteRequest {
    /// A veth pair, each end made in its own namespace, both down.
    ///
    /// IFF_UP in this message would fail with ENOTCONN: the first end is opened before it has a peer. Source:
    /// linux/veth.h, if_link.h.
    package static func makeVeth(_ end: VethEnd, _ other: VethEnd) -> RouteRequest {
        RouteRequest(
            "create veth", end.name, type: RTM_NEWLINK, flags: NLM_F_CREATE | NLM_F_EXCL,
            header: linkHeader(index: end.index)
        ) { attributes in
            putIdentity(of: end, &attributes)
            attributes.nest(IFLA_LINKINFO) { attributes in
                attributes.put(IFLA_INFO_KIND, unterminated: "veth")
                attributes.nest(IFLA_INFO_DATA) { attributes in
                    attributes.nest(VETH_INFO_PEER) { attributes in
                        attributes.structure(linkHeader(index: other.index))
                        putIdentity(of: other, &attributes)
                    }
                }
            }
        }
    }

    /// A link that needs no more than a kind: "bridge", "wireguard", "dummy".
    package static func makeLink(kind: String, name: String, index: Int32 = 0, mtu: UInt32? = nil)
        -> RouteRequest
    {
        RouteRequest(
            "create \(kind)", name, type: RTM_NEWLINK, flags: NLM_F_CREATE | NLM_F_EXCL,
            header: linkHeader(index: index)
        ) { attributes in
            attributes.put(IFLA_IFNAME, name)
            if let mtu { attributes.put(IFLA_MTU, mtu) }
            attributes.nest(IFLA_LINKINFO) { $0.put(IFLA_INFO_KIND, unterminated: kind) }
        }
    }

    /// Makes a link a port of a bridge.
    package static func setMaster(index: Int32, master: Int32, name: String) -> RouteRequest {
        RouteRequest("join bridge", name, type: RTM_NEWLINK, header: linkHeader(index: index)) { attributes in
            attributes.put(IFLA_MASTER, UInt32(bitPattern: master))
        }
    }

    /// Brings a link up or down.
    package static func setUp(index: Int32, _ up: Bool = true, name: String) -> RouteRequest {
        var header = linkHeader(index: index)
        header.ifi_flags = up ? interfaceUp : 0
        header.ifi_change = interfaceUp
        return RouteRequest(up ? "bring up" : "bring down", name, type: RTM_NEWLINK, header: header)
    }

    /// Sets the MTU, in bytes.
    package static func setMTU(index: Int32, _ mtu: UInt32, name: String) -> RouteRequest {
        RouteRequest("set MTU of", name, type: RTM_NEWLINK, header: linkHeader(index: index)) { attributes in
            attributes.put(IFLA_MTU, mtu)
        }
    }

    /// Makes no IPv6 link-local address when the link comes up (IN6_ADDR_GEN_MODE_NONE).
    package static func setNoLinkLocal(index: Int32, name: String) -> RouteRequest {
        RouteRequest("set addrgenmode of", name, type: RTM_NEWLINK, header: linkHeader(index: index)) {
            attributes in
            attributes.nest(IFLA_AF_SPEC) { attributes in
                attributes.nest(Int(AF_INET6)) { $0.put(IFLA_INET6_ADDR_GEN_MODE, UInt8(1)) }
            }
        }
    }

    package static func deleteLink(index: Int32, name: String) -> RouteRequest {
        RouteRequest("delete link", name, type: RTM_DELLINK, header: linkHeader(index: index))
    }

    /// Adds an address with its network's prefix length; EEXIST when it is there.
    ///
    /// IPv6 addresses skip duplicate address detection, which would withhold them for a second.
    package static func addAddress(_ address: IPPrefix, index: Int32, name: String) -> RouteRequest {
        var header = ifaddrmsg()
        header.ifa_family = family(of: address.address)
        header.ifa_prefixlen = UInt8(truncatingIfNeeded: address.length)
        header.ifa_index = UInt32(bitPattern: index)
        if !address.address.isV4 { header.ifa_flags = UInt8(truncatingIfNeeded: IFA_F_NODAD) }
        return RouteRequest(
            "add address", "\(address) to \(name)", type: RTM_NEWADDR, flags: NLM_F_CREATE | NLM_F_EXCL,
            header: header
        ) { attributes in
            attributes.put(IFA_LOCAL, bytes: address.address.bytes)
            attributes.put(IFA_ADDRESS, bytes: address.address.bytes)
            // ip-address(8) has no broadcast address by default; DHCP clients, and so real hosts, do.
            if address.address.isV4, address.length <= 30 {
                attributes.put(IFA_BROADCAST, bytes: address.lastAddress.bytes)
            }
        }
    }

    /// Forgets the link-layer address of a neighbour; ENOENT when none is known.
    package static func deleteNeighbour(_ address: IPAddress, index: Int32, name: String) -> RouteRequest {
        var header = ndmsg()
        header.ndm_family = family(of: address)
        header.ndm_ifindex = index
        return RouteRequest("forget neighbour", "\(address) on \(name)", type: RTM_DELNEIGH, header: header) {
            $0.put(NDA_DST, bytes: address.bytes)
        }
    }

    /// Adds a unicast route; EEXIST when one to the same destination with the same metric is there.
    package static func addRoute(
        to destination: IPPrefix, via gateway: IPAddress? = nil, index: Int32? = nil, onLink: Bool = false,
        table: UInt32? = nil
    ) -> RouteRequest {
        let table = table ?? UInt32(RT_TABLE_MAIN.rawValue)
        var header = rtmsg()
        header.rtm_family = family(of: destination.address)
        header.rtm_dst_len = UInt8(truncatingIfNeeded: destination.length)
        // The 8-bit field holds small numbers only; RTA_TABLE then says it in full.
        header.rtm_table = table < 256 ? UInt8(table) : UInt8(RT_TABLE_UNSPEC.rawValue)
        header.rtm_protocol = UInt8(RTPROT_STATIC)
        header.rtm_scope = UInt8((gateway == nil ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE).rawValue)
        // IPv6 has no scope of routes: the kernel ignores it, iproute2 writes universe.
        if !destination.address.isV4 { header.rtm_scope = UInt8(RT_SCOPE_UNIVERSE.rawValue) }
        header.rtm_type = UInt8(RTN_UNICAST)
        if onLink { header.rtm_flags = UInt32(RTNH_F_ONLINK) }
        return RouteRequest(
            "add route", destination.length == 0 ? "default" : "\(destination)", type: RTM_NEWROUTE,
            flags: NLM_F_CREATE | NLM_F_EXCL, header: header
        ) { attributes in
            if destination.length > 0 {
                attributes.put(Int(RTA_DST.rawValue), bytes: destination.network.address.bytes)
            }
            if let gateway { attributes.put(Int(RTA_GATEWAY.rawValue), bytes: gateway.bytes) }
            if let index { attributes.put(Int(RTA_OIF.rawValue), UInt32(bitPattern: index)) }
            if table >= 256 { attributes.put(Int(RTA_TABLE.rawValue), table) }
        }
    }

    /// Adds a policy routing rule that looks up a table (FR_ACT_TO_TBL); see fib_rules.h.
    package static func addRule(
        ipv6: Bool, priority: UInt32? = nil, firewallMark: UInt32? = nil, invert: Bool = false, table: UInt32,
        suppressPrefixLength: UInt32? = nil
    ) -> RouteRequest {
        var header = fib_rule_hdr()
        header.family = UInt8(truncatingIfNeeded: ipv6 ? AF_INET6 : AF_INET)
        header.table = table < 256 ? UInt8(table) : UInt8(RT_TABLE_UNSPEC.rawValue)
        header.action = UInt8(FR_ACT_TO_TBL)
        if invert { header.flags = UInt32(FIB_RULE_INVERT) }
        return RouteRequest(
            "add rule", "lookup \(table)", type: RTM_NEWRULE, flags: NLM_F_CREATE | NLM_F_EXCL, header: header
        ) { attributes in
            if let priority { attributes.put(FRA_PRIORITY, priority) }
            if let firewallMark { attributes.put(FRA_FWMARK, firewallMark) }
            if table >= 256 { attributes.put(FRA_TABLE, table) }
            if let suppressPrefixLength { attributes.put(FRA_SUPPRESS_PREFIXLEN, suppressPrefixLength) }
        }
    }

    /// Asks for one link by name; the answer is a RTM_NEWLINK.
    static func getLink(name: String) -> RouteRequest {
        RouteRequest("look up link", name, type: RTM_GETLINK, header: linkHeader(index: 0)) { attributes in
            attributes.put(IFLA_IFNAME, name)
        }
    }

    /// Asks which way a packet would go; the answer is a RTM_NEWROUTE.
    ///
    /// Strict checking wants the destination's whole length here, and nothing else in the header.
    static func getRoute(to destination: IPAddress, mark: UInt32) -> RouteRequest {
        var header = rtmsg()
        header.rtm_family = family(of: destination)
        header.rtm_dst_len = UInt8(truncatingIfNeeded: destination.bitWidth)
        return RouteRequest("look up route to", "\(destination)", type: RTM_GETROUTE, header: header) {
            attributes in
            attributes.put(Int(RTA_DST.rawValue), bytes: destination.bytes)
            if mark != 0 { attributes.put(Int(RTA_MARK.rawValue), mark) }
        }
    }

    /// What interfaces do with IPv4, as the sysctls net.ipv4.conf say it.
    static var dumpInterfaceSettings: RouteRequest {
        // struct netconfmsg of linux/netconf.h: the family alone.
        RouteRequest("list", "interface settings", type: InterfaceSettings.request, header: UInt8(AF_INET))
    }

    static var dumpLinks: RouteRequest {
        RouteRequest("list", "links", type: RTM_GETLINK, header: linkHeader(index: 0))
    }
    static var dumpAddresses: RouteRequest {
        RouteRequest("list", "addresses", type: RTM_GETADDR, header: ifaddrmsg())
    }
    static var dumpRoutes: RouteRequest {
        RouteRequest("list", "routes", type: RTM_GETROUTE, header: rtmsg())
    }

    private static func putIdentity(of end: VethEnd, _ attributes: inout RouteAttributeWriter) {
        attributes.put(IFLA_IFNAME, end.name)
        if let network = end.network { attributes.put(IFLA_NET_NS_FD, UInt32(bitPattern: network)) }
    }

    private static func linkHeader(index: Int32) -> ifinfomsg {
        var header = ifinfomsg()
        header.ifi_index = index
        return header
    }

    private static func family(of address: IPAddress) -> UInt8 {
        UInt8(truncatingIfNeeded: address.isV4 ? AF_INET : AF_INET6)
    }
}

/// IFF_UP of linux/if.h, which clashes with net/if.h.
let interfaceUp: UInt32 = 1
/// IFF_LOWER_UP of the same.
let interfaceLowerUp: UInt32 = 1 << 16
