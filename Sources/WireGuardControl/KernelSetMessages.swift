import CNLGenl
import Glibc
import NetAddress
package import NetlinkWire
package import SystemCalls
import WireGuardKeys

/// WG_CMD_SET_DEVICE messages: a pure function from a change to bytes.
///
/// Source: linux/wireguard.h ("It is possible that the amount of configuration data exceeds that of the maximum
/// message length accepted by the kernel", and the attributes' types).
package enum KernelSetMessages {
    /// The length of a message, nlmsghdr included, that is not exceeded: one page, which the kernel takes without effort.
    package static let limit = 4096

    /// The messages of a change, to be sent one after another; always at least one.
    ///
    /// Only the first carries the interface's settings and WGDEVICE_F_REPLACE_PEERS; only a peer's first part carries
    /// its settings and WGPEER_F_REPLACE_ALLOWEDIPS. Throws EINVAL for a name that is no interface's.
    package static func messages(
        for change: WireGuardChange, interface: String, limit: Int = limit
    ) throws(OperationFailure) -> [GenericMessage] {
        guard isInterfaceName(interface) else {
            throw OperationFailure(
                "configure WireGuard", interface, errno: EINVAL, detail: "not the name of an interface")
        }
        var builder = SetBuilder(interface: interface, limit: max(limit, SetBuilder.smallestLimit))
        builder.putDevice(change)
        for peer in change.peers { builder.put(peer) }
        return builder.finish()
    }

    /// 1 to 15 bytes (IFNAMSIZ - 1) without a slash, white space or NUL, and not "." or "..", as the kernel's dev_valid_name.
    package static func isInterfaceName(_ name: String) -> Bool {
        (1...15).contains(name.utf8.count) && name != "." && name != ".."
            && name.utf8.allSatisfy {
                $0 > 0x20 && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: ":") && $0 != 0x7F
            }
    }
}

/// Puts one peer after the other, and cuts where the next piece would pass the limit.
private struct SetBuilder {
    /// The headers, the name, all settings of the interface, one peer with all its settings and one allowed IP.
    static let smallestLimit = 512

    private let interface: String
    private let limit: Int
    private var finished: [GenericMessage] = []
    private var message: GenericMessage
    private var peersNest: Int?

    init(interface: String, limit: Int) {
        self.interface = interface
        self.limit = limit
        message = Self.open(interface, limit)
    }

    mutating func putDevice(_ change: WireGuardChange) {
        change.privateKey?.withBytes { message.put(WGDEVICE_A_PRIVATE_KEY, raw: $0) }
        if change.replacePeers { message.put(WGDEVICE_A_FLAGS, UInt32(WGDEVICE_F_REPLACE_PEERS.rawValue)) }
        if let port = change.listenPort { message.put(WGDEVICE_A_LISTEN_PORT, port) }
        if let mark = change.firewallMark { message.put(WGDEVICE_A_FWMARK, mark) }
    }

    mutating func put(_ peer: WireGuardPeerChange) {
        let first = PeerHead(peer)
        makeRoom(first.length)
        var nest = open(first)
        guard !peer.remove, !peer.allowedIPs.isEmpty else { return message.endNest(nest) }
        var prefixes = peer.allowedIPs[...]
        while true {
            var prefixesNest: Int?
            while let prefix = prefixes.first {
                let opening = prefixesNest == nil ? GenericMessage.attributeLength(0) : 0
                guard message.count + opening + Self.length(of: prefix) <= limit else { break }
                let list = prefixesNest ?? message.beginNest(WGPEER_A_ALLOWEDIPS)
                prefixesNest = list
                put(prefix)
                prefixes.removeFirst()
            }
            if let prefixesNest { message.endNest(prefixesNest) }
            message.endNest(nest)
            guard !prefixes.isEmpty else { return }
            cut()
            nest = open(PeerHead(continuing: peer))
        }
    }

    mutating func finish() -> [GenericMessage] {
        closePeers()
        return finished + [message]
    }

    private static func open(_ interface: String, _ limit: Int) -> GenericMessage {
        // The whole room at once: a buffer that moves would leave more to wipe.
        let message = GenericMessage(
            command: UInt8(WG_CMD_SET_DEVICE.rawValue), version: UInt8(WG_GENL_VERSION), capacity: limit)
        message.put(WGDEVICE_A_IFNAME, string: interface)
        return message
    }

    private mutating func makeRoom(_ length: Int) {
        let opening = peersNest == nil ? GenericMessage.attributeLength(0) : 0
        if message.count + opening + length > limit { cut() }
    }

    private mutating func cut() {
        closePeers()
        finished.append(message)
        message = Self.open(interface, limit)
    }

    private mutating func closePeers() {
        if let nest = peersNest { message.endNest(nest) }
        peersNest = nil
    }

    /// Opens a peer's nest (its type is 0, as the header has it) and puts all but its allowed IPs.
    private mutating func open(_ head: PeerHead) -> Int {
        if peersNest == nil { peersNest = message.beginNest(UInt16(WGDEVICE_A_PEERS.rawValue)) }
        let nest = message.beginNest(0)
        head.put(into: message)
        return nest
    }

