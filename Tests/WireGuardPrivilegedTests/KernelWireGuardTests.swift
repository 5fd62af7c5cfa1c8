import Glibc
import NetAddress
import SystemCalls
import Testing
import WireGuardControl
import WireGuardKeys

/// What only the kernel's WireGuard has; skipped, and counted as that, where the kernel has none.
@Suite(.serialized, .enabled(if: Kind.here.contains(.kernel), "this machine's kernel has no WireGuard"))
struct KernelWireGuardTests {
    @Test func whoMayNotIsToldSo() throws {
        try Sandbox.with { sandbox in
            let host = try sandbox.place("a", .kernel)
            _ = try host.transport.read()
            // Of the effective user alone: the rights come back with it (capabilities(7)).
            try #require(seteuid(65534) == 0)
            let failure = #expect(throws: OperationFailure.self) { try host.transport.read() }
            try #require(seteuid(0) == 0)
            #expect(failure?.errno == EPERM)
            #expect(failure?.namespace == host.network.name)
            _ = try host.transport.read()
        }
    }

    @Test func aNameThatIsTooLongIsRefusedInTheKernelsWords() throws {
        try Sandbox.with { sandbox in
            let host = try sandbox.place("a", .kernel)
            let name = String(repeating: "w", count: 16)
            let long = try KernelWireGuard(interface: name, in: host.network)
            let failure = #expect(throws: OperationFailure.self) { try long.read() }
            #expect(failure?.errno == ERANGE || failure?.errno == EINVAL, "\(String(describing: failure))")
            #expect(failure?.object.contains(name) == true)
            #expect(
                failure?.detail?.isEmpty == false, "the kernel's own words: \(String(describing: failure))")
        }
    }

    /// The UDP socket belongs to the namespace where the interface was made, and stays there when it is moved
    /// (wireguard.com/netns): natlab makes each interface in its host's namespace, so that its packets leave from there.
    @Test func theSocketStaysWhereTheInterfaceWasMade() throws {
        try Sandbox.with { sandbox in
            let host = try sandbox.place("a", .kernel)
            let other = try sandbox.network("b")
            try host.transport.apply(
                WireGuardChange(privateKey: PrivateKey.generate(), listenPort: 51999))
            try run(host, "ip", "link", "set", "wg0", "up")
            let sockets = { (place: NetworkNamespace) throws -> Bool in
                try ProgramCall("ss", ["-Huln"], network: place).run().output.contains(":51999")
            }
            #expect(try sockets(host.network))
            try run(host, "ip", "link", "set", "wg0", "netns", other.name)
            let moved = try KernelWireGuard(interface: "wg0", in: other)
            #expect(try moved.read().listenPort == 51999)
            _ = try ProgramCall("ip", ["link", "set", "wg0", "up"], network: other).run()
            #expect(try sockets(host.network))
            #expect(try !sockets(other))
        }
    }

    /// The kernel marks a dump that a change has interrupted (NLM_F_DUMP_INTR): it is read again, and no reader sees half.
    @Test func readingWhilePeersChangeNeverFailsOrTears() throws {
        try Sandbox.with { sandbox in
            let host = try sandbox.place("a", .kernel)
            let keys = (0..<300).map { _ in PrivateKey.generate().publicKey }
            try host.transport.apply(
                WireGuardChange(
                    privateKey: PrivateKey.generate(), replacePeers: true,
                    peers: try keys.map {
                        WireGuardPeerChange(publicKey: $0, allowedIPs: [try prefix("10.9.0.1/32")])
                    }))
            let extra = PrivateKey.generate().publicKey.base64
            let script = """
                for round in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
                    wg set wg0 peer \(extra); wg set wg0 peer \(extra) remove
                done
                """
            let changing = try ProgramCall("sh", ["-c", script], network: host.network).spawn()
            var reads = 0
            while !changing.hasEnded(by: .now()) || reads == 0 {
                let seen = Set(try host.transport.read().peers.map(\.publicKey))
                #expect(seen.isSuperset(of: keys))
                reads += 1
            }
            #expect(try changing.wait().isSuccess)
        }
    }
}
