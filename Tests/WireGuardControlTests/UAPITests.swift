import Glibc
import NetAddress
import NetlinkWire
import SystemCalls
import Testing
import WireGuardControl
import WireGuardKeys

/// The text of a request; only in tests, and only with sample keys.
private func text(_ bytes: WipedBytes) -> String {
    bytes.withBytes { String(decoding: $0, as: UTF8.self) }
}

private func parse(_ text: String) throws(OperationFailure) -> WireGuardDevice {
    try parse(Array(text.utf8))
}

private func parse(_ bytes: [UInt8]) throws(OperationFailure) -> WireGuardDevice {
    let buffer = WipedBytes(capacity: bytes.count)
    buffer.append(bytes)
    return try buffer.withBytes { (raw) throws(OperationFailure) in
        try UAPIAnswer.device(raw, interface: "wg0")
    }
}

private func acknowledge(_ text: String) throws(OperationFailure) {
    let buffer = WipedBytes(capacity: text.utf8.count)
    buffer.append(text.utf8)
    try buffer.withBytes { (raw) throws(OperationFailure) in try UAPIAnswer.acknowledgement(raw) }
}

private let sample = """
    private_key=0002030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f60
    listen_port=51820
    fwmark=4660
    public_key=a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0
    preshared_key=0000000000000000000000000000000000000000000000000000000000000000
    protocol_version=1
    endpoint=[2001:db8::1]:51820
    last_handshake_time_sec=1700000000
    last_handshake_time_nsec=123456789
    tx_bytes=18446744073709551615
    rx_bytes=92
    persistent_keepalive_interval=25
    allowed_ip=10.66.66.2/32
    allowed_ip=fd00::/64
    public_key=B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0B0
    preshared_key=0000000000000000000000000000000000000000000000000000000000000001
    last_handshake_time_nsec=0
    last_handshake_time_sec=0
    a_key_of_2030=whatever=it=says
    endpoint=203.0.113.5:1
    public_key=c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0
    errno=0


    """

@Suite struct UAPIRequestTests {
    @Test func get() {
        #expect(text(UAPIRequest.get()) == "get=1\n\n")
    }

    @Test func aChangeOfEverything() throws {
        let change = WireGuardChange(
            privateKey: privateKey(0x1F), listenPort: 51820, firewallMark: 0x1234, replacePeers: true,
            peers: [
                WireGuardPeerChange(
                    publicKey: try publicKey(0xA0), updateOnly: true, presharedKey: presharedKey(0xE9),
                    endpoint: try endpoint("[2001:db8::1]:51820"), persistentKeepalive: 25,
                    replaceAllowedIPs: true,
                    allowedIPs: [try prefix("10.66.66.2/32"), try prefix("fd00::/64")]),
                WireGuardPeerChange(publicKey: try publicKey(0xB0), endpoint: try endpoint("203.0.113.5:7")),
            ])
        let hexOf = { (byte: String) in String(repeating: byte, count: 32) }
        #expect(
            text(UAPIRequest.set(change)) == """
                set=1
                private_key=\(hexOf("1f"))
                listen_port=51820
                fwmark=4660
                replace_peers=true
                public_key=\(hexOf("b0"))
                endpoint=203.0.113.5:7
                public_key=\(hexOf("a0"))
                update_only=true
                preshared_key=\(hexOf("e9"))
                endpoint=[2001:db8::1]:51820
                persistent_keepalive_interval=25
                replace_allowed_ips=true
                allowed_ip=10.66.66.2/32
                allowed_ip=fd00::/64


                """)
    }

    /// wireguard-go carries "a keepalive was turned on" over to the next peer of a request: no such peer may follow.
    @Test func peersWhoseKeepaliveIsTurnedOnComeLast() throws {
        let change = WireGuardChange(peers: [
            WireGuardPeerChange(publicKey: try publicKey(1), persistentKeepalive: 25),
            WireGuardPeerChange(publicKey: try publicKey(2), persistentKeepalive: 0),
            WireGuardPeerChange(publicKey: try publicKey(3), persistentKeepalive: 1),
            WireGuardPeerChange(publicKey: try publicKey(4)),
        ])
        let keys = text(UAPIRequest.set(change)).split(separator: "\n").filter { $0.hasPrefix("public_key=") }
        #expect(keys.map { $0.suffix(1) } == ["2", "4", "1", "3"])
    }

    @Test func aChangeOfNothing() {
        #expect(text(UAPIRequest.set(WireGuardChange())) == "set=1\n\n")
    }

    @Test func zeroesAreSaidAndNotLeftOut() throws {
        let change = WireGuardChange(
            listenPort: 0, firewallMark: 0,
            peers: [WireGuardPeerChange(publicKey: try publicKey(1), persistentKeepalive: 0)])
        let key = String(repeating: "01", count: 32)
        #expect(
            text(UAPIRequest.set(change))
                == "set=1\nlisten_port=0\nfwmark=0\npublic_key=\(key)\npersistent_keepalive_interval=0\n\n")
    }

    @Test func aRemovedPeerCarriesNothingElse() throws {
        let change = WireGuardChange(peers: [
            WireGuardPeerChange(
                publicKey: try publicKey(1), remove: true, presharedKey: presharedKey(2),
                endpoint: try endpoint("203.0.113.5:7"), persistentKeepalive: 3, replaceAllowedIPs: true,
                allowedIPs: [try prefix("10.0.0.0/8")])
        ])
        let key = String(repeating: "01", count: 32)
        #expect(text(UAPIRequest.set(change)) == "set=1\npublic_key=\(key)\nremove=true\n\n")
    }

    @Test func everyByteOfAKeyIsRightHex() throws {
        for start in stride(from: 0, to: 256, by: 32) {
            let key = PrivateKey { for index in $0.indices { $0[index] = UInt8(start + index) } }
            let expected = (start..<start + 32).map { value in
                let digits = String(value, radix: 16)
                return digits.count == 1 ? "0" + digits : digits
            }.joined()
            #expect(
                text(UAPIRequest.set(WireGuardChange(privateKey: key)))
                    == "set=1\nprivate_key=\(expected)\n\n")
        }
    }
}

