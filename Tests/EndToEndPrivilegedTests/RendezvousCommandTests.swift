import Glibc
import SystemCalls
import TestSupport
import Testing

/// `natlab rendezvous serve` and `join` as their users run them, each alone on what looks like a machine of its own.
@Suite(.serialized) struct RendezvousCommandTests {
    private func withSite(_ body: (TwoHomes) throws -> Void) throws {
        try withCleanup { cleanup in try body(try TwoHomes(cleanup)) }
    }

    /// No private key, in whichever notation, in anything that the programs show.
    private func expectSecrecy(
        _ keys: [KeyPair], _ programs: [Background], sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        for program in programs {
            let shown = program.output + program.error + program.visible
            #expect(program.visible.contains("rendezvous"), "it is there to be looked at")
            for key in keys {
                #expect(!shown.contains(key.privateKey), sourceLocation: sourceLocation)
                #expect(!shown.contains(try hex(key.privateKey)), sourceLocation: sourceLocation)
            }
        }
    }

    // MARK: It works

    @Test func `two hosts behind two NATs join natlab's server and get a tunnel`() throws {
        try withSite { site in
            let serverKey = try site.keyPair(), keyA = try site.keyPair(), keyB = try site.keyPair()
            let server = try site.serve(serverKey, allow: [keyA.publicKey, keyB.publicKey])
            #expect(try server.waits(for: "serving 2 keys\n"))
            try site.tunnel(site.a, keyA, at: "10.66.66.2", peer: keyB, at: "10.66.66.3")
            try site.tunnel(site.b, keyB, at: "10.66.66.3", peer: keyA, at: "10.66.66.2")
            let joinA = try site.join(site.a, serverKey: serverKey.publicKey)
            #expect(try joinA.waits(for: "unknown-to-server  \(keyB.publicKey)"), "\(joinA.output)")
            let joinB = try site.join(site.b, serverKey: serverKey.publicKey)
            #expect(
                try joinA.waits(for: "  connected  \(keyB.publicKey)  203.0.113.21:51820"), "\(joinA.output)")
            #expect(
                try joinB.waits(for: "  connected  \(keyA.publicKey)  203.0.113.20:51820"), "\(joinB.output)")
            #expect(try pings(from: site.a.name, to: "10.66.66.3"))
            #expect(try pings(from: site.b.name, to: "10.66.66.2"))
            #expect(try site.endpoints(site.a) == "\(keyB.publicKey)\t203.0.113.21:51820\n")
            #expect(try server.waits(for: "\(keyA.publicKey) registered from 203.0.113.20:51820\n"))
            #expect(try server.waits(for: "\(keyB.publicKey) registered from 203.0.113.21:51820\n"))
            try expectSecrecy([serverKey, keyA, keyB], [server, joinA, joinB])
            #expect(try joinA.stop(SIGINT) == .exited(0))
            #expect(joinA.error.contains("ended: 1 of 1 peer connected\n"))
            #expect(try joinB.stop(SIGTERM) == .exited(0))
            #expect(try server.stop(SIGTERM) == .exited(0))
            #expect(server.error.contains("ended: 2 handshakes"))
            #expect(server.error.contains(" 0 answers not sent\n"))
            // The tunnel needs neither of them any more.
            #expect(try pings(from: site.a.name, to: "10.66.66.3"))
        }
    }

    /// The one of them asks the server's second address, and listens to no other.
    @Test func `clients of natpunch-go's kind find each other at natlab's server`() throws {
        try withSite { site in
            let serverKey = try site.keyPair(), keyA = try site.keyPair(), keyB = try site.keyPair()
            let stranger = try site.keyPair()
            let server = try site.serve(serverKey)
            let own = try hex(serverKey.publicKey)
            let a = try site.witness(
                in: site.a, keyA, "client", "203.0.113.10:1234", own, "51820", "60", "plain",
                try hex(keyB.publicKey), try hex(stranger.publicKey))
            let b = try site.witness(
                in: site.b, keyB, "client", "203.0.113.11:1234", own, "51820", "60", "plain",
                try hex(keyA.publicKey))
            #expect(try a.waits(for: "\"endpoint\": \"203.0.113.21:51820\""), "\(a.output)\(a.error)")
            #expect(try b.waits(for: "\"endpoint\": \"203.0.113.20:51820\""), "\(b.output)\(b.error)")
            let unknown =
                "{\"event\": \"answer\", \"target\": \"\(try hex(stranger.publicKey))\", \"endpoint\": null}"
            #expect(try a.waits(for: unknown), "\(a.output)")
            for word in ["silent", "timeout", "surprise"] {
                #expect(!a.output.contains("\"\(word)\"") && !b.output.contains("\"\(word)\""))
            }
            try expectSecrecy([serverKey], [server])
            #expect(try server.stop(SIGINT) == .exited(0))
        }
    }

    @Test func `two hosts behind two NATs join a server of natpunch-go's kind and get a tunnel`() throws {
        try withSite { site in
            let serverKey = try site.keyPair(), keyA = try site.keyPair(), keyB = try site.keyPair()
            let server = try site.witness(in: site.hub, serverKey, "server", "1234")
            #expect(try server.waits(for: "\"serving\""), "\(server.error)")
            try site.tunnel(site.a, keyA, at: "10.66.66.2", peer: keyB, at: "10.66.66.3")
            try site.tunnel(site.b, keyB, at: "10.66.66.3", peer: keyA, at: "10.66.66.2")
            let joinA = try site.join(site.a, serverKey: serverKey.publicKey)
            let joinB = try site.join(site.b, serverKey: serverKey.publicKey)
            #expect(try joinA.waits(for: "  connected  \(keyB.publicKey)"), "\(joinA.output)\(server.output)")
            #expect(try joinB.waits(for: "  connected  \(keyA.publicKey)"), "\(joinB.output)")
            #expect(try pings(from: site.a.name, to: "10.66.66.3"))
            #expect(try site.endpoints(site.b) == "\(keyA.publicKey)\t203.0.113.20:51820\n")
            #expect(server.output.contains("\"source\": \"203.0.113.20:51820\""))
            try expectSecrecy([keyA, keyB], [joinA, joinB])
            #expect(try joinA.stop(SIGTERM) == .exited(0))
            #expect(try joinB.stop(SIGINT) == .exited(0))
        }
    }

    @Test func `the server serves only the keys it is given, and says so when it is given none`() throws {
        try withSite { site in
            let serverKey = try site.keyPair(), keyA = try site.keyPair(), keyB = try site.keyPair()
            let server = try site.serve(serverKey, allow: [keyA.publicKey])
            #expect(try server.waits(for: "serving 1 key\n"))
            #expect(!server.error.contains("ANY"))
            let own = try hex(serverKey.publicKey)
            let wanted = try hex(keyA.publicKey)
            let refused = try site.witness(
                in: site.b, keyB, "client", "203.0.113.10:1234", own, "51820", "60", "plain", wanted)
            let served = try site.witness(
                in: site.a, keyA, "client", "203.0.113.10:1234", own, "51820", "60", "plain", wanted)
            #expect(try served.waits(for: "\"endpoint\": \"203.0.113.20:51820\""), "\(served.output)")
            #expect(try refused.waits(for: "\"silent\""))
            #expect(!refused.output.contains("\"session\""))
            #expect(try server.stop(SIGINT) == .exited(0))

            let open = try site.serve(serverKey)
            #expect(try open.waits(for: "serving ANY key"))
            #expect(try refused.waits(for: "\"endpoint\": \"203.0.113.20:51820\""), "\(refused.output)")
            #expect(try open.stop(SIGTERM) == .exited(0))
        }
    }

    // MARK: What goes wrong, in words

    @Test func `a port that is taken is told with the mend, and the first server goes on`() throws {
        try withSite { site in
            let key = try site.keyPair()
            let first = try site.serve(key)
            let second = try site.run(
                in: site.hub, "rendezvous", "serve", "--key-file", key.file, "--port", "1234")
            #expect(second.status == .exited(3))
            #expect(second.error.contains("UDP port 1234: Address already in use"))
            #expect(second.error.contains("another program listens there: stop it, or choose another port"))
            #expect(second.output.isEmpty, "nothing is served")
            #expect(!second.error.contains(key.privateKey))
            #expect(try first.stop(SIGTERM) == .exited(0))
        }
    }

    @Test func `a key file that holds no key is a wrong command line, and is not shown`() throws {
        try withSite { site in
            let key = try site.keyPair()
            let half = String(key.privateKey.dropLast(2))
            for (number, text) in ["", "\n", half, key.privateKey + key.privateKey, "not a key\n"]
                .enumerated()
            {
                let file = "\(site.folder)/bad-\(number)"
                try Files.writeAtomically(file, Array(text.utf8), mode: 0o600)
                let output = try site.run(
                    in: site.hub, "rendezvous", "serve", "--key-file", file, "--port", "1234")
                #expect(output.status == .exited(2), "\(text)")
                #expect(output.error.contains("\(file): the file is not one line of 44 base64 characters"))
                #expect(output.error.contains("wg genkey"), "the mend")
                #expect(!output.error.contains(half) && output.output.isEmpty)
            }
            for (path, words) in [
                ("\(site.folder)/absent", "No such file or directory"),
                (site.folder, "it is not a regular file"),
            ] {
                let output = try site.run(
                    in: site.hub, "rendezvous", "serve", "--key-file", path, "--port", "1234")
                #expect(output.status == .exited(2))
                #expect(output.error.contains("read private key \(path): \(words)"), "\(output.error)")
            }
        }
    }

    @Test func `a key that others can read is used with a warning`() throws {
        try withSite { site in
            let key = try site.keyPair()
            #expect(chmod(key.file, 0o644) == 0)
            let server = try site.serve(key)
            #expect(
                server.error.contains("warning: \(key.file) can be used by others than its owner (mode 0644)")
            )
        }
    }

    @Test func `wrong arguments are told by name`() throws {
        try withSite { site in
            let key = try site.keyPair()
            let file = ["--key-file", key.file]
            for (arguments, words) in [
                (
                    ["serve"] + file + ["--port", "1234", "--allow", "x"],
                    "--allow 'x' is no WireGuard public key"
                ),
                (["serve"] + file + ["--port", "70000"], "'70000' is invalid for '--port"),
                (["serve"] + file, "Missing expected argument '--port"),
                (["serve", "--port", "1234"], "Missing expected argument '--key-file"),
                (
                    ["join", "--server", "example.org", "--server-key", key.publicKey, "--interface", "wg0"],
                    "--server takes HOST:PORT, not 'example.org'"
                ),
                (
                    ["join", "--server", "example.org:1", "--server-key", "x", "--interface", "wg0"],
                    "--server-key 'x' is no WireGuard public key"
                ),
            ] {
                let output = try ProgramCall(Natlab.binary, ["rendezvous"] + arguments, network: site.hub)
                    .run()
                #expect(output.status == .exited(2), "\(arguments)")
                #expect(output.error.contains(words), "\(output.error)")
            }
        }
    }

    @Test func `an interface that is missing, or has no key, is told with the mend`() throws {
        try withSite { site in
            let key = try site.keyPair()
            // eth0 is there, but is no WireGuard interface.
            for interface in ["wg7", "eth0"] {
                let output = try ProgramCall(
                    Natlab.binary, TwoHomes.joinArguments(key.publicKey, "203.0.113.10:1234", interface),
                    network: site.a
                ).run()
                #expect(output.status == .exited(3))
                #expect(output.error.contains("find WireGuard interface \(interface): No such device"))
                #expect(output.error.contains("wg-quick up \(interface)"), "\(output.error)")
            }
            try site.bareTunnel(site.a)
            let output = try site.inside(site.a, Natlab.binary, TwoHomes.joinArguments(key.publicKey)).run()
            #expect(output.status == .exited(3))
            #expect(output.error.contains("wg0: the interface has no private key"))
            #expect(output.error.contains("wg set wg0 private-key FILE"))
        }
    }

    @Test func `a server with another key is told of in words, and waited for`() throws {
        try withSite { site in
            let serverKey = try site.keyPair(), keyA = try site.keyPair(), keyB = try site.keyPair()
            let server = try site.serve(serverKey)
            try site.tunnel(site.a, keyA, at: "10.66.66.2", peer: keyB, at: "10.66.66.3")
            let join = try site.join(site.a, serverKey: keyB.publicKey)
            #expect(try join.waits(for: "server-silent  203.0.113.10:1234"), "\(join.output)")
            #expect(join.output.contains("203.0.113.10:1234 does not answer: it is down"))
            #expect(join.output.contains("has another key"))
            #expect(!join.output.contains("registered"))
            #expect(isRunning(join.pid) && isRunning(server.pid))
            try expectSecrecy([serverKey, keyA], [join, server])
            #expect(try join.stop(SIGTERM) == .exited(0))
            #expect(join.error.contains("ended: 0 of 1 peer connected\n"))
            #expect(try server.stop(SIGINT) == .exited(0))
            #expect(server.error.contains("ended: 0 handshakes"))
            // All zeroes: 32 bytes, but a point that no handshake can be made with.
            let zero = try site.join(site.a, serverKey: String(repeating: "A", count: 43) + "=")
            #expect(try zero.waits(for: "the server's key is no Curve25519 key"), "\(zero.output)")
            #expect(try zero.stop(SIGINT) == .exited(0))
        }
    }
}
