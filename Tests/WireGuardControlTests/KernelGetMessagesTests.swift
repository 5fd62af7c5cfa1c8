import NetAddress
import NetlinkWire
import SystemCalls
import Testing
import WireGuardControl
import WireGuardKeys

private func read(_ payloads: [[UInt8]]) throws(OperationFailure) -> WireGuardDevice {
    var reader = KernelDeviceReader(interface: "wg0")
    for payload in payloads {
        let buffer = WipedBytes(capacity: payload.count)
        buffer.append(payload)
        try buffer.withBytes { (raw) throws(OperationFailure) in try reader.take(raw) }
    }
    return reader.result
}

/// The first answer, after its genlmsghdr; derived by hand from linux/wireguard.h.
private let first = hex(
    """
    08 00 01 00  05 00 00 00   # WGDEVICE_A_IFINDEX 5
    08 00 02 00  77 67 31 00   # WGDEVICE_A_IFNAME "wg1"
    24 00 03 00                # WGDEVICE_A_PRIVATE_KEY
      1f1f1f1f1f1f1f1f 1f1f1f1f1f1f1f1f 1f1f1f1f1f1f1f1f 1f1f1f1f1f1f1f1f
    24 00 04 00                # WGDEVICE_A_PUBLIC_KEY
      2e2e2e2e2e2e2e2e 2e2e2e2e2e2e2e2e 2e2e2e2e2e2e2e2e 2e2e2e2e2e2e2e2e
    06 00 06 00  6c ca 00 00   # WGDEVICE_A_LISTEN_PORT 51820
    08 00 07 00  34 12 00 00   # WGDEVICE_A_FWMARK
    f4 00 08 80                # WGDEVICE_A_PEERS, 4 + 240
      f0 00 00 80              # 4 + 36 + 36 + 20 + 8 + 12 + 12 + 8 + 32 + 72
        24 00 01 00  a0a0a0a0a0a0a0a0 a0a0a0a0a0a0a0a0 a0a0a0a0a0a0a0a0 a0a0a0a0a0a0a0a0
        24 00 02 00  0000000000000000 0000000000000000 0000000000000000 0000000000000080  # preshared key
        14 00 06 00            # WGPEER_A_LAST_HANDSHAKE_TIME: seconds, nanoseconds
          00 f1 53 65 00 00 00 00  15 cd 5b 07 00 00 00 00
        06 00 05 00  19 00 00 00   # keepalive 25
        0c 00 08 00  02 01 00 00 00 00 00 00   # WGPEER_A_TX_BYTES 258
        0c 00 07 00  ff ff ff ff ff ff ff ff   # WGPEER_A_RX_BYTES
        08 00 0a 00  01 00 00 00   # WGPEER_A_PROTOCOL_VERSION
        20 00 04 00            # WGPEER_A_ENDPOINT: struct sockaddr_in6
          0a 00 ca 6c 00 00 00 00  2001 0db8 0000 0000 0000 0000 0000 0001  02 00 00 00
        48 00 09 80            # WGPEER_A_ALLOWEDIPS
          1c 00 00 80  06 00 01 00 02 00 00 00  08 00 02 00 0a 42 42 02  05 00 03 00 20 00 00 00
          28 00 00 80  06 00 01 00 0a 00 00 00  14 00 02 00 fd00 0000 0000 0000 0000 0000 0000 0000
                       05 00 03 00 40 00 00 00
    """)

/// The second answer: the rest of the first one's last peer, then another.
private let second = hex(
    """
    08 00 02 00  77 67 31 00
    dc 00 08 80                # 4 + 72 + 144
      48 00 00 80              # 4 + 36 + 4 + 28
        24 00 01 00  a0a0a0a0a0a0a0a0 a0a0a0a0a0a0a0a0 a0a0a0a0a0a0a0a0 a0a0a0a0a0a0a0a0
        20 00 09 80
          1c 00 00 80  06 00 01 00 02 00 00 00  08 00 02 00 0a 00 00 00  05 00 03 00 08 00 00 00
      90 00 00 80              # 4 + 36 + 36 + 20 + 8 + 20 + 20
        24 00 01 00  b0b0b0b0b0b0b0b0 b0b0b0b0b0b0b0b0 b0b0b0b0b0b0b0b0 b0b0b0b0b0b0b0b0
        24 00 02 00  0000000000000000 0000000000000000 0000000000000000 0000000000000000
        14 00 06 00  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00   # never
        08 00 63 00  01 02 03 04   # an attribute of the future
        14 00 04 00  02 00 ca 6c cb 00 71 05 00 00 00 00 00 00 00 00    # 203.0.113.5:51820
        14 00 64 00  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
    """)

