import FoundationEssentials
import NetAddress
import Testing

struct IPAddressTests {
    @Test(arguments: ["0.0.0.0", "1.2.3.4", "192.168.1.255", "255.255.255.255", "10.0.0.1"])
    func v4RoundTrip(_ text: String) throws {
        let address = try #require(IPAddress(text))
        #expect(address.description == text)
        #expect(address.isV4)
        #expect(IPAddress(bytes: address.bytes) == address)
        #expect(address.v4Bits.map(IPAddress.init(v4:)) == address)
    }

    @Test(arguments: [
        "", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4", "1.2.3.04", "1..2.3", "1.2.3.", ".1.2.3",
        "1.2.3.4 ", " 1.2.3.4",
        "1.2.3.+4", "1.2.3.-4", "1.2.3.a", "0x1.2.3.4", "1.2.3.4/24", "1234.1.1.1", "١.1.1.1",
        "1.2.3.4\u{301}", "00.0.0.0",
    ])
    func v4Refused(_ text: String) { #expect(IPAddress(text) == nil) }

    /// RFC 4291 section 2.2 forms, printed as RFC 5952 section 4 wants.
    @Test(arguments: [
        ("::", "::"), ("::1", "::1"), ("1::", "1::"), ("2001:db8::1", "2001:db8::1"),
        ("2001:0DB8:0:0:0:0:0:1", "2001:db8::1"), ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"), ("1:0:0:2:0:0:0:3", "1:0:0:2::3"),
        ("ABCD:EF01:2345:6789:ABCD:EF01:2345:6789", "abcd:ef01:2345:6789:abcd:ef01:2345:6789"),
        ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"), ("::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"),
        ("64:ff9b::192.0.2.33", "64:ff9b::c000:221"), ("::ffff:192.0.2.1", "::ffff:192.0.2.1"),
        ("0:0:0:0:0:0:0:0", "::"),
    ])
    func v6Text(_ text: String, _ canonical: String) throws {
        let address = try #require(IPAddress(text))
        #expect(address.description == canonical)
        #expect(IPAddress(canonical) == address)
        #expect(!address.isV4)
        #expect(address.bytes.count == 16)
        #expect(IPAddress(bytes: address.bytes) == address)
        #expect(address.v4Bits == nil)
    }

    @Test(arguments: [
        ":", ":::", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "12345::", "g::",
        "::1%eth0",
        "::+1", "::-1", ":1", "1:", "1.2.3.4::", "::1.2.3", "::1.2.3.4:5", "::01.2.3.4",
        "1:2:3:4:5:6:7:1.2.3.4", "[::1]",
    ])
    func v6Refused(_ text: String) { #expect(IPAddress(text) == nil) }

    @Test func bytesOfOtherCountsAreNoAddress() {
        for count in [0, 3, 5, 15, 17] {
            #expect(IPAddress(bytes: [UInt8](repeating: 0, count: count)) == nil)
        }
    }

    @Test func kinds() throws {
        func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }
        #expect(try address("0.0.0.0").isUnspecified && address("::").isUnspecified)
        #expect(try address("224.0.0.1").isMulticast && address("239.255.255.255").isMulticast)
        #expect(
            try address("ff02::1").isMulticast && !address("fe80::1").isMulticast
                && !address("240.0.0.1").isMulticast)
        #expect(
            try address("127.1.2.3").isLoopback && address("::1").isLoopback && !address("::2").isLoopback)
        #expect(try !address("0.0.0.1").isLoopback)
    }

    @Test func counting() throws {
        #expect(IPAddress("10.0.0.255")?.advanced(by: 1) == IPAddress("10.0.1.0"))
        #expect(IPAddress("255.255.255.255")?.advanced(by: 1) == nil)
        #expect(IPAddress("0.0.0.0")?.advanced(by: 1 << 32) == nil)
        #expect(IPAddress("::ffff:ffff:ffff:ffff")?.advanced(by: 1) == IPAddress("::1:0:0:0:0"))
        #expect(IPAddress("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")?.advanced(by: 1) == nil)
    }

    @Test func order() throws {
        let texts = ["0.0.0.0", "10.0.0.1", "10.0.0.2", "192.168.0.0", "::", "::1", "2001:db8::", "ff02::1"]
        let addresses = texts.compactMap { IPAddress($0) }
        #expect(addresses.reversed().sorted() == addresses)
        #expect(IPAddress("::1") != IPAddress("0.0.0.1"))
    }

    @Test func json() throws {
        struct All: Codable, Equatable {
            var address: IPAddress
            var prefix: IPPrefix
            var endpoint: Endpoint
        }
        let all = All(
            address: try #require(IPAddress("203.0.113.1")), prefix: try #require(IPPrefix("fd00::/8")),
            endpoint: try #require(Endpoint("[2001:db8::1]:51820")))
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        let data = try encoder.encode(all)
        #expect(
            String(decoding: data, as: UTF8.self)
                == #"{"address":"203.0.113.1","endpoint":"[2001:db8::1]:51820","prefix":"fd00::/8"}"#)
        #expect(try JSONDecoder().decode(All.self, from: data) == all)
        #expect(throws: DecodingError.self) {
            try JSONDecoder().decode([IPAddress].self, from: Data(#"["1.2.3"]"#.utf8))
        }
    }
}
