import Glibc
import NetAddress
import SystemCalls
import Testing
import WireGuardControl
import WireGuardKeys

/// Each kind of WireGuard that this machine has, with the real wg(8) as the witness of what it was told and what it says.
@Suite struct WireGuardTransportTests {
    private func peers(_ count: Int) throws -> [WireGuardPeerChange] {
        try (0..<count).map { number in
            WireGuardPeerChange(
                publicKey: PrivateKey.generate().publicKey,
                presharedKey: number.isMultiple(of: 2) ? try newPresharedKey() : nil,
                endpoint: try [
                    nil, endpoint("203.0.113.\(number % 250 + 1):\(number + 1)"),
                    endpoint("[2001:db8::\(String(number + 1, radix: 16))]:51820"),
                ][number % 3],
                persistentKeepalive: UInt16(number % 100), replaceAllowedIPs: true,
                allowedIPs: [
                    try prefix("10.\(1 + number / 250).\(number % 250).0/24"),
                    try prefix("10.\(101 + number / 250).\(number % 250).7/32"),
                    try prefix("fd00:\(String(number + 1, radix: 16))::/48"),
                ])
        }
    }

    private func expected(_ change: WireGuardPeerChange) -> WireGuardPeer {
        WireGuardPeer(
            publicKey: change.publicKey, hasPresharedKey: change.presharedKey != nil,
            endpoint: change.endpoint,
            allowedIPs: change.allowedIPs.sorted { "\($0)" < "\($1)" },
            persistentKeepalive: change.persistentKeepalive ?? 0)
    }

    private func normalised(_ peers: [WireGuardPeer]) -> [WireGuardPeer] {
        peers.map { peer in
            var peer = peer
            peer.allowedIPs.sort { "\($0)" < "\($1)" }
            return peer
        }.sorted { $0.publicKey.base64 < $1.publicKey.base64 }
    }

    /// Reads by our codec and by wg(8), and expects both to say what `wanted` says.
    private func check(
        _ host: Place, key: PrivateKey, port: UInt16, mark: UInt32, peers wanted: [WireGuardPeerChange]
    ) throws {
        let device = try host.transport.read()
        #expect(device.interface == "wg0")
        #expect(device.publicKey == key.publicKey)
        #expect(device.listenPort == port)
        #expect(device.firewallMark == mark)
        #expect(normalised(device.peers) == normalised(wanted.map(expected)))
        var secrets: [PublicKey: PresharedKey] = [:]
        for peer in wanted { secrets[peer.publicKey] = peer.presharedKey }
        // wg(8) prints a peer's allowed IPs in wireguard-go's order, as our reader keeps it.
        #expect(try wgDump(host) == dumpLines(device, privateKey: key, presharedKeys: secrets))
    }

    @Test(arguments: Kind.here, [1, 2, 500]) func whatIsConfiguredIsReadBack(_ kind: Kind, _ count: Int)
        throws
    {
        try Sandbox.with { sandbox in
            let host = try sandbox.place("a", kind)
            let key = PrivateKey.generate()
            let peers = try peers(count)
            try host.transport.apply(
                WireGuardChange(
                    privateKey: key, listenPort: 51820, firewallMark: 0x1234, replacePeers: true, peers: peers
                ))
            try check(host, key: key, port: 51820, mark: 0x1234, peers: peers)
        }
    }

    /// More than one netlink message holds, both on the way in and on the way out.
    @Test(arguments: Kind.here) func aPeerOfManyAllowedIPsIsReadBack(_ kind: Kind) throws {
        try Sandbox.with { sandbox in
            let host = try sandbox.place("a", kind)
            let key = PrivateKey.generate()
            var peers = try peers(3)
            peers[1].allowedIPs = try (0..<2000).map { try prefix("10.77.\($0 / 250).\($0 % 250)/32") }
            try host.transport.apply(WireGuardChange(privateKey: key, listenPort: 5, peers: peers))
            try check(host, key: key, port: 5, mark: 0, peers: peers)
            // An update-only change of as many parts does not make the peer it does not find.
            var absent = peers[1]
            absent.publicKey = PrivateKey.generate().publicKey
            absent.updateOnly = true
            try host.transport.apply(WireGuardChange(peers: [absent]))
            try check(host, key: key, port: 5, mark: 0, peers: peers)
        }
    }