@Suite struct UAPIAnswerTests {
    @Test func aWholeAnswer() throws {
        let device = try parse(sample)
        #expect(device.interface == "wg0")
        #expect(device.listenPort == 51820)
        #expect(device.firewallMark == 0x1234)
        // What `wg pubkey` makes of that private key.
        #expect(device.publicKey?.base64 == "B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw=")
        #expect(
            device.peers == [
                WireGuardPeer(
                    publicKey: try publicKey(0xA0), hasPresharedKey: false,
                    endpoint: try endpoint("[2001:db8::1]:51820"),
                    allowedIPs: [try prefix("10.66.66.2/32"), try prefix("fd00::/64")],
                    persistentKeepalive: 25,
                    lastHandshake: WallTime(nanoseconds: 1_700_000_000_123_456_789), receivedBytes: 92,
                    sentBytes: .max),
                WireGuardPeer(
                    publicKey: try publicKey(0xB0), hasPresharedKey: true,
                    endpoint: try endpoint("203.0.113.5:1")),
                WireGuardPeer(publicKey: try publicKey(0xC0)),
            ])
    }

    @Test func aDeviceWithNothing() throws {
        #expect(
            try parse("errno=0\n\n")
                == WireGuardDevice(
                    interface: "wg0", publicKey: nil, listenPort: 0, firewallMark: 0, peers: []))
        let zero = String(repeating: "00", count: 32)
        #expect(try parse("private_key=\(zero)\nerrno=0\n\n").publicKey == nil)
    }

    @Test func theZoneOfALinkLocalEndpointIsLeftOut() throws {
        let key = String(repeating: "a0", count: 32)
        let device = try parse("public_key=\(key)\nendpoint=[fe80::1%eth0]:5\nerrno=0\n\n")
        #expect(device.peers.first?.endpoint == (try endpoint("[fe80::1]:5")))
    }

    @Test(arguments: [("errno=-22\n\n", EINVAL), ("errno=22\n\n", EINVAL), ("errno=-2147483648\n\n", .max)])
    func theAnswersErrnoIsThrown(_ answer: String, _ expected: Int32) {
        for operation in [{ try acknowledge(answer) }, { _ = try parse(answer) }] {
            let error = #expect(throws: OperationFailure.self) { try operation() }
            #expect(error?.errno == expected)
        }
    }

    @Test func anAcknowledgement() throws {
        try acknowledge("errno=0\n\n")
    }

    @Test(arguments: [
        "", "\n", "\n\n", "errno=0\n", "errno=0", "errno=\n\n", "errno=x\n\n", "errno=99999999999\n\n",
        "errno=0\nerrno=0\n\n", "errno=0\nlisten_port=1\n\n", "listen_port=1\n\n", "=1\nerrno=0\n\n",
        "listen_port\nerrno=0\n\n", "listen_port=65536\nerrno=0\n\n", "listen_port=-1\nerrno=0\n\n",
        "listen_port=+1\nerrno=0\n\n", "listen_port= 1\nerrno=0\n\n", "fwmark=4294967296\nerrno=0\n\n",
        "private_key=00\nerrno=0\n\n", "private_key=\nerrno=0\n\n", "endpoint=1.2.3.4:5\nerrno=0\n\n",
        "allowed_ip=10.0.0.0/8\nerrno=0\n\n", "rx_bytes=1\nerrno=0\n\n",
        "last_handshake_time_sec=1\nerrno=0\n\n",
        "public_key=zz\nerrno=0\n\n", "\u{0}\u{FF}=\nerrno=\n\n",
    ])
    func malformedAnswersThrowAFormatError(_ answer: String) {
        let error = #expect(throws: OperationFailure.self) { try parse(answer) }
        #expect(error?.errno == 0)
        #expect(error?.detail != nil)
    }

    @Test(arguments: [
        "endpoint=nonsense", "endpoint=[::1]", "endpoint=1.2.3.4:65536", "endpoint=%]", "allowed_ip=10.0.0.0",
        "allowed_ip=10.0.0.0/33", "preshared_key=1", "persistent_keepalive_interval=65536", "tx_bytes=-1",
        "rx_bytes=18446744073709551616", "last_handshake_time_sec=9223372036854775807",
        "last_handshake_time_sec=9223372036", "last_handshake_time_sec=-1",
        "last_handshake_time_nsec=1000000000",
        "last_handshake_time_nsec=-1",
    ])
    func malformedPeersThrowAFormatError(_ line: String) {
        let key = String(repeating: "a0", count: 32)
        // The largest second that still fits needs a nanosecond part that does not, to be too large.
        let second =
            line == "last_handshake_time_sec=9223372036" ? "\nlast_handshake_time_nsec=999999999" : ""
        let error = #expect(throws: OperationFailure.self) {
            try parse("public_key=\(key)\n\(line)\(second)\nerrno=0\n\n")
        }
        #expect(error?.errno == 0)
    }

    @Test func aFormatErrorNamesTheLineAndHidesItsValue() {
        let error = #expect(throws: OperationFailure.self) {
            try parse("listen_port=1\nprivate_key=SECRET\nerrno=0\n\n")
        }
        #expect(error?.detail?.contains("line 2 (private_key)") == true)
        #expect(error.map { "\($0)".contains("SECRET") } == false)
    }

    @Test func everyTruncationThrows() {
        let whole = Array(sample.utf8)
        for end in 0..<whole.count {
            #expect(throws: OperationFailure.self, "cut at \(end)") { try parse(Array(whole[..<end])) }
        }
    }

    @Test func noByteFlipTraps() {
        var generator = Generator(state: 7)
        let whole = Array(sample.utf8)
        var refused = 0
        for _ in 0..<4000 {
            var bytes = whole
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                bytes[Int.random(in: bytes.indices, using: &generator)] = .random(
                    in: 0...255, using: &generator)
            }
            do { _ = try parse(bytes) } catch { refused += 1 }
        }
        // Some hit an unknown key's value or a digit and stay readable; most do not.
        #expect(refused > 1000 && refused < 4000)
    }

    @Test func noSoupOfLinesTraps() {
        var generator = Generator(state: 11)
        let lines = sample.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        for _ in 0..<500 {
            let soup = lines.shuffled(using: &generator).prefix(Int.random(in: 0...20, using: &generator))
            _ = try? parse(soup.joined(separator: "\n") + "\n\n")
            _ = try? acknowledge(soup.joined(separator: "\n") + "\n\n")
        }
    }
}
