import FoundationEssentials
import NetAddress
import Testing
import TopologyModel

/// What a right file means.
struct TopologyTests {
    private func topology(_ text: String, file: String = "lab.toml") throws -> Topology {
        let result = TopologyFile.parse(bytes: Array(text.utf8), fileName: file)
        let errors = DiagnosticRenderer(source: Array(text.utf8)).text(result.diagnostics)
        return try #require(result.topology, "\(errors)")
    }

    @Test func defaults() throws {
        let lab = try topology(
            """
            [router.home]
            uplink = "internet"
            lan = "192.168.1.0/24"
            [host.a]
            on = "home"
            [host.hub]
            on = "internet"
            [wireguard.wg0]
            prefix = "10.66.66.0/24"
            members = ["hub", "a"]
            [rendezvous]
            host = "hub"
            """, file: "some/where/my-lab.toml")
        #expect(lab.name == "my-lab")
        #expect(lab.segments.map(\.name) == ["internet"])
        #expect(lab.segments.map(\.prefix) == [IPPrefix("203.0.113.0/24")])
        #expect(lab.segments.map(\.position) == [nil])
        #expect(lab.routers.map(\.nat) == [.masquerade])
        #expect(lab.routers.map(\.wan) == [[]])
        let network = try #require(lab.networks.first)
        #expect(network.peers == .mesh)
        #expect(network.backend == .auto)
        #expect(network.members.map(\.listenPort) == [51820, 51820])
        #expect(network.members.map(\.mtu) == [1420, 1420])
        #expect(network.members.map(\.table) == [.auto, .auto])
        #expect(network.members.map(\.keepalive) == [nil, nil])
        #expect(lab.rendezvous?.port == 1234)
        #expect(lab.rendezvous?.endpoint == nil)
    }

    /// A preset in a table is the preset, also the one that is no NAT.
    @Test func presetsInTables() throws {
        for preset in NATPreset.all {
            let lab = try topology(
                """
                [router.r]
                uplink = "internet"
                lan = "192.168.1.0/24"
                nat = { preset = "\(preset.name)" }
                """)
            #expect(lab.routers.map(\.nat) == [preset.nat])
        }
    }

    @Test func everythingGiven() throws {
        let lab = try topology(
            """
            name = "all"
            [segment.isp]
            prefix = "198.51.100.0/24"
            [router.office]
            uplink = "isp"
            lan = "10.1.0.0/16"
            nat = "none"
            wan = ["198.51.100.20"]
            [host.a]
            on = "office"
            address = "10.1.2.3"
            [host.a.wireguard.wg0]
            listen-port = 0
            mtu = 1280
            private-key-file = "keys/a"
            table = 1000
            [host.a.wireguard.wg0.peer.b]
            allowed-ips = ["10.66.66.0/24", "172.16.0.1"]
            keepalive = "off"
            preshared-key-file = "keys/psk"
            endpoint = "198.51.100.9:5000"
            [host.b]
            on = "isp"
            [host.b.wireguard.wg0.peer.a]
            preshared-key-file = "keys/psk"
            [wireguard.wg0]
            prefix = "10.66.66.0/24"
            members = ["b", "a"]
            peers = [["a", "b"]]
            listen-port = 4000
            backend = "userspace"
            mtu = 1400
            keepalive = "10s"
            [rendezvous]
            host = "b"
            port = 99
            endpoint = "10.66.66.1:99"
            [[expect]]
            between = ["b", "a"]
            path = "none"
            """)
        // No `internet`: nothing is on it, and the file has a segment of its own.
        #expect(lab.segments.map(\.name) == ["isp"])
        #expect(lab.routers.first?.nat == Topology.NAT.none)
        #expect(lab.routers.first?.wan.map(\.description) == ["198.51.100.20"])
        #expect(lab.hosts.first?.address == IPAddress("10.1.2.3"))
        let network = try #require(lab.networks.first)
        #expect(network.backend == .userspace)
        #expect(network.pairs.map { [$0.first, $0.second] } == [[0, 1]])
        let member = network.members[1]
        #expect(member.host == "a")
        #expect(member.listenPort == 0)
        #expect(member.mtu == 1280)
        #expect(member.privateKeyFile == "keys/a")
        #expect(member.table == .number(1000))
        #expect(member.keepalive == 10)
        let peer = try #require(member.peers["b"])
        #expect(peer.allowedIPs == [IPPrefix("10.66.66.0/24"), IPPrefix("172.16.0.1/32")].compactMap(\.self))
        #expect(peer.keepalive == 0)
        #expect(peer.presharedKeyFile == "keys/psk")
        #expect(peer.endpoint == Endpoint("198.51.100.9:5000"))
        #expect(network.members[0].listenPort == 4000)
        #expect(network.members[0].mtu == 1400)
        #expect(lab.rendezvous?.endpoint == Endpoint("10.66.66.1:99"))
        #expect(lab.expectations.map(\.path) == [.none])
    }

