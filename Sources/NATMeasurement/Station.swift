import CNatlab
import Glibc
import NetAddress
import NetlinkWire
package import SystemCalls

/// The other end of one of a router's links: an interface in another namespace.
package struct FarEnd: Hashable, Sendable {
    package var namespace: NetworkNamespace
    package var interface: String

    package init(_ namespace: NetworkNamespace, _ interface: String) {
        self.namespace = namespace
        self.interface = interface
    }
}

/// A packet socket on an interface.
///
/// What it sends goes straight to the other end of the link. What comes from there it sees before any bridge,
/// IP stack or rule of the namespace that it sits in.
final class FrameSocket {
    private let socket: Descriptor
    private let namespace: NetworkNamespace
    private var buffer = [UInt8](repeating: 0, count: 65_536)

    /// Receives ARP, and IPv4 for these addresses; with interface 0 of all interfaces.
    init(
        in namespace: NetworkNamespace, interface: Int32, addresses: [IPAddress]
    ) throws(OperationFailure) {
        // Protocol 0: nothing arrives before the filter is there (packet(7)).
        socket = try namespace.socket(
            domain: AF_PACKET, type: Int32(SOCK_RAW.rawValue) | Int32(SOCK_NONBLOCK.rawValue))
        self.namespace = namespace
        let wanted = addresses.compactMap(\.v4Bits)
        var result = natlab_filter_frames(socket.rawValue, wanted, wanted.count)
        if result >= 0 { result = natlab_bind_frames(socket.rawValue, interface, Self.allProtocols) }
        guard result >= 0 else {
            throw OperationFailure(
                "listen for frames", "interface \(interface)", namespace: namespace.name, errno: -result)
        }
    }

    var pollDescriptor: Int32 { socket.rawValue }

    /// ETH_P_ALL of linux/if_ether.h.
    ///
    /// A bridge takes its ports' frames before a socket for one protocol sees
    /// them.
    private static let allProtocols: UInt16 = 3

    /// Sends a frame; one for which there is no room at the moment is lost, as on a wire.
    func send(_ frame: EthernetFrame, out interface: Int32) throws(OperationFailure) {
        let bytes = frame.bytes
        let result = natlab_send_frame(socket.rawValue, interface, bytes, bytes.count)
        guard result >= 0 || [-ENOBUFS, -EAGAIN].contains(result) else {
            throw OperationFailure(
                "send frame", "interface \(interface)", namespace: namespace.name, errno: -result)
        }
    }

    /// The next frame, without waiting; nil when there is none.
    func receive() throws(OperationFailure) -> EthernetFrame? {
        while true {
            let count = recv(socket.rawValue, &buffer, buffer.count, Int32(MSG_DONTWAIT))
            if count >= 0 {
                guard let frame = EthernetFrame(Array(buffer[..<count])) else { continue }
                return frame
            }
            switch errno {
            case EINTR: continue
            case EAGAIN: return nil
            // The interface went down; it may come up again, and else nothing arrives.
            case ENETDOWN: continue
            case let code:
                throw OperationFailure("receive", "frame", namespace: namespace.name, errno: code)
            }
        }
    }
}

/// One or more hosts at the far end of a router's link, whose addresses nobody else has.
///
/// Answers ARP for them. It takes every packet that is for one of its addresses, whatever hardware address
/// the router has for that: an entry of an earlier measurement does no harm.
final class Station {
    private let socket: FrameSocket
    private let interface: Int32
    private let hardware: [IPAddress: MACAddress]
    private var neighbours: [IPAddress: MACAddress] = [:]
    /// Own addresses that no neighbour has answered yet.
    private var unanswered: Set<IPAddress>
    private var reassembly = Reassembly()

    /// With `answers` false it only watches what is on its way to the addresses, which are others'.
    init(at place: FarEnd, addresses: [IPAddress], answers: Bool = true) throws(OperationFailure) {
        interface = try RouteSocket(place.namespace).linkIndex(place.interface)
        var hardware: [IPAddress: MACAddress] = [:]
        if answers { for address in addresses { hardware[address] = .random() } }
        self.hardware = hardware
        unanswered = Set(hardware.keys)
        socket = try FrameSocket(in: place.namespace, interface: interface, addresses: addresses)
    }

    var pollDescriptor: Int32 { socket.pollDescriptor }

    /// The hardware address of a neighbour once it has answered all of the own addresses.
    func neighbour(_ address: IPAddress) -> MACAddress? { unanswered.isEmpty ? neighbours[address] : nil }

    /// Asks for a neighbour's hardware address for each of the own addresses that it has not answered yet.
    ///
    /// From the question the neighbour learns that address, too: it need not ask itself, which it would do
    /// once a second.
    func ask(for neighbour: IPAddress) throws(OperationFailure) {
        for address in unanswered {
            guard let own = hardware[address] else { continue }
            let request = ARPPacket.request(for: neighbour, from: address, own)
            try socket.send(
                EthernetFrame(to: .broadcast, from: own, type: EthernetFrame.arp, payload: request.bytes),
                out: interface)
        }
    }

    /// Sends a packet by way of a neighbour.
    func send(_ packet: IPv4Packet, by hop: MACAddress) throws(OperationFailure) {
        guard let own = hardware[packet.source] else { return }
        try socket.send(
            EthernetFrame(to: hop, from: own, type: EthernetFrame.ipv4, payload: packet.bytes), out: interface
        )
    }

    /// The next whole packet, without waiting; nil when there is none.
    func receive() throws(OperationFailure) -> IPv4Packet? {
        while let frame = try socket.receive() {
            switch frame.type {
            case EthernetFrame.ipv4:
                if let packet = IPv4Packet(frame.payload), let whole = reassembly.take(packet) {
                    return whole
                }
            case EthernetFrame.arp:
                if let message = ARPPacket(frame.payload) { try take(message) }
            default: break
            }
        }
        return nil
    }

    private func take(_ message: ARPPacket) throws(OperationFailure) {
        if !message.sender.isUnspecified { neighbours[message.sender] = message.senderHardware }
        if message.operation == .reply { unanswered.remove(message.target) }
        guard message.operation == .request, let own = hardware[message.target] else { return }
        try socket.send(
            EthernetFrame(
                to: message.senderHardware, from: own, type: EthernetFrame.arp,
                payload: message.answer(from: own).bytes), out: interface)
    }
}
