import Glibc
import NetAddress
import NetlinkWire
import SystemCalls
import Testing
import WireGuardControl
import WireGuardKeys

/// A message's bytes after its nlmsghdr, which stays zero until a socket stamps it.
private func payloads(
    _ change: WireGuardChange, interface: String = "wg0", limit: Int = KernelSetMessages.limit
) throws -> [[UInt8]] {
    try KernelSetMessages.messages(for: change, interface: interface, limit: limit).map { message in
        message.withBytes { bytes in
            #expect(bytes.prefix(16).allSatisfy { $0 == 0 })
            return Array(bytes.dropFirst(16))
        }
    }
}

/// The hex is derived by hand from linux/wireguard.h and linux/netlink.h, for a little-endian machine.
@Suite struct KernelSetMessagesTests {
    @Test func aChangeOfEverything() throws {
        let change = WireGuardChange(
            privateKey: privateKey(0x1F), listenPort: 51820, firewallMark: 0x1234, replacePeers: true,
            peers: [
                WireGuardPeerChange(
                    publicKey: try publicKey(0xA0), presharedKey: presharedKey(0xB0),
                    endpoint: try endpoint("203.0.113.5:51820"), persistentKeepalive: 25,
                    replaceAllowedIPs: true,
                    allowedIPs: [try prefix("10.66.66.2/32"), try prefix("fd00::/64")])
            ])
        let expected = hex(
            """
            01 01 00 00              # genlmsghdr: WG_CMD_SET_DEVICE, WG_GENL_VERSION
            08 00 02 00  77 67 30 00 # WGDEVICE_A_IFNAME "wg0", NUL
            24 00 03 00              # WGDEVICE_A_PRIVATE_KEY, 4 + 32
              1f1f1f1f1f1f1f1f 1f1f1f1f1f1f1f1f 1f1f1f1f1f1f1f1f 1f1f1f1f1f1f1f1f
            08 00 05 00  01 00 00 00 # WGDEVICE_A_FLAGS: WGDEVICE_F_REPLACE_PEERS
            06 00 06 00  6c ca 00 00 # WGDEVICE_A_LISTEN_PORT 51820, padded
            08 00 07 00  34 12 00 00 # WGDEVICE_A_FWMARK
            bc 00 08 80              # WGDEVICE_A_PEERS | NLA_F_NESTED, 4 + 184
              b8 00 00 80            # peer 0 | NLA_F_NESTED, 4 + 36 + 36 + 8 + 20 + 8 + 72
                24 00 01 00          # WGPEER_A_PUBLIC_KEY
                  a0a0a0a0a0a0a0a0 a0a0a0a0a0a0a0a0 a0a0a0a0a0a0a0a0 a0a0a0a0a0a0a0a0
                24 00 02 00          # WGPEER_A_PRESHARED_KEY
                  b0b0b0b0b0b0b0b0 b0b0b0b0b0b0b0b0 b0b0b0b0b0b0b0b0 b0b0b0b0b0b0b0b0
                08 00 03 00  02 00 00 00  # WGPEER_A_FLAGS: WGPEER_F_REPLACE_ALLOWEDIPS
                14 00 04 00          # WGPEER_A_ENDPOINT: struct sockaddr_in, 16 bytes
                  02 00              #   AF_INET
                  ca 6c              #   port, network order
                  cb 00 71 05        #   203.0.113.5
                  00 00 00 00 00 00 00 00
                06 00 05 00  19 00 00 00  # WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL 25, padded
                48 00 09 80          # WGPEER_A_ALLOWEDIPS | NLA_F_NESTED, 4 + 28 + 40
                  1c 00 00 80        # 0 | NLA_F_NESTED
                    06 00 01 00  02 00 00 00  # WGALLOWEDIP_A_FAMILY: AF_INET, padded
                    08 00 02 00  0a 42 42 02  # WGALLOWEDIP_A_IPADDR
                    05 00 03 00  20 00 00 00  # WGALLOWEDIP_A_CIDR_MASK 32, padded
                  28 00 00 80        # 0 | NLA_F_NESTED
                    06 00 01 00  0a 00 00 00  # AF_INET6
                    14 00 02 00  fd00 0000 0000 0000 0000 0000 0000 0000
                    05 00 03 00  40 00 00 00  # 64
            """)
        #expect(expected.count == 276 - 16)
        #expect(try payloads(change) == [expected])
    }

