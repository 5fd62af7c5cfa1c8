import NetAddress
import Testing

@testable import NATMeasurement

@Suite struct FrameTests {
    private static let probe = """
        ffffffffffff 020000000001 0806  // broadcast, from a locally administered address, ARP
        0001 0800 06 04 0001            // Ethernet, IPv4, 6 and 4 bytes, request
        020000000001 00000000           // sender: 0.0.0.0
        000000000000 c0a801f0           // target: 192.168.1.240
        """
    private static let reply = """
        0001 0800 06 04 0002            // reply
        0a0000000002 c0a80101           // sender: 192.168.1.1
        020000000001 c0a801f0           // target: 192.168.1.240
        """
    private let own = MACAddress(bits: 0x0200_0000_0001)

    @Test func probeClaimsNothing() {
        let frame = EthernetFrame(
            to: .broadcast, from: own, type: EthernetFrame.arp, payload: ARPPacket.probe(for: host, own).bytes
        )
        #expect(frame.bytes == bytes(Self.probe))
        #expect(EthernetFrame(bytes(Self.probe)) == frame)
    }

    @Test func replyIsRead() throws {
        // Ethernet pads to 60 bytes.
        let padded = bytes(Self.reply) + [UInt8](repeating: 0, count: 18)
        let message = try #require(ARPPacket(padded))
        #expect(message.operation == .reply)
        #expect(message.sender == IPAddress(v4: 0xC0A8_0101))
        #expect(message.senderHardware == MACAddress(bits: 0x0A00_0000_0002))
        #expect(message.target == host)
        #expect(message.bytes == bytes(Self.reply))
    }

    @Test func requestIsAnsweredToWhoeverAsked() {
        let router = MACAddress(bits: 0x0A00_0000_0002)
        let request = ARPPacket.request(for: host, from: IPAddress(v4: 0xC0A8_0101), router)
        #expect(
            request.answer(from: own).bytes
                == bytes("0001 0800 06 04 0002 020000000001 c0a801f0 0a0000000002 c0a80101"))
    }

    @Test(arguments: 0..<28) func shortOrForeignARPIsNone(length: Int) {
        #expect(ARPPacket(Array(bytes(Self.reply)[..<length])) == nil)
        var foreign = bytes(Self.reply)
        guard length < 8 else { return }
        foreign[length] ^= 0x40
        #expect(ARPPacket(foreign) == nil)
    }

    @Test func shortFrameIsNone() {
        #expect(EthernetFrame([UInt8](repeating: 0, count: 13)) == nil)
        #expect(EthernetFrame([UInt8](repeating: 0, count: 14))?.payload == [])
    }

    @Test func randomAddressesAreUnicastAndLocal() {
        for _ in 0..<100 { #expect(MACAddress.random().bytes[0] & 0x03 == 0x02) }
    }
}
