import CNLGenl
import NetAddress
import NetlinkWire
import SystemCalls
import Testing
import WireGuardControl
import WireGuardKeys

/// What libnl's own attribute walkers find in a SET message: the witness for lengths, padding and nesting.
private struct Witness {
    struct Peer {
        var key: [UInt8] = []
        var flags: UInt32 = 0
        var attributes: [UInt16] = []
        var prefixes = 0
    }
    var length = 0
    var flags: UInt32?
    var attributes: [UInt16] = []
    var peers: [Peer] = []

    init(_ message: GenericMessage) throws {
        length = message.count
        try message.withBytes { bytes in
            try Self.each(Array(bytes.dropFirst(20))) { type, nested, value in
                attributes.append(type)
                switch type {
                case 5: flags = Self.number(value)
                case 8:
                    #expect(nested)
                    try Self.each(value) { type, nested, value in
                        #expect(type == 0 && nested)
                        peers.append(try Self.peer(value))
                    }
                default: #expect(!nested)
                }
            }
        }
    }

    private static func peer(_ bytes: [UInt8]) throws -> Peer {
        var peer = Peer()
        try each(bytes) { type, nested, value in
            peer.attributes.append(type)
            switch type {
            case 1: peer.key = value
            case 3: peer.flags = number(value)
            case 9:
                #expect(nested)
                try each(value) { type, nested, value in
                    #expect(type == 0 && nested)
                    var types: [UInt16] = []
                    try each(value) { type, _, _ in types.append(type) }
                    #expect(types == [1, 2, 3])
                    peer.prefixes += 1
                }
            default: break
            }
        }
        return peer
    }

    private static func number(_ value: [UInt8]) -> UInt32 {
        value.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) }
    }

    /// nla_for_each_attr: every byte must belong to an attribute.
    private static func each(
        _ bytes: [UInt8], _ body: (_ type: UInt16, _ nested: Bool, _ value: [UInt8]) throws -> Void
    ) throws {
        try bytes.withUnsafeBytes { raw in
            var rest = Int32(raw.count)
            guard let start = raw.baseAddress else { return }
            var next = UnsafeMutableRawPointer(mutating: start).assumingMemoryBound(to: nlattr.self)
            while nla_ok(next, rest) != 0 {
                guard let data = nla_data(next) else { throw BadSample(text: "no data") }
                try body(
                    UInt16(nla_type(next)), next.pointee.nla_type & 0x8000 != 0,
                    Array(UnsafeRawBufferPointer(start: data, count: Int(nla_len(next)))))
                guard let following = nla_next(next, &rest) else { break }
                next = following
            }
            #expect(rest == 0, "bytes that are no attribute")
        }
    }
}

@Suite struct KernelSplitTests {
    private func manyPeers(_ count: Int, prefixes: Int) throws -> [WireGuardPeerChange] {
        try (0..<count).map { number in
            WireGuardPeerChange(
                publicKey: try publicKey(number: number), presharedKey: presharedKey(UInt8(number % 200 + 1)),
                endpoint: try endpoint("203.0.113.7:\(number + 1)"), persistentKeepalive: UInt16(number),
                replaceAllowedIPs: true,
                allowedIPs: try (0..<prefixes).map {
                    try prefix("10.\(number % 256).\($0 % 256).\($0 / 256)/32")
                })
        }
    }

