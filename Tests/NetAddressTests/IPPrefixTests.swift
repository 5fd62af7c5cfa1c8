import NetAddress
import Testing

struct IPPrefixTests {
    private func prefix(_ text: String) throws -> IPPrefix { try #require(IPPrefix(text)) }

    @Test(arguments: [
        "10.0.0.0/8", "192.168.1.5/24", "0.0.0.0/0", "203.0.113.1/32", "2001:db8::/32", "::/0", "::1/128",
    ])
    func roundTrip(_ text: String) throws { #expect(try prefix(text).description == text) }

    @Test(arguments: [
        "", "10.0.0.0", "10.0.0.0/", "/8", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/8/8",
        "::/129", "10.0.0/8", "10.0.0.0/0008",
    ])
    func refused(_ text: String) { #expect(IPPrefix(text) == nil) }

    @Test(arguments: [
        ("192.168.1.77/24", "192.168.1.0/24", "192.168.1.255"),
        ("10.9.8.7/9", "10.0.0.0/9", "10.127.255.255"),
        ("10.9.8.7/32", "10.9.8.7/32", "10.9.8.7"), ("1.2.3.4/0", "0.0.0.0/0", "255.255.255.255"),
        ("2001:db8::1/64", "2001:db8::/64", "2001:db8::ffff:ffff:ffff:ffff"), ("::1/127", "::/127", "::1"),
        ("ffff::/0", "::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ])
    func networkAndLast(_ text: String, _ network: String, _ last: String) throws {
        #expect(try prefix(text).network == prefix(network))
        #expect(try prefix(text).lastAddress == IPAddress(last))
        #expect(try prefix(network).isNetwork)
        #expect(try prefix(text).isNetwork == (text == network))
    }

    @Test func containment() throws {
        #expect(try prefix("10.0.0.0/8").contains(prefix("10.1.0.0/16")))
        #expect(try !prefix("10.1.0.0/16").contains(prefix("10.0.0.0/8")))
        #expect(try prefix("10.1.0.0/16").overlaps(prefix("10.0.0.0/8")))
        #expect(try !prefix("10.1.0.0/16").overlaps(prefix("10.2.0.0/16")))
        #expect(try !prefix("0.0.0.0/0").overlaps(prefix("::/0")))
        #expect(try prefix("::/0").contains(prefix("2001:db8::/32")))
        let home = try prefix("192.168.1.0/24")
        #expect(try home.contains(#require(IPAddress("192.168.1.255"))))
        #expect(try !home.contains(#require(IPAddress("192.168.2.0"))))
        #expect(try !home.contains(#require(IPAddress("::c0a8:101"))))
    }

    @Test func hosts() throws {
        let home = try prefix("192.168.1.0/24")
        #expect(home.host(1) == IPAddress("192.168.1.1"))
        #expect(home.host(255) == IPAddress("192.168.1.255"))
        #expect(home.host(256) == nil)
        #expect(home.hostCount == 254)
        #expect(try prefix("10.0.0.0/30").hostCount == 2)
        #expect(try prefix("10.0.0.0/31").hostCount == 0)
        #expect(try prefix("10.0.0.0/32").hostCount == 0)
        #expect(try prefix("0.0.0.0/0").hostCount == (1 << 32) - 2)
        #expect(try prefix("::/0").hostCount == .max)
        #expect(IPPrefix.allIPv4.description == "0.0.0.0/0")
    }
}

struct EndpointTests {
    @Test(arguments: ["203.0.113.1:51820", "[2001:db8::1]:1", "0.0.0.0:0", "1.2.3.4:65535"])
    func roundTrip(_ text: String) throws { #expect(try #require(Endpoint(text)).description == text) }

    @Test(arguments: [
        "", ":1", "1.2.3.4", "1.2.3.4:", "1.2.3.4:65536", "1.2.3.4:-1", "1.2.3.4:+1", "::1:1", "[::1]",
        "[1.2.3.4:1", "hub:1", "1.2.3.4:1 ", "[::1]:000001",
    ])
    func refused(_ text: String) { #expect(Endpoint(text) == nil) }
}
