import NetAddress

// Single values, each reported where it is wrong and then nil.
extension Reporter {
    func wrongType(_ node: TOMLNode, wants: String, hint: String? = nil) {
        let subject = node.key.isEmpty ? "this" : "`\(node.key)`"
        error("\(subject) must be \(wants), not \(node.kind)", at: node.span, hint: hint)
    }

    func string(_ node: TOMLNode, wants: String = "a string", hint: String? = nil) -> Located<String>? {
        guard case .string(let text) = node.value else {
            wrongType(node, wants: wants, hint: hint)
            return nil
        }
        return Located(text, node.span)
    }

    /// A file name: not empty, no NUL (which would cut it short below).
    func path(_ node: TOMLNode) -> Located<String>? {
        guard let text = string(node, wants: "a file name") else { return nil }
        guard !text.value.isEmpty, !text.value.utf8.contains(0) else {
            error("`\(node.key)` is not a file name", at: node.span)
            return nil
        }
        return text
    }

    func integer(_ node: TOMLNode, in range: ClosedRange<Int64>) -> Located<Int64>? {
        guard case .integer(let value) = node.value else {
            var hint: String?
            if case .string(let text) = node.value, let value = Int64(text), range.contains(value) {
                hint = "write it without quotes: \(node.key) = \(value)"
            }
            wrongType(node, wants: "an integer from \(range.lowerBound) to \(range.upperBound)", hint: hint)
            return nil
        }
        guard range.contains(value) else {
            error(
                "`\(node.key)` is \(value); it must be from \(range.lowerBound) to \(range.upperBound)",
                at: node.span)
            return nil
        }
        return Located(value, node.span)
    }

    func port(_ node: TOMLNode, zeroIsAny: Bool) -> Located<UInt16>? {
        integer(node, in: (zeroIsAny ? 0 : 1)...65535)?.map { UInt16(truncatingIfNeeded: $0) }
    }

    func mtu(_ node: TOMLNode) -> Int? {
        // RFC 791: every internet module must forward 68 bytes, but nothing useful goes below 576.
        integer(node, in: 576...65535).map { Int($0.value) }
    }

    func array(_ node: TOMLNode, of what: String, hint: String? = nil) -> [TOMLNode]? {
        guard case .array(let elements) = node.value else {
            wrongType(node, wants: "an array of \(what)", hint: hint)
            return nil
        }
        return elements
    }

    func table(_ node: TOMLNode, hint: String? = nil) -> [TOMLNode]? {
        guard case .table(let entries) = node.value else {
            wrongType(node, wants: "a table", hint: hint)
            return nil
        }
        return entries
    }

    /// One of a few words, with the type that has them as raw values.
    func word<Word: RawRepresentable<String>>(_ node: TOMLNode, _ words: [Word]) -> Word? {
        let list = words.map { "\"\($0.rawValue)\"" }.joined(separator: " or ")
        guard let text = string(node, wants: list) else { return nil }
        guard let word = words.first(where: { $0.rawValue == text.value }) else {
            error(
                "`\(node.key)` must be \(list), not \"\(text.value)\"", at: node.span,
                hint: didYouMean(text.value, words.map(\.rawValue)))
            return nil
        }
        return word
    }

    func address(_ node: TOMLNode) -> Located<IPAddress>? {
        guard let text = string(node, wants: "an address such as \"203.0.113.10\"") else { return nil }
        guard let address = IPAddress(text.value) else {
            var hint: String?
            if let prefix = IPPrefix(text.value) {
                hint = "write it without the prefix length: \"\(prefix.address)\""
            }
            error("\"\(text.value)\" is not an IPv4 address", at: node.span, hint: hint)
            return nil
        }
        guard address.isV4 else {
            unsupported("IPv6 addresses are", at: node.span)
            return nil
        }
        return Located(address, node.span)
    }

    /// A network: no host bits set.
    ///
    /// `bareIsHost`: "10.0.0.1" is 10.0.0.1/32, as for wg(8).
    func network(_ node: TOMLNode, bareIsHost: Bool = false) -> Located<IPPrefix>? {
        guard let text = string(node, wants: "a prefix such as \"192.168.1.0/24\"") else { return nil }
        if bareIsHost, let address = IPAddress(text.value) {
            guard address.isV4 else {
                unsupported("IPv6 prefixes are", at: node.span)
                return nil
            }
            return Located(IPPrefix(host: address), node.span)
        }
        guard let prefix = IPPrefix(text.value) else {
            let whole = IPAddress(text.value).flatMap { $0.isV4 ? IPPrefix($0, length: 24) : nil }
            error(
                "\"\(text.value)\" is not an IPv4 prefix", at: node.span,
                hint: whole.map { "a prefix has a length: \"\($0.network)\"" }
                    ?? "write it like \"192.168.1.0/24\"")
            return nil
        }
        guard prefix.address.isV4 else {
            unsupported("IPv6 prefixes are", at: node.span)
            return nil
        }
        guard prefix.isNetwork else {
            error(
                "\"\(prefix)\" has bits set behind its prefix length", at: node.span,
                hint: "did you mean \"\(prefix.network)\"?")
            return nil
        }
        return Located(prefix, node.span)
    }

