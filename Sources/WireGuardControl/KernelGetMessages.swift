import CNLGenl
import Glibc
import NetAddress
package import NetlinkWire
package import SystemCalls
import WireGuardKeys

/// WG_CMD_GET_DEVICE: the request, and the device that its answers make together.
///
/// Source: linux/wireguard.h: a peer's allowed IPs may go on in the next message, which then repeats only its public
/// key; "it is then up to the receiver to coalesce adjacent peers".
package enum KernelGetMessages {
    /// The dump request.
    ///
    /// Throws EINVAL for a name that is no interface's.
    package static func request(interface: String) throws(OperationFailure) -> GenericMessage {
        guard KernelSetMessages.isInterfaceName(interface) else {
            throw OperationFailure(
                "read WireGuard", interface, errno: EINVAL, detail: "not the name of an interface")
        }
        let message = GenericMessage(
            command: UInt8(WG_CMD_GET_DEVICE.rawValue), version: UInt8(WG_GENL_VERSION))
        message.put(UInt16(WGDEVICE_A_IFNAME.rawValue), string: interface)
        return message
    }
}

/// Takes in the attributes of one answer after the other.
package struct KernelDeviceReader {
    private var device: WireGuardDevice

    package init(interface: String) {
        device = WireGuardDevice(
            interface: interface, publicKey: nil, listenPort: 0, firewallMark: 0, peers: [])
    }

    /// What the answers so far make.
    package var result: WireGuardDevice { device }

    /// Takes the attributes after a message's genlmsghdr; unknown ones are passed over.
    ///
    /// The private key among them is not looked at. Throws, with errno 0, what does not keep to the format.
    package mutating func take(_ attributes: UnsafeRawBufferPointer) throws(OperationFailure) {
        var reader = GenericAttributeReader(attributes)
        while let attribute = try reader.next() {
            switch UInt32(attribute.type) {
            case WGDEVICE_A_IFNAME.rawValue: device.interface = attribute.string()
            case WGDEVICE_A_PUBLIC_KEY.rawValue: device.publicKey = try attribute.publicKey()
            case WGDEVICE_A_LISTEN_PORT.rawValue: device.listenPort = try attribute.integer()
            case WGDEVICE_A_FWMARK.rawValue: device.firewallMark = try attribute.integer()
            case WGDEVICE_A_PEERS.rawValue:
                var peers = attribute.nested
                while let peer = try peers.next() { try takePeer(peer.nested) }
            default: break
            }
        }
    }

    private mutating func takePeer(_ attributes: GenericAttributeReader) throws(OperationFailure) {
        var attributes = attributes
        var key: PublicKey?
        var peer = WireGuardPeer(publicKey: .zero)
        while let attribute = try attributes.next() {
            switch UInt32(attribute.type) {
            case WGPEER_A_PUBLIC_KEY.rawValue: key = try attribute.publicKey()
            case WGPEER_A_PRESHARED_KEY.rawValue:
                peer.hasPresharedKey = attribute.value.reduce(0) { $0 | $1 } != 0
            case WGPEER_A_ENDPOINT.rawValue:
                guard let endpoint = Endpoint(socketAddress: attribute.value) else {
                    throw .malformedNetlink(
                        "an endpoint of \(attribute.value.count) bytes is no IPv4 or IPv6 address")
                }
                peer.endpoint = endpoint
            case WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL.rawValue:
                peer.persistentKeepalive = try attribute.integer()
            case WGPEER_A_LAST_HANDSHAKE_TIME.rawValue: peer.lastHandshake = try attribute.handshakeTime()
            case WGPEER_A_RX_BYTES.rawValue: peer.receivedBytes = try attribute.integer()
            case WGPEER_A_TX_BYTES.rawValue: peer.sentBytes = try attribute.integer()
            case WGPEER_A_ALLOWEDIPS.rawValue:
                var prefixes = attribute.nested
                while let prefix = try prefixes.next() {
                    peer.allowedIPs.append(try Self.prefix(prefix.nested))
                }
            default: break
            }
        }
        guard let key else { throw .malformedNetlink("a peer without a public key") }
        if let last = device.peers.indices.last, device.peers[last].publicKey == key {
            // The rest of the last peer: it brings nothing but further allowed IPs.
            device.peers[last].allowedIPs += peer.allowedIPs
        } else {
            peer.publicKey = key
            device.peers.append(peer)
        }
    }

    private static func prefix(_ attributes: GenericAttributeReader) throws(OperationFailure) -> IPPrefix {
        var attributes = attributes
        var family: UInt16?
        var bytes: [UInt8] = []
        var length: UInt8?
        while let attribute = try attributes.next() {
            switch UInt32(attribute.type) {
            case WGALLOWEDIP_A_FAMILY.rawValue: family = try attribute.integer()
            case WGALLOWEDIP_A_IPADDR.rawValue: bytes = Array(attribute.value)
            case WGALLOWEDIP_A_CIDR_MASK.rawValue: length = try attribute.integer()
            default: break
            }
        }
        let width =
            switch family.map(Int32.init) {
            case AF_INET: 4
            case AF_INET6: 16
            default: 0
            }
        guard bytes.count == width, let address = IPAddress(bytes: bytes), let length,
            let prefix = IPPrefix(address, length: Int(length))
        else { throw .malformedNetlink("an allowed IP that is neither IPv4 nor IPv6") }
        return prefix
    }
}

extension GenericAttribute {
    fileprivate func publicKey() throws(OperationFailure) -> PublicKey {
        guard let key = PublicKey(bytes: value) else {
            throw .malformedNetlink("a key of \(value.count) bytes")
        }
        return key
    }

    /// struct __kernel_timespec: two 64-bit numbers, seconds and nanoseconds; both 0 for never.
    fileprivate func handshakeTime() throws(OperationFailure) -> WallTime? {
        guard value.count == 16 else { throw .malformedNetlink("a time of \(value.count) bytes") }
        return try WallTime.handshake(
            seconds: value.loadUnaligned(as: Int64.self),
            nanoseconds: value.loadUnaligned(fromByteOffset: 8, as: Int64.self))
    }
}
