/// A UDP or TCP transport address: "203.0.113.1:51820" or "[2001:db8::1]:51820".
package struct Endpoint: Hashable, Sendable {
    package var address: IPAddress
    package var port: UInt16

    package init(_ address: IPAddress, port: UInt16) {
        self.address = address
        self.port = port
    }

    /// Reads "203.0.113.1:51820" or "[2001:db8::1]:51820"; nil for anything else, names too.
    package init?(_ text: some StringProtocol) {
        guard let colon = text.lastIndex(of: ":") else { return nil }
        let portText = text[text.index(after: colon)...]
        var host = text[..<colon]
        if host.first == "[", host.last == "]" {
            host = host.dropFirst().dropLast()
        } else if host.contains(":") {
            return nil
        }
        guard (1...5).contains(portText.utf8.count), portText.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let port = UInt16(portText), let address = IPAddress(host)
        else { return nil }
        self.init(address, port: port)
    }
}

extension Endpoint: CustomStringConvertible {
    package var description: String { address.isV4 ? "\(address):\(port)" : "[\(address)]:\(port)" }
}