    private func put(_ prefix: IPPrefix) {
        let nest = message.beginNest(0)
        message.put(WGALLOWEDIP_A_FAMILY, UInt16(prefix.address.isV4 ? AF_INET : AF_INET6))
        message.put(WGALLOWEDIP_A_IPADDR, prefix.address.bytes)
        message.put(WGALLOWEDIP_A_CIDR_MASK, UInt8(prefix.length))
        message.endNest(nest)
    }

    private static func length(of prefix: IPPrefix) -> Int {
        GenericMessage.attributeLength(0) + GenericMessage.attributeLength(2)
            + GenericMessage.attributeLength(prefix.address.bytes.count) + GenericMessage.attributeLength(1)
    }
}

/// What a part of a peer says before its allowed IPs.
private struct PeerHead {
    private let key: PublicKey
    private let flags: UInt32
    private let presharedKey: PresharedKey?
    private let endpoint: [UInt8]?
    private let keepalive: UInt16?

    /// The first part.
    ///
    /// The kernel looks at nothing but the flags of a peer that it removes.
    init(_ peer: WireGuardPeerChange) {
        key = peer.publicKey
        var flags: UInt32 = 0
        if peer.remove { flags |= WGPEER_F_REMOVE_ME.rawValue }
        if peer.updateOnly { flags |= WGPEER_F_UPDATE_ONLY.rawValue }
        if peer.replaceAllowedIPs, !peer.remove { flags |= WGPEER_F_REPLACE_ALLOWEDIPS.rawValue }
        self.flags = flags
        presharedKey = peer.remove ? nil : peer.presharedKey
        endpoint = peer.remove ? nil : peer.endpoint.map { $0.socketAddressBytes }
        keepalive = peer.remove ? nil : peer.persistentKeepalive
    }

    /// A later part.
    ///
    /// Still update-only where the first was: or it would make the peer that the first did not.
    init(continuing peer: WireGuardPeerChange) {
        key = peer.publicKey
        flags = peer.updateOnly ? WGPEER_F_UPDATE_ONLY.rawValue : 0
        presharedKey = nil
        endpoint = nil
        keepalive = nil
    }

    /// In bytes, with the nest's header.
    var length: Int {
        var length = GenericMessage.attributeLength(0) + GenericMessage.attributeLength(Int(WG_KEY_LEN))
        if presharedKey != nil { length += GenericMessage.attributeLength(Int(WG_KEY_LEN)) }
        if flags != 0 { length += GenericMessage.attributeLength(4) }
        if let endpoint { length += GenericMessage.attributeLength(endpoint.count) }
        if keepalive != nil { length += GenericMessage.attributeLength(2) }
        return length
    }

    func put(into message: GenericMessage) {
        message.put(UInt16(WGPEER_A_PUBLIC_KEY.rawValue), key.bytes)
        presharedKey?.withBytes { message.put(UInt16(WGPEER_A_PRESHARED_KEY.rawValue), raw: $0) }
        if flags != 0 { message.put(UInt16(WGPEER_A_FLAGS.rawValue), flags) }
        if let endpoint { message.put(UInt16(WGPEER_A_ENDPOINT.rawValue), endpoint) }
        if let keepalive { message.put(UInt16(WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL.rawValue), keepalive) }
    }
}

extension Endpoint {
    /// struct sockaddr_in (16 bytes) or sockaddr_in6 (28 bytes): family in host order, port and address in network order.
    ///
    /// Flow label and scope are 0. Source: ip(7), ipv6(7).
    var socketAddressBytes: [UInt8] {
        let family = UInt16(address.isV4 ? AF_INET : AF_INET6)
        let start =
            withUnsafeBytes(of: family) { Array($0) } + withUnsafeBytes(of: port.bigEndian) { Array($0) }
        return address.isV4
            ? start + address.bytes + [UInt8](repeating: 0, count: 8)
            : start + [0, 0, 0, 0] + address.bytes + [0, 0, 0, 0]
    }

    /// The endpoint in a struct sockaddr_in or sockaddr_in6; nil for another family or too few bytes.
    init?(socketAddress bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= 16 else { return nil }
        let port = UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
        let address: IPAddress? =
            switch Int32(bytes.loadUnaligned(as: UInt16.self)) {
            case AF_INET: IPAddress(bytes: Array(bytes[4..<8]))
            case AF_INET6 where bytes.count >= 28: IPAddress(bytes: Array(bytes[8..<24]))
            default: nil
            }
        guard let address else { return nil }
        self.init(address, port: port)
    }
}

extension GenericMessage {
    fileprivate func put(_ type: wgdevice_attribute, raw value: UnsafeRawBufferPointer) {
        put(UInt16(type.rawValue), raw: value)
    }
    fileprivate func put(_ type: wgdevice_attribute, string value: String) {
        put(UInt16(type.rawValue), string: value)
    }
    fileprivate func put(_ type: wgdevice_attribute, _ value: some FixedWidthInteger) {
        put(UInt16(type.rawValue), value)
    }
    fileprivate func put(_ type: wgallowedip_attribute, _ value: some FixedWidthInteger) {
        put(UInt16(type.rawValue), value)
    }
    fileprivate func put(_ type: wgallowedip_attribute, _ value: [UInt8]) {
        put(UInt16(type.rawValue), value)
    }
    fileprivate func beginNest(_ type: wgpeer_attribute) -> Int { beginNest(UInt16(type.rawValue)) }
}
