/// An address with a prefix length: a network ("192.168.1.0/24") or an interface's address ("192.168.1.5/24").
///
/// Source: RFC 4632 section 3.1 (CIDR notation), RFC 4291 section 2.3.
package struct IPPrefix: Hashable, Sendable {
    package let address: IPAddress
    /// 0...32 or 0...128.
    package let length: Int

    /// Nil when the length does not fit the address's family.
    package init?(_ address: IPAddress, length: Int) {
        guard (0...address.bitWidth).contains(length) else { return nil }
        self.address = address
        self.length = length
    }

    /// Reads "ADDRESS/LENGTH"; nil for anything else, also for an address alone.
    package init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 2, let address = IPAddress(parts[0]), (1...3).contains(parts[1].utf8.count),
            parts[1].utf8.allSatisfy({ (0x30...0x39).contains($0) }), let length = Int(parts[1])
        else { return nil }
        self.init(address, length: length)
    }

    /// The single address, as a /32 or /128.
    package init(host address: IPAddress) {
        self.address = address
        length = address.bitWidth
    }

    /// 0.0.0.0/0.
    package static let allIPv4 = IPPrefix(unchecked: IPAddress(v4: 0), length: 0)

    /// The same prefix with the host bits cleared.
    package var network: IPPrefix {
        IPPrefix(unchecked: IPAddress(bits: address.bits & ~hostMask, isV4: address.isV4), length: length)
    }

    /// Whether no bit is set below the prefix length.
    package var isNetwork: Bool { address.bits & hostMask == 0 }

    /// The last address of the network (IPv4: its broadcast address, for lengths up to 30).
    package var lastAddress: IPAddress { IPAddress(bits: address.bits | hostMask, isV4: address.isV4) }

    /// Ones below the prefix length; zero for a whole address.
    private var hostMask: UInt128 {
        let hostBits = address.bitWidth - length
        return hostBits == 128 ? .max : (1 << UInt128(hostBits)) - 1
    }

    package func contains(_ other: IPAddress) -> Bool {
        other.isV4 == address.isV4 && (other.bits ^ address.bits) & ~hostMask == 0
    }

    /// Whether the other prefix's addresses all lie in this one.
    package func contains(_ other: IPPrefix) -> Bool {
        other.length >= length && contains(other.address)
    }

    package func overlaps(_ other: IPPrefix) -> Bool { contains(other) || other.contains(self) }

    private init(unchecked address: IPAddress, length: Int) {
        self.address = address
        self.length = length
    }
}

extension IPPrefix: CustomStringConvertible {
    package var description: String { "\(address)/\(length)" }
}

extension IPPrefix {
    /// The address with this number in the network; nil past the last.
    ///
    /// 0 is the network's own, 1 the first a host can have.
    package func host(_ number: UInt64) -> IPAddress? {
        guard let address = network.address.advanced(by: number), contains(address) else { return nil }
        return address
    }

    /// How many addresses hosts can have.
    ///
    /// The network's own and the last are not counted; at most Int.max.
    package var hostCount: Int {
        let hostBits = address.bitWidth - length
        return hostBits < 2 ? 0 : hostBits >= 63 ? .max : (1 << hostBits) - 2
    }
}
