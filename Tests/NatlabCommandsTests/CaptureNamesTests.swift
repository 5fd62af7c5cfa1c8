import LabPlanner
import NetAddress
import PcapngFormat
import TopologyModel
import Testing

@testable import NatlabCommands

/// Three homes on one prefix, the first with a second WAN address and two hosts.
@Suite struct CaptureNamesTests {
    private func names(_ interfaces: (String, String)...) throws -> [String: String] {
        var text = ""
        for home in ["a", "b", "c"] {
            text += "[router.home-\(home)]\nuplink = \"internet\"\nlan = \"192.168.1.0/24\"\n"
            // MASQUERADE has one address.
            text += home == "a" ? "wan = [\"203.0.113.2\", \"203.0.113.9\"]\n" : ""
            text += "nat = { mapping = \"endpoint-independent\" }\n"
        }
        text += """
            [host.a1]
            on = "home-a"
            [host.a2]
            on = "home-a"
            [host.b1]
            on = "home-b"
            [host.c1]
            on = "home-c"
            [wireguard.wg0]
            prefix = "10.66.66.0/24"
            members = ["a1", "b1"]
            """
        let (topology, diagnostics) = TopologyFile.parse(bytes: Array(text.utf8), fileName: "t.toml")
        let plan = compile(try #require(topology, "\(diagnostics)"))
        let found = CaptureNames(plan).names(for: interfaces.map { (node: $0.0, interface: $0.1) })
        return Dictionary(found.map { ("\($0.address)", $0.name) }, uniquingKeysWith: { "\($0) and \($1)" })
    }

    @Test func `addresses of one owner have its name, whatever is captured`() throws {
        for place in [("a1", "eth0"), ("internet", "br0"), ("b1", "wg0")] {
            let names = try names(place)
            #expect(names["203.0.113.1"] == "internet")
            #expect(names["203.0.113.2"] == "home-a" && names["203.0.113.9"] == "home-a")
            #expect(names["192.168.1.3"] == "a2")
            #expect(names["10.66.66.1"] == "a1.wg0" && names["10.66.66.2"] == "b1.wg0")
        }
    }

    @Test func `an address of many is that of the captured link`() throws {
        #expect(try names(("b1", "eth0"))["192.168.1.2"] == "b1")
        #expect(try names(("home-a", "lan0"))["192.168.1.1"] == "home-a")
        // A port of home-a's bridge is on its LAN, too.
        #expect(try names(("home-a", "a1"), ("b1", "wg0"))["192.168.1.2"] == "a1")
    }

    @Test func `two owners are both named, and of three none`() throws {
        let two = try names(("b1", "eth0"), ("home-a", "lan0"))
        #expect(two["192.168.1.2"] == "a1|b1" && two["192.168.1.1"] == "home-a|home-b")
        for place in [("internet", "br0"), ("home-a", "wan0"), ("a1", "wg0")] {
            let none = try names(place)
            #expect(none["192.168.1.2"] == nil && none["192.168.1.1"] == nil)
        }
    }
}
