import NetAddress
import Testing
import WireGuardKeys

@testable import RendezvousProtocol

/// Every value of the recorded transcripts, from both sides.
struct VectorTests {
    static let now = Moment(monotonic: 1_000_000_000, wall: 1_800_000_000_000_000_000)

    @Test func `the recorded protocol is the one spoken here`() {
        #expect(Vectors.all.prologue == WireFormat.prologue)
        #expect(Vectors.all.protocol == WireFormat.noiseName)
        #expect(Vectors.all.vectors.count == 4)
    }

    @Test(arguments: 0..<4) func `public keys follow from private ones`(number: Int) throws {
        let vector = Vectors.all.vectors[number]
        #expect(try vector.clientPrivate.privateKey.publicKey == vector.clientPublic.publicKey)
        #expect(try vector.serverPrivate.privateKey.publicKey == vector.serverPublic.publicKey)
    }

    @Test(arguments: 0..<4) func `the client writes the init, reads the response and the replies`(number: Int)
        throws
    {
        let vector = Vectors.all.vectors[number]
        let ownKey = RawKey(try vector.clientPublic.publicKey)
        let initiator = try NoiseInitiator(
            privateKey: try vector.clientPrivate.privateKey, publicKey: ownKey,
            server: RawKey(try vector.serverPublic.publicKey), blake: Blake2s())
        let timestamp = bigEndian(try #require(UInt64(vector.timestampNs)))
        let message = try #require(
            initiator.writeInit(
                proposedIndex: vector.proposedIndex, payload: timestamp,
                random: Script(vector.clientEphemeralPrivate.bytes).fill))
        #expect(message == vector.`init`.bytes)
        #expect(message.count == WireFormat.initSize)

        // A forged response before the right one changes nothing.
        var forged = vector.response.bytes
        forged[40] ^= 1
        #expect(forged.withUnsafeBytes { ClientSession(response: $0, to: initiator, ownKey: ownKey) } == nil)

        let session = try #require(
            vector.response.bytes.withUnsafeBytes {
                ClientSession(response: $0, to: initiator, ownKey: ownKey)
            })
        #expect(initiator.transcriptHash == vector.handshakeHash.bytes)
        #expect(session.index == vector.assignedIndex)
        #expect(!session.takesPushes)
        #expect(session.observed == nil)

        let target = RawKey(try vector.targetPublic.publicKey)
        for lookup in vector.lookups {
            #expect(session.lookup(target) == lookup.request.bytes)
            let answer = lookup.reply.bytes.withUnsafeBytes { session.readReply($0) }
            if lookup.endpoint.isEmpty {
                #expect(answer == .notFound)
            } else {
                let endpoint = try #require(Endpoint(lookup.endpoint))
                #expect(answer == WireAddress(endpoint).map { .found($0) })
            }
            // The same reply again is none.
            #expect(lookup.reply.bytes.withUnsafeBytes { session.readReply($0) } == nil)
        }
    }

    @Test(arguments: 0..<4) func `the server answers the init and the lookups to the byte`(number: Int) throws
    {
        let vector = Vectors.all.vectors[number]
        let server = try RendezvousServer(
            privateKey: try vector.serverPrivate.privateKey,
            random: Script(bigEndian(vector.assignedIndex), vector.serverEphemeralPrivate.bytes).fill)
        let client = WireAddress(ip: 0xC633_6401, port: 51820)
        let output = DatagramBatch()
        vector.`init`.bytes.withUnsafeBytes { server.receive($0, from: client, now: Self.now, into: output) }
        try #require(output.count == 1)
        #expect(Array(output.datagram(0)) == vector.response.bytes)
        #expect(output.target(0) == client)

        let target = RawKey(try vector.targetPublic.publicKey)
        for lookup in vector.lookups {
            if !lookup.endpoint.isEmpty {
                // The target's private key is not recorded: its registration is put into the tables by hand.
                let address = try #require(Endpoint(lookup.endpoint).flatMap { WireAddress($0) })
                if server.tables.client(target) == nil {
                    let number = server.tables.addClient(target)
                    let session = server.tables.addSession(
                        index: 7, client: number, now: Self.now.monotonic,
                        announcement: ClientAnnouncement(takesPushes: false))
                    server.tables.confirm(session)
                    server.tables.touch(client: number, now: Self.now)
                }
                let number = try #require(server.tables.client(target))
                server.tables[client: number].address = address
            }
            output.removeAll()
            lookup.request.bytes.withUnsafeBytes {
                server.receive($0, from: client, now: Self.now, into: output)
            }
            try #require(output.count == 1)
            #expect(Array(output.datagram(0)) == lookup.reply.bytes)
        }
        #expect(server.counters.handshakes == 1)
        #expect(server.counters.found == 2)
        #expect(server.counters.notFound == 1)
    }
}