    @Test func anIPv6EndpointIsASockaddrIn6() throws {
        let change = WireGuardChange(peers: [
            WireGuardPeerChange(publicKey: try publicKey(0xA0), endpoint: try endpoint("[2001:db8::1]:51820"))
        ])
        let expected = hex(
            """
            01 01 00 00
            08 00 02 00  77 67 30 00
            4c 00 08 80              # 4 + 72
              48 00 00 80            # 4 + 36 + 32
                24 00 01 00  a0a0a0a0a0a0a0a0 a0a0a0a0a0a0a0a0 a0a0a0a0a0a0a0a0 a0a0a0a0a0a0a0a0
                20 00 04 00          # struct sockaddr_in6, 28 bytes
                  0a 00              #   AF_INET6
                  ca 6c              #   port, network order
                  00 00 00 00        #   flow label
                  2001 0db8 0000 0000 0000 0000 0000 0001
                  00 00 00 00        #   scope
            """)
        #expect(try payloads(change) == [expected])
    }

    @Test func theFlagsOfAPeer() throws {
        let change = WireGuardChange(peers: [
            // All that a removed peer says but its removal is left out.
            WireGuardPeerChange(
                publicKey: try publicKey(0xA0), remove: true, presharedKey: presharedKey(1),
                endpoint: try endpoint("203.0.113.5:7"), persistentKeepalive: 3, replaceAllowedIPs: true,
                allowedIPs: [try prefix("10.0.0.0/8")]),
            WireGuardPeerChange(
                publicKey: try publicKey(0xB0), updateOnly: true, persistentKeepalive: 0,
                replaceAllowedIPs: true),
            WireGuardPeerChange(publicKey: try publicKey(0xC0)),
        ])
        let expected = hex(
            """
            01 01 00 00
            08 00 02 00  77 67 30 00
            94 00 08 80              # 4 + 48 + 56 + 40
              30 00 00 80
                24 00 01 00  a0a0a0a0a0a0a0a0 a0a0a0a0a0a0a0a0 a0a0a0a0a0a0a0a0 a0a0a0a0a0a0a0a0
                08 00 03 00  01 00 00 00  # WGPEER_F_REMOVE_ME
              38 00 00 80
                24 00 01 00  b0b0b0b0b0b0b0b0 b0b0b0b0b0b0b0b0 b0b0b0b0b0b0b0b0 b0b0b0b0b0b0b0b0
                08 00 03 00  06 00 00 00  # WGPEER_F_UPDATE_ONLY | WGPEER_F_REPLACE_ALLOWEDIPS
                06 00 05 00  00 00 00 00  # keepalive off
              28 00 00 80
                24 00 01 00  c0c0c0c0c0c0c0c0 c0c0c0c0c0c0c0c0 c0c0c0c0c0c0c0c0 c0c0c0c0c0c0c0c0
            """)
        #expect(try payloads(change) == [expected])
    }

    @Test func zeroesAreSaidAndSilenceIsSilent() throws {
        #expect(
            try payloads(WireGuardChange(listenPort: 0, firewallMark: 0)) == [
                hex(
                    """
                    01 01 00 00  08 00 02 00  77 67 30 00
                    06 00 06 00  00 00 00 00
                    08 00 07 00  00 00 00 00
                    """)
            ])
        #expect(
            try payloads(WireGuardChange(), interface: "abcdefghijklmno") == [
                hex(
                    """
                    01 01 00 00
                    14 00 02 00  61 62 63 64 65 66 67 68 69 6a 6b 6c 6d 6e 6f 00
                    """)
            ])
        #expect(
            try payloads(WireGuardChange(replacePeers: true)) == [
                hex("01 01 00 00  08 00 02 00  77 67 30 00  08 00 05 00  01 00 00 00")
            ])
    }

    @Test func theGetRequest() throws {
        let message = try KernelGetMessages.request(interface: "wg0")
        #expect(
            message.withBytes { Array($0) }
                == [UInt8](repeating: 0, count: 16) + hex("00 01 00 00  08 00 02 00  77 67 30 00"))
    }

    @Test(arguments: ["", ".", "..", "abcdefghijklmnop", "a b", "a/b", "a\u{0}", "a:b", "\n"])
    func whatIsNoInterfacesNameIsRefused(_ name: String) {
        let error = #expect(throws: OperationFailure.self) {
            try payloads(WireGuardChange(), interface: name)
        }
        #expect(error?.errno == EINVAL)
        #expect(throws: OperationFailure.self) { try KernelGetMessages.request(interface: name) }
    }

    @Test func printingAMessageShowsNoKey() throws {
        let change = WireGuardChange(privateKey: privateKey(0x77))
        var dumped = ""
        dump(try KernelSetMessages.messages(for: change, interface: "wg0"), to: &dumped)
        #expect(!dumped.contains("77") && !dumped.contains("119"), "\(dumped)")
    }
}