    @Test(arguments: Kind.here) func aNewInterfaceHasNothing(_ kind: Kind) throws {
        try Sandbox.with { sandbox in
            let host = try sandbox.place("a", kind)
            let device = try host.transport.read()
            #expect(device.peers.isEmpty && device.publicKey == nil && device.firewallMark == 0)
            #expect(try run(host, "wg", "show", "interfaces") == "wg0\n")
        }
    }

    @Test(arguments: Kind.here) func peersAreReplacedUpdatedAndRemoved(_ kind: Kind) throws {
        try Sandbox.with { sandbox in
            let host = try sandbox.place("a", kind)
            let transport = host.transport
            let key = PrivateKey.generate()
            var peers = try peers(4)
            try transport.apply(WireGuardChange(privateKey: key, listenPort: 51820, peers: peers))

            // Update: one setting changes, the others stay; allowed IPs are added unless replaced.
            let news = try prefix("10.9.9.0/24")
            try transport.apply(
                WireGuardChange(peers: [
                    WireGuardPeerChange(
                        publicKey: peers[0].publicKey, updateOnly: true,
                        endpoint: try endpoint("203.0.113.99:9"),
                        allowedIPs: [news]),
                    WireGuardPeerChange(
                        publicKey: peers[1].publicKey, persistentKeepalive: 0, replaceAllowedIPs: true,
                        allowedIPs: [try prefix("10.8.8.0/24")]),
                    // Not there, and not to be made.
                    WireGuardPeerChange(
                        publicKey: PrivateKey.generate().publicKey, updateOnly: true, persistentKeepalive: 5),
                    WireGuardPeerChange(publicKey: peers[3].publicKey, remove: true),
                    // Not there, and removed all the same.
                    WireGuardPeerChange(publicKey: PrivateKey.generate().publicKey, remove: true),
                ]))
            peers[0].endpoint = try endpoint("203.0.113.99:9")
            peers[0].allowedIPs.append(news)
            peers[1].persistentKeepalive = 0
            peers[1].allowedIPs = [try prefix("10.8.8.0/24")]
            peers.removeLast()
            try check(host, key: key, port: 51820, mark: 0, peers: peers)

            // Replace: only the new ones are left; port and key stay.
            let others = try self.peers(2)
            try transport.apply(WireGuardChange(firewallMark: 7, replacePeers: true, peers: others))
            try check(host, key: key, port: 51820, mark: 7, peers: others)

            try transport.apply(WireGuardChange(firewallMark: 0, replacePeers: true))
            try check(host, key: key, port: 51820, mark: 0, peers: [])
        }
    }

    @Test(arguments: Kind.here) func anAllowedIPMovesToThePeerThatGotItLast(_ kind: Kind) throws {
        try Sandbox.with { sandbox in
            let host = try sandbox.place("a", kind)
            let key = PrivateKey.generate()
            var peers = try peers(2)
            try host.transport.apply(WireGuardChange(privateKey: key, listenPort: 5, peers: peers))
            let moved = peers[0].allowedIPs[0]
            try host.transport.apply(
                WireGuardChange(peers: [
                    WireGuardPeerChange(publicKey: peers[1].publicKey, allowedIPs: [moved])
                ]))
            peers[0].allowedIPs.removeFirst()
            peers[1].allowedIPs.append(moved)
            try check(host, key: key, port: 5, mark: 0, peers: peers)
        }
    }

    @Test(arguments: Kind.here) func listenPortZeroTakesAFreePort(_ kind: Kind) throws {
        try Sandbox.with { sandbox in
            let host = try sandbox.place("a", kind)
            let key = PrivateKey.generate()
            try run(host, "ip", "link", "set", "wg0", "up")
            try host.transport.apply(WireGuardChange(privateKey: key, listenPort: 0))
            let port = try host.transport.read().listenPort
            #expect(port != 0)
            #expect(try run(host, "ss", "-Hlun").contains(":\(port) "))
            try check(host, key: key, port: port, mark: 0, peers: [])
        }
    }

