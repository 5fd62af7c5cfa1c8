import NetAddress

/// A 48-bit Ethernet address.
struct MACAddress: Hashable, Sendable {
    /// In the low 48 bits.
    let bits: UInt64

    init(bits: UInt64) { self.bits = bits & 0xFFFF_FFFF_FFFF }

    static let broadcast = MACAddress(bits: .max)
    /// What an ARP request has for the address that it asks for.
    static let unknown = MACAddress(bits: 0)

    /// One that no manufacturer gives out: locally administered, unicast (IEEE 802 section 8.4).
    static func random() -> MACAddress {
        MACAddress(bits: .random(in: 0...UInt64.max) & ~(1 << 40) | 1 << 41)
    }

    var bytes: [UInt8] { (0..<6).map { UInt8(truncatingIfNeeded: bits >> UInt64(40 - 8 * $0)) } }
}

extension [UInt8] {
    func hardwareAddress(at offset: Int) -> MACAddress {
        MACAddress(bits: self[offset..<offset + 6].reduce(0) { $0 << 8 | UInt64($1) })
    }
}

/// An Ethernet frame without its check sequence.
///
/// Source: IEEE 802.3; RFC 894.
struct EthernetFrame: Hashable {
    var destination: MACAddress
    var source: MACAddress
    /// ETH_P_*.
    var type: UInt16
    var payload: [UInt8]

    static let ipv4: UInt16 = 0x0800
    static let arp: UInt16 = 0x0806

    init(to destination: MACAddress, from source: MACAddress, type: UInt16, payload: [UInt8]) {
        self.destination = destination
        self.source = source
        self.type = type
        self.payload = payload
    }

    /// Nil when it is too short for a header.
    init?(_ bytes: [UInt8]) {
        guard bytes.count >= 14 else { return nil }
        destination = bytes.hardwareAddress(at: 0)
        source = bytes.hardwareAddress(at: 6)
        type = bytes.number16(at: 12)
        payload = Array(bytes[14...])
    }

    var bytes: [UInt8] {
        var bytes = destination.bytes + source.bytes
        bytes.append16(type)
        return bytes + payload
    }
}

/// An ARP packet for IPv4 over Ethernet.
///
/// Source: RFC 826.
struct ARPPacket: Hashable {
    enum Operation: UInt16 {
        case request = 1
        case reply = 2
    }
    var operation: Operation
    var senderHardware: MACAddress
    var sender: IPAddress
    var targetHardware: MACAddress
    var target: IPAddress

    /// Asks who has `target`.
    static func request(for target: IPAddress, from sender: IPAddress, _ hardware: MACAddress) -> ARPPacket {
        ARPPacket(
            operation: .request, senderHardware: hardware, sender: sender, targetHardware: .unknown,
            target: target)
    }

    /// Asks whether someone has `target` without claiming it: the sender is 0.0.0.0 (RFC 5227 section 2.1.1).
    static func probe(for target: IPAddress, _ hardware: MACAddress) -> ARPPacket {
        request(for: target, from: IPAddress(v4: 0), hardware)
    }

    /// The answer to a request for the own address.
    func answer(from hardware: MACAddress) -> ARPPacket {
        ARPPacket(
            operation: .reply, senderHardware: hardware, sender: target, targetHardware: senderHardware,
            target: sender)
    }

    init(
        operation: Operation, senderHardware: MACAddress, sender: IPAddress, targetHardware: MACAddress,
        target: IPAddress
    ) {
        self.operation = operation
        self.senderHardware = senderHardware
        self.sender = sender
        self.targetHardware = targetHardware
        self.target = target
    }

    /// Nil unless it is a request or a reply for IPv4 over Ethernet; padding behind it is ignored.
    init?(_ bytes: [UInt8]) {
        guard bytes.count >= 28, bytes[..<6].elementsEqual([0, 1, 8, 0, 6, 4]),
            let operation = Operation(rawValue: bytes.number16(at: 6))
        else { return nil }
        self.init(
            operation: operation, senderHardware: bytes.hardwareAddress(at: 8), sender: bytes.address(at: 14),
            targetHardware: bytes.hardwareAddress(at: 18), target: bytes.address(at: 24))
    }

    var bytes: [UInt8] {
        var bytes: [UInt8] = [0, 1, 8, 0, 6, 4]
        bytes.append16(operation.rawValue)
        bytes += senderHardware.bytes + sender.bytes
        return bytes + targetHardware.bytes + target.bytes
    }
}