    @Test func publicKeysAreWhatWireGuardTakes() throws {
        func client(_ key: String) -> Topology.ClientSettings? {
            let text = """
                name = "x"
                [host.a]
                on = "internet"
                [host.a.rendezvous]
                server-key = "\(key)"
                [wireguard.wg0]
                prefix = "10.66.66.0/24"
                members = ["a"]
                [rendezvous]
                host = "a"
                """
            let result = TopologyFile.parse(bytes: Array(text.utf8), fileName: "lab.toml")
            #expect(
                result.topology != nil
                    || result.diagnostics.map(\.message) == ["\"\(key)\" is not a WireGuard public key"])
            return result.topology?.hosts.first?.client
        }
        let digits = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh"
        for good in ["\(digits)8=", "\(digits)A=", "+/z/\(digits.dropFirst(4))w="] {
            #expect(client(good)?.serverKey == good)
            #expect(client(good)?.endpoint == nil)
        }
        // Too short, too long, of the URL's alphabet, with bits behind the 256th, without padding.
        for bad in [
            "", "\(digits)=", "\(digits)88=", "-_z/\(digits.dropFirst(4))w=", "\(digits)9=", "\(digits)8A",
            "\(digits)é=",
        ] {
            #expect(client(bad) == nil)
        }
    }

    @Test func twoHomesOnOnePrefixAreFine() throws {
        let lab = try topology(
            """
            [router.home-a]
            uplink = "internet"
            lan = "192.168.1.0/24"
            [router.home-b]
            uplink = "internet"
            lan = "192.168.1.0/24"
            """)
        #expect(lab.routers.count == 2)
    }

    @Test func aFileNameThatIsNoLabName() throws {
        let text = "[host.a]\non = \"internet\"\n"
        let result = TopologyFile.parse(bytes: Array(text.utf8), fileName: "/tmp/My Lab.toml")
        #expect(result.topology == nil)
        #expect(result.diagnostics.map(\.hint) == ["add: name = \"my-lab\""])
        #expect(try topology("name = \"x\"\n" + text, file: "/tmp/My Lab.toml").name == "x")
    }

    @Test func hubPairsAreInMemberOrder() throws {
        let lab = try topology(
            """
            [host.a]
            on = "internet"
            [host.b]
            on = "internet"
            [host.c]
            on = "internet"
            [wireguard.wg0]
            prefix = "10.66.66.0/24"
            members = ["a", "b", "c"]
            peers = "hub:b"
            """)
        #expect(lab.networks.first?.pairs.map { [$0.first, $0.second] } == [[0, 1], [1, 2]])
    }

    @Test func diagnosticsSurviveJSON() throws {
        let text = "[host.a]\non = \"internet\"\n[host.a]\n[router.r]\nuplnk = \"x\"\nlan = \"10.0.0.0/24\"\n"
        let diagnostics = TopologyFile.parse(bytes: Array(text.utf8), fileName: "lab.toml").diagnostics
        #expect(diagnostics.count == 2)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        let data = try encoder.encode(diagnostics)
        #expect(try JSONDecoder().decode([Diagnostic].self, from: data) == diagnostics)
        #expect(
            String(decoding: data, as: UTF8.self).hasSuffix(
                #"{"column":1,"end_column":6,"end_line":5,"file":"lab.toml","hint":"did you mean `uplink`?","line":5,"#
                    + #""message":"unknown key `uplnk` in [router.r]","notes":[],"severity":"error"}]"#))
    }

    @Test func theErrorAndItsPlaceExactly() {
        let text = "[router.home-a]\n\tuplnk = \"internet\"\nlan = \"192.168.1.0/24\"\n"
        let bytes = Array(text.utf8)
        let diagnostics = TopologyFile.parse(bytes: bytes, fileName: "my/lab.toml").diagnostics
        #expect(
            DiagnosticRenderer(source: bytes).text(diagnostics) == """
                my/lab.toml:2:2: error: unknown key `uplnk` in [router.home-a]
                        uplnk = "internet"
                        ^^^^^
                    hint: did you mean `uplink`?

                """)
    }

    @Test func nothingThatMovesTheCursorIsPrinted() {
        let bytes = Array("[host.a]\non = \"\\u001b[2J\\u202e\"\n".utf8)
        let diagnostics = TopologyFile.parse(bytes: bytes, fileName: "a\u{1B}[1m.toml").diagnostics
        let text = DiagnosticRenderer(source: bytes).text(diagnostics)
        #expect(!diagnostics.isEmpty)
        #expect(!text.unicodeScalars.contains { $0 == "\u{1B}" || $0 == "\u{202E}" })
    }
}