@Suite struct KernelGetMessagesTests {
    @Test func severalAnswersMakeOneDevice() throws {
        let device = try read([first, second])
        #expect(device.interface == "wg1")
        #expect(device.publicKey == (try publicKey(0x2E)))
        #expect(device.listenPort == 51820)
        #expect(device.firewallMark == 0x1234)
        #expect(
            device.peers == [
                WireGuardPeer(
                    publicKey: try publicKey(0xA0), hasPresharedKey: true,
                    endpoint: try endpoint("[2001:db8::1]:51820"),
                    allowedIPs: [
                        try prefix("10.66.66.2/32"), try prefix("fd00::/64"), try prefix("10.0.0.0/8"),
                    ],
                    persistentKeepalive: 25, lastHandshake: WallTime(nanoseconds: 1_700_000_000_123_456_789),
                    receivedBytes: .max, sentBytes: 258),
                WireGuardPeer(
                    publicKey: try publicKey(0xB0), hasPresharedKey: false,
                    endpoint: try endpoint("203.0.113.5:51820")),
            ])
    }

    @Test func anInterfaceWithoutKeyAndPeers() throws {
        let device = try read([
            hex("08 00 02 00 77 67 30 00  06 00 06 00 00 00 00 00  08 00 07 00 00 00 00 00  04 00 08 80")
        ])
        #expect(
            device
                == WireGuardDevice(
                    interface: "wg0", publicKey: nil, listenPort: 0, firewallMark: 0, peers: []))
    }

    @Test(arguments: [
        "20 00 04 00  " + String(repeating: "2e", count: 28),  // a public key of 28 bytes
        "05 00 06 00  01 00 00 00",  // a port of one byte
        "0c 00 08 80  08 00 00 80  04 00 01 00",  // a peer whose key is empty
        "08 00 08 80  04 00 00 80",  // a peer without a key
        "0c 00 08 80  08 00 00 80  ff 00 01 00",  // an attribute longer than its nest
    ])
    func malformedAnswersThrow(_ text: String) {
        let error = #expect(throws: OperationFailure.self) { try read([hex(text)]) }
        #expect(error?.errno == 0)
    }

    @Test(arguments: [
        "14 00 04 00  03 00 ca 6c cb 00 71 05 00 00 00 00 00 00 00 00",  // an endpoint of no known family
        "0c 00 04 00  02 00 ca 6c cb 00 71 05",  // a sockaddr_in that ends early
        "14 00 04 00  0a 00 ca 6c 00 00 00 00 00 00 00 00 00 00 00 00",  // a sockaddr_in6 that ends early
        "0c 00 06 00  00 00 00 00 00 00 00 00",  // half a time
        "14 00 06 00  ff ff ff ff ff ff ff 7f  00 00 00 00 00 00 00 00",  // a time past the end of time
        "14 00 06 00  00 00 00 00 00 00 00 00  ff ff ff ff ff ff ff ff",  // -1 ns
        "20 00 09 80  1c 00 00 80  06000100 02000000  08000200 0a000000  05000300 21000000",
        "20 00 09 80  1c 00 00 80  06 00 01 00 0a 00 00 00  08 00 02 00 0a 00 00 00  05 00 03 00 20 00 00 00",
        "10 00 09 80  0c 00 00 80  06 00 01 00 02 00 00 00",  // a family alone
    ])
    func malformedPeersThrow(_ text: String) {
        let key = hex("24 00 01 00" + String(repeating: "a0", count: 32))
        let error = #expect(throws: OperationFailure.self) { try read([nest(8, nest(0, key + hex(text)))]) }
        #expect(error?.errno == 0)
    }

    @Test func everyTruncationThrowsOrReadsLess() throws {
        let whole = try read([first])
        for end in 0..<first.count {
            if let part = try? read([Array(first[..<end])]) { #expect(part != whole, "cut at \(end)") }
        }
    }

    @Test func noByteFlipTraps() {
        var generator = Generator(state: 3)
        var refused = 0
        for _ in 0..<4000 {
            var bytes = first + second
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                bytes[Int.random(in: bytes.indices, using: &generator)] = .random(
                    in: 0...255, using: &generator)
            }
            do { _ = try read([bytes]) } catch { refused += 1 }
        }
        #expect(refused > 200 && refused < 4000)
    }

    private func nest(_ type: UInt8, _ content: [UInt8]) -> [UInt8] {
        [UInt8(content.count + 4), 0, type, 0x80] + content
    }
}
