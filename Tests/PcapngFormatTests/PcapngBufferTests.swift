import NetAddress
import Testing

@testable import PcapngFormat

@Suite struct PcapngBufferTests {
    private func written(_ body: (inout PcapngBuffer) -> Void) -> [UInt8] {
        var buffer = PcapngBuffer()
        body(&buffer)
        return buffer.bytes
    }

    private func prefix(_ text: String, _ length: Int) throws -> IPPrefix {
        let address = try #require(IPAddress(text))
        return try #require(IPPrefix(address, length: length))
    }

    private func append(_ packet: Pcapng.PacketHeader, _ data: [UInt8], to buffer: inout PcapngBuffer) {
        data.withUnsafeBytes { buffer.append(packet, $0) }
    }

    @Test func `a section says who wrote it, and not how long it is`() {
        let bytes = written {
            $0.append(
                Pcapng.Section(
                    comment: "lab q", hardware: "x86_64", system: "", application: "natlab 1"))
        }
        #expect(
            bytes
                == hex(
                    """
                    0a0d0d0a 44000000            // section header block, 68 bytes
                      4d3c2b1a                   // byte order magic: little-endian
                      0100 0000                  // version 1.0
                      ffffffffffffffff           // section length: not said
                      0100 0500 6c61622071000000 // opt_comment "lab q", 3 bytes of padding
                      0200 0600 7838365f36340000 // shb_hardware "x86_64", 2 bytes of padding
                      0400 0800 6e61746c61622031 // shb_userappl "natlab 1"; an empty shb_os is left out
                      0000 0000                  // opt_endofopt
                    44000000
                    """))
    }

    @Test func `an interface has its name, its addresses and nanoseconds`() throws {
        let addresses = [try prefix("192.168.1.2", 24), try prefix("2001:db8::2", 64)]
        let bytes = written {
            $0.append(
                Pcapng.Interface(
                    name: "a:eth0", description: "eth0 of a", linkType: .ethernet, addresses: addresses,
                    snapLength: 262_144))
        }
        #expect(
            bytes
                == hex(
                    """
                    01000000 60000000            // interface description block, 96 bytes
                      0100 0000                  // LINKTYPE_ETHERNET, reserved
                      00000400                   // snaplen 262,144
                      0200 0600 613a657468300000 // if_name "a:eth0"
                      0300 0900 65746830206f662061000000  // if_description "eth0 of a"
                      0400 0800 c0a80102 ffffff00  // if_IPv4addr 192.168.1.2 / 255.255.255.0
                      0500 1100 20010db8000000000000000000000002 40 000000  // if_IPv6addr 2001:db8::2/64
                      0900 0100 09000000         // if_tsresol 9
                      0000 0000                  // opt_endofopt
                    60000000
                    """))
    }

    @Test func `a tunnel's packets begin with IP, and a mask may be empty`() throws {
        let every = try prefix("0.0.0.0", 0)
        let bytes = written {
            $0.append(
                Pcapng.Interface(
                    name: "w", description: "", linkType: .ip, addresses: [every], snapLength: 64))
        }
        #expect(
            bytes
                == hex(
                    """
                    01000000 34000000 6500 0000 40000000  // LINKTYPE_RAW, snaplen 64
                      0200 0100 77000000
                      0400 0800 00000000 00000000
                      0900 0100 09000000
                      0000 0000
                    34000000
                    """))
    }

    @Test func `names are records of address and name`() throws {
        let names = [
            Pcapng.Name(try #require(IPAddress("203.0.113.2")), "home-a"),
            Pcapng.Name(try #require(IPAddress("2001:db8::1")), "hub"),
        ]
        #expect(
            written { $0.append(names) }
                == hex(
                    """
                    04000000 38000000            // name resolution block, 56 bytes
                      0100 0b00 cb007102 686f6d652d6100 00  // nrb_record_ipv4 203.0.113.2 "home-a" NUL, padding
                      0200 1400 20010db8000000000000000000000001 68756200  // nrb_record_ipv6 "hub" NUL
                      0000 0000                  // nrb_record_end
                    38000000
                    """))
        #expect(written { $0.append([] as [Pcapng.Name]) } == [])
    }

    @Test func `a packet keeps its length though it is cut`() {
        let header = Pcapng.PacketHeader(
            interface: 3, time: 0x0102_0304_0506_0708, originalLength: 1514,
            flags: .init(.inbound, .broadcast))
        #expect(
            written { append(header, [0xAA, 0xBB, 0xCC, 0xDD, 0xEE], to: &$0) }
                == hex(
                    """
                    06000000 34000000            // enhanced packet block, 52 bytes
                      03000000                   // the fourth interface
                      04030201 08070605          // time stamp, the upper half first
                      05000000                   // captured
                      ea050000                   // original: 1,514
                      aabbccddee 000000          // 5 bytes, 3 of padding
                      0200 0400 0d000000         // epb_flags: inbound (01), broadcast (011 << 2)
                      0000 0000                  // opt_endofopt
                    34000000
                    """))
    }

    @Test(
        arguments: [
            (Pcapng.Flags(.unknown), 0), (Pcapng.Flags(.outbound), 2), (Pcapng.Flags(.inbound, .unicast), 5),
            (Pcapng.Flags(.inbound, .multicast), 9), (Pcapng.Flags(.inbound, .promiscuous), 17),
        ] as [(Pcapng.Flags, UInt32)])
    func `flags hold direction and reception`(flags: Pcapng.Flags, bits: UInt32) {
        #expect(flags.bits == bits)
    }

    @Test func `statistics tell what was lost`() {
        let bytes = written {
            $0.append(
                Pcapng.Statistics(
                    interface: 1, start: 1 << 32 | 2, end: 3 << 32 | 4, received: 100, dropped: 7,
                    delivered: 93))
        }
        #expect(
            bytes
                == hex(
                    """
                    05000000 58000000            // interface statistics block, 88 bytes
                      01000000                   // the second interface
                      03000000 04000000          // time stamp
                      0200 0800 01000000 02000000  // isb_starttime
                      0300 0800 03000000 04000000  // isb_endtime
                      0400 0800 6400000000000000 // isb_ifrecv 100
                      0500 0800 0700000000000000 // isb_ifdrop 7
                      0800 0800 5d00000000000000 // isb_usrdeliv 93
                      0000 0000
                    58000000
                    """))
    }

    @Test func `the last whole block is found wherever the writing stopped`() {
        var buffer = PcapngBuffer()
        let header = Pcapng.PacketHeader(interface: 0, time: 0, originalLength: 1, flags: .init(.outbound))
        append(header, [1], to: &buffer)
        let first = buffer.bytes.count
        append(header, [1, 2, 3, 4, 5], to: &buffer)
        let second = buffer.bytes.count
        let bytes = buffer.take()
        for limit in 0...second {
            let whole = limit == second ? second : limit >= first ? first : 0
            #expect(PcapngBuffer.wholeBlocks(of: bytes, within: limit) == whole)
        }
        #expect(buffer.bytes.isEmpty && PcapngBuffer.wholeBlocks(of: [], within: 0) == 0)
    }

    @Test func `a text longer than an option is cut, in whole characters`() throws {
        let long = String(repeating: "ä", count: 40_000)
        let bytes = written {
            $0.append(Pcapng.Section(comment: long, hardware: "", system: "", application: "x"))
        }
        let length = Int(bytes[26]) | Int(bytes[27]) << 8
        #expect(bytes[24] == 1 && length > 50_000 && length % 2 == 0)
        #expect(String(validating: bytes[28..<(28 + length)], as: UTF8.self) != nil)
        #expect(bytes.count % 4 == 0)
        // What follows is where a reader looks for it.
        let next = 28 + (length + 3) / 4 * 4
        #expect(Array(bytes[next..<(next + 5)]) == [4, 0, 1, 0, UInt8(ascii: "x")])
    }
}

/// Bytes written as hex; what follows `//` on a line is for the reader.
private func hex(_ text: String) -> [UInt8] {
    var digits: [UInt8] = []
    for line in text.split(separator: "\n") {
        var rest = line[...]
        if let comment = rest.firstRange(of: "//") { rest = rest[..<comment.lowerBound] }
        digits += rest.compactMap { $0.hexDigitValue.map { UInt8($0) } }
    }
    return stride(from: 0, to: digits.count - 1, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}