    @Test(arguments: Kind.here) func aPortThatIsTakenIsAnError(_ kind: Kind) throws {
        try Sandbox.with { sandbox in
            let host = try sandbox.place("a", kind)
            try run(host, "ip", "link", "set", "wg0", "up")
            let other = try host.network.socket(domain: AF_INET, type: Int32(SOCK_DGRAM.rawValue))
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = UInt16(4711).bigEndian
            let bound = withUnsafePointer(to: address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(other.rawValue, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
            #expect(bound == 0)
            let error = #expect(throws: OperationFailure.self) {
                try host.transport.apply(WireGuardChange(listenPort: 4711))
            }
            #expect(error?.errno == EADDRINUSE)
            #expect(error?.namespace == host.network.name)
            // Only the request failed.
            #expect(try host.transport.read().interface == "wg0")
        }
    }

    /// ```
    ///   a: eth0 192.0.2.1/24 ---- veth ---- eth0 192.0.2.2/24 :b
    ///      wg0  10.66.66.1/24 ~~~ tunnel ~~ wg0  10.66.66.2/24
    /// ```
    @Test(arguments: Kind.here) func twoHostsBothWithWg0ReachEachOther(_ kind: Kind) throws {
        try Sandbox.with { sandbox in
            let hosts = [try sandbox.place("a", kind), try sandbox.place("b", kind)]
            let keys = [PrivateKey.generate(), PrivateKey.generate()]
            let secret = try newPresharedKey()
            try run(
                hosts[0], "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns",
                hosts[1].network.name)
            let start = wallClockNanoseconds()
            for (index, host) in hosts.enumerated() {
                try run(host, "ip", "addr", "add", "192.0.2.\(index + 1)/24", "dev", "eth0")
                try run(host, "ip", "link", "set", "eth0", "up")
                try run(host, "ip", "addr", "add", "10.66.66.\(index + 1)/24", "dev", "wg0")
                try run(host, "ip", "link", "set", "wg0", "up")
                // No keepalive: two handshakes that begin at once cross, both sides answer and neither finishes, and
                // the next attempt comes after 5 s (REKEY_TIMEOUT, WireGuard paper section 6.1).
                let peer = WireGuardPeerChange(
                    publicKey: keys[1 - index].publicKey, presharedKey: secret,
                    endpoint: try endpoint("192.0.2.\(2 - index):51820"),
                    allowedIPs: [try prefix("10.66.66.\(2 - index)/32")])
                try host.transport.apply(
                    WireGuardChange(privateKey: keys[index], listenPort: 51820, peers: [peer]))
            }
            try run(hosts[0], "ping", "-c", "5", "-i", "0.2", "-W", "2", "10.66.66.2")
            for (index, host) in hosts.enumerated() {
                let peer = try #require(try host.transport.read().peer(keys[1 - index].publicKey))
                let handshake = try #require(peer.lastHandshake)
                #expect(handshake.nanoseconds > start && handshake.nanoseconds <= wallClockNanoseconds())
                #expect(peer.receivedBytes > 0 && peer.sentBytes > 0)
                #expect(peer.hasPresharedKey)
                let shown = try run(host, "wg", "show", "wg0", "latest-handshakes")
                #expect(shown.contains("\t\(handshake.nanoseconds / 1_000_000_000)\n"))
            }
        }
    }

    /// Only where the kernel has WireGuard: its own words for what is not there.
    @Test(.enabled(if: Kind.here.contains(.kernel), "this machine's kernel has no WireGuard"))
    func theKernelTellsAMissingInterfaceFromAnother() throws {
        try Sandbox.with { sandbox in
            let host = try sandbox.place("a", .kernel)
            let none = try KernelWireGuard(interface: "none", in: host.network)
            #expect(#expect(throws: OperationFailure.self) { try none.read() }?.errno == ENODEV)
            #expect(
                #expect(throws: OperationFailure.self) { try none.apply(WireGuardChange()) }?.errno == ENODEV)
            let loopback = try KernelWireGuard(interface: "lo", in: host.network)
            #expect(#expect(throws: OperationFailure.self) { try loopback.read() }?.errno == EOPNOTSUPP)
            let found = try WireGuardLocator.inLab(
                interface: "wg0", network: host.network, folder: host.folder)
            #expect(found is KernelWireGuard)
        }
    }
}