    /// A peer here is 4 + 36 + 36 + 8 + 20 + 8 + (4 + 3 * 28) = 200 bytes; a message of 4,096 holds 20 of them beside
    /// 20 (headers) + 8 (name) + 4 (nest), the first with 36 (private key) + 8 (flags) more.
    @Test func twoHundredPeersAreTenMessages() throws {
        let change = WireGuardChange(
            privateKey: privateKey(1), replacePeers: true, peers: try manyPeers(200, prefixes: 3))
        let messages = try KernelSetMessages.messages(for: change, interface: "wg0").map(Witness.init)
        #expect(messages.map(\.length) == [4076] + [Int](repeating: 4032, count: 9))
        #expect(messages.map(\.peers.count) == [Int](repeating: 20, count: 10))
        #expect(messages.map(\.flags) == [1] + [UInt32?](repeating: nil, count: 9))
        #expect(messages.first?.attributes == [2, 3, 5, 8])
        #expect(messages.dropFirst().allSatisfy { $0.attributes == [2, 8] })
        let peers = messages.flatMap(\.peers)
        #expect(peers.map(\.key) == change.peers.map(\.publicKey.bytes))
        #expect(
            peers.allSatisfy { $0.flags == 2 && $0.prefixes == 3 && $0.attributes == [1, 2, 3, 4, 5, 9] })
    }

    /// The first part has (4,096 - 20 - 8 - 4 - 48 - 4) / 28 = 143 allowed IPs, a later one
    /// (4,096 - 20 - 8 - 4 - 40 - 4) / 28 = 143.
    @Test func onePeerOfAThousandAllowedIPsIsSevenMessages() throws {
        let change = WireGuardChange(
            listenPort: nil, replacePeers: false,
            peers: [
                WireGuardPeerChange(
                    publicKey: try publicKey(9), replaceAllowedIPs: true,
                    allowedIPs: try (0..<1000).map { try prefix("10.0.\($0 / 250).\($0 % 250)/32") })
            ])
        let messages = try KernelSetMessages.messages(for: change, interface: "wg0").map(Witness.init)
        #expect(messages.map(\.peers.count) == [Int](repeating: 1, count: 7))
        #expect(messages.flatMap(\.peers).map(\.prefixes) == [143, 143, 143, 143, 143, 143, 142])
        #expect(messages.flatMap(\.peers).map(\.flags) == [2, 0, 0, 0, 0, 0, 0])
        #expect(messages.flatMap(\.peers).map(\.attributes).dropFirst().allSatisfy { $0 == [1, 9] })
        #expect(messages.allSatisfy { $0.flags == nil && $0.length <= 4096 })
    }

    /// Otherwise the second part would make the peer that the first found missing.
    @Test func aLaterPartOfAnUpdateOnlyPeerIsUpdateOnlyToo() throws {
        let change = WireGuardChange(peers: [
            WireGuardPeerChange(
                publicKey: try publicKey(9), updateOnly: true, replaceAllowedIPs: true,
                allowedIPs: try (0..<200).map { try prefix("10.0.0.\($0)/32") })
        ])
        let messages = try KernelSetMessages.messages(for: change, interface: "wg0").map(Witness.init)
        #expect(messages.flatMap(\.peers).map(\.flags) == [6, 4])
    }

    @Test(arguments: [0, 512, 600, 700, 1024, 4096, 8192])
    func whateverTheLimitNothingIsLostOrTooLong(_ limit: Int) throws {
        let peers = try (0..<30).flatMap { number in
            try manyPeers(number + 1, prefixes: number).suffix(1)
        }
        let change = WireGuardChange(privateKey: privateKey(1), listenPort: 1, firewallMark: 1, peers: peers)
        let messages = try KernelSetMessages.messages(for: change, interface: "abcdefghijklmno", limit: limit)
        #expect(messages.map(\.count).allSatisfy { $0 <= max(limit, 512) })
        let parts = try messages.map(Witness.init).flatMap(\.peers)
        for peer in peers {
            let own = parts.filter { $0.key == peer.publicKey.bytes }
            #expect(own.map(\.prefixes).reduce(0, +) == peer.allowedIPs.count)
            #expect(own.first?.flags == 2 && own.dropFirst().allSatisfy { $0.flags == 0 })
        }
        #expect(Set(parts.map(\.key)).count == 30)
    }

    /// A SET message's peers have the attributes that GET answers have: what was encoded comes back.
    @Test func whatIsEncodedIsDecoded() throws {
        let peers =
            try manyPeers(199, prefixes: 4) + [
                WireGuardPeerChange(
                    publicKey: try publicKey(0xEE), endpoint: try endpoint("[2001:db8::9]:9"),
                    allowedIPs: try (0..<500).map { try prefix("fd00:\(String($0, radix: 16))::/32") })
            ]
        let change = WireGuardChange(listenPort: 51820, firewallMark: 7, replacePeers: true, peers: peers)
        var reader = KernelDeviceReader(interface: "")
        for message in try KernelSetMessages.messages(for: change, interface: "wg0") {
            try message.withBytes { (bytes) throws(OperationFailure) in
                try reader.take(UnsafeRawBufferPointer(rebasing: bytes[20...]))
            }
        }
        let device = reader.result
        #expect(device.interface == "wg0" && device.listenPort == 51820 && device.firewallMark == 7)
        #expect(
            device.peers
                == peers.map { peer in
                    WireGuardPeer(
                        publicKey: peer.publicKey, hasPresharedKey: peer.presharedKey != nil,
                        endpoint: peer.endpoint, allowedIPs: peer.allowedIPs,
                        persistentKeepalive: peer.persistentKeepalive ?? 0)
                })
    }
}