    /// A network that hosts get addresses in: large enough for two and none of the reserved ranges.
    func hostNetwork(_ node: TOMLNode) -> Located<IPPrefix>? {
        guard let prefix = network(node) else { return nil }
        guard prefix.value.length <= 30 else {
            error("\(prefix.value) is too small for a network: the longest prefix is /30", at: node.span)
            return nil
        }
        // RFC 6890: "this network", loopback, multicast and reserved addresses are no host's.
        for (reserved, what) in Self.reservedNetworks where reserved.overlaps(prefix.value) {
            error("\(prefix.value) overlaps \(reserved), which is \(what)", at: node.span)
            return nil
        }
        return prefix
    }

    private static let reservedNetworks: [(IPPrefix, String)] = [
        ("0.0.0.0/8", "reserved"), ("127.0.0.0/8", "loopback"), ("224.0.0.0/3", "multicast and reserved"),
    ].compactMap { text, what in IPPrefix(text).map { ($0, what) } }

    func endpoint(_ node: TOMLNode) -> Endpoint? {
        guard let text = string(node, wants: "an endpoint such as \"203.0.113.10:51820\"") else { return nil }
        guard let endpoint = Endpoint(text.value), endpoint.port != 0 else {
            error(
                "\"\(text.value)\" is not an address with a port", at: node.span,
                hint: "write it like \"203.0.113.10:51820\"; a lab has no DNS")
            return nil
        }
        guard endpoint.address.isV4 else {
            unsupported("IPv6 endpoints are", at: node.span)
            return nil
        }
        return endpoint
    }

    /// A WireGuard public key: 32 bytes in base64 (RFC 4648, section 4), 44 characters as wg(8) writes them.
    func publicKey(_ node: TOMLNode) -> String? {
        guard let text = string(node, wants: "a public key") else { return nil }
        let bytes = Array(text.value.utf8)
        let isDigit = { (byte: UInt8) in
            switch byte {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"), UInt8(ascii: "/"):
                true
            default: false
            }
        }
        // 256 bits are 42 digits and four bits of the next, whose other two are 0.
        guard bytes.count == 44, bytes[..<43].allSatisfy(isDigit), bytes[43] == UInt8(ascii: "="),
            "AEIMQUYcgkosw048".utf8.contains(bytes[42])
        else {
            error(
                "\"\(text.value)\" is not a WireGuard public key", at: node.span,
                hint: "it is 44 characters of base64, as `wg pubkey` writes them")
            return nil
        }
        return text.value
    }

    /// "25s" or "off": seconds, 0 for off.
    func keepalive(_ node: TOMLNode) -> UInt16? {
        if case .string("off") = node.value { return 0 }
        return seconds(node, upTo: 65_535, orOff: true).map { UInt16(truncatingIfNeeded: $0) }
    }

    /// Seconds with their unit: "30s".
    func seconds(_ node: TOMLNode, upTo most: Int, orOff: Bool = false) -> Int? {
        let off = orOff ? ", or \"off\"" : ""
        let wants = "a string such as \"25s\"" + off
        if case .integer(let seconds) = node.value {
            wrongType(
                node, wants: wants,
                hint: (1...Int64(most)).contains(seconds) ? "did you mean \"\(seconds)s\"?" : nil)
            return nil
        }
        guard let text = string(node, wants: wants) else { return nil }
        let digits = text.value.dropLast()
        guard text.value.last == "s", digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let seconds = Int(digits), (1...most).contains(seconds)
        else {
            error(
                "`\(node.key)` must be from \"1s\" to \"\(most)s\"\(off), not \"\(text.value)\"",
                at: node.span)
            return nil
        }
        return seconds
    }

    func boolean(_ node: TOMLNode) -> Bool? {
        guard case .boolean(let value) = node.value else {
            var hint: String?
            if case .string(let text) = node.value, ["true", "false"].contains(text) {
                hint = "write it without quotes: \(node.key) = \(text)"
            }
            wrongType(node, wants: "true or false", hint: hint)
            return nil
        }
        return value
    }

    /// "auto", "off" or the number of a routing table.
    func routeTable(_ node: TOMLNode) -> Topology.RouteTable? {
        if case .integer = node.value {
            guard let number = integer(node, in: 1...Int64(UInt32.max)) else { return nil }
            // rt_tables(5): 255 is the kernel's own table of local addresses.
            guard number.value != 255 else {
                error("table 255 is the kernel's table of local addresses", at: node.span)
                return nil
            }
            return .number(UInt32(truncatingIfNeeded: number.value))
        }
        let wants = "\"auto\", \"off\" or the number of a routing table"
        guard let text = string(node, wants: wants) else { return nil }
        switch text.value {
        case "auto": return .auto
        case "off": return .off
        default:
            error("`\(node.key)` must be \(wants), not \"\(text.value)\"", at: node.span)
            return nil
        }
    }

    /// Two names: ["a", "b"].
    func pair(_ node: TOMLNode) -> Located<(Located<String>, Located<String>)>? {
        guard
            let elements = array(node, of: "two host names", hint: "write it like [\"alpine1\", \"alpine2\"]")
        else {
            return nil
        }
        guard elements.count == 2 else {
            error("a pair has two hosts, not \(elements.count)", at: node.span)
            return nil
        }
        guard let first = string(elements[0], wants: "a host's name"),
            let second = string(elements[1], wants: "a host's name")
        else { return nil }
        return Located((first, second), node.span)
    }
}
