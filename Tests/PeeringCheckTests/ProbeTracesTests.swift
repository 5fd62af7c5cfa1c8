import LinuxLab
import NetAddress
import Testing

/// Listings of `nft list table`, as nft 1.0.6 writes them.
struct ProbeTracesTests {
    private static let listing =
        """
        table ip natlab {
        	map outside {
        		type ipv4_addr . inet_service : ipv4_addr . inet_service
        		size 4096
        		flags dynamic,timeout
        		timeout 5m
        		elements = { 192.168.1.2 . 51820 timeout 5m expires 4m58s52ms : 203.0.113.2 . 51820,
        			     192.168.1.254 . 1024 timeout 5m expires 4m59s996ms : 203.0.113.2 . 1024,
        			     192.168.1.254 . 1025 timeout 5m expires 4m59s996ms : 203.0.113.2 . 1025 }
        	}

        	map inside0 {
        		type inet_service : ipv4_addr . inet_service
        		size 4096
        		flags dynamic,timeout
        		timeout 5m
        		elements = { 1024 timeout 5m expires 4m59s996ms : 192.168.1.254 . 1024, 51820 expires 4m58s : 192.168.1.2 . 51820 }
        	}

        	set seen {
        		type ipv4_addr . inet_service . ipv4_addr
        		elements = { 203.0.113.2 . 51820 . 203.0.113.10 timeout 5m expires 4m58s,
        			     203.0.113.2 . 1024 . 203.0.113.254 timeout 5m expires 4m58s }
        	}

        	map one_to_one_out {
        		type ipv4_addr : ipv4_addr
        		elements = { 192.168.1.3 : 203.0.113.30 }
        	}

        	set used0 {
        		type inet_service
        		flags dynamic,timeout
        		elements = { 1024 timeout 5m expires 4m59s, 1025 timeout 5m expires 4m59s, 1026 timeout 5m expires 1s, 51820 expires 4m58s }
        	}

        	set used1 {
        		type inet_service
        		elements = { 1024 timeout 5m expires 4m59s }
        	}

        	set owner0 {
        		type inet_service . ipv4_addr . inet_service
        		elements = { 1024 . 192.168.1.254 . 1024 timeout 5m expires 4m59s, 1026 . 100.64.0.2 . 4000 expires 2s }
        	}

        	chain incoming {
        		type nat hook prerouting priority dstnat; policy accept;
        		iifname "wan0" ip daddr 192.168.1.254 dnat ip to udp dport map @inside0
        		meta l4proto udp snat ip to numgen inc mod 2 map { 0 : 192.168.1.254 . 1024-2031, 1 : 192.168.1.254 . 2032-3039 }
        	}
        }
        """

    private func entries(_ addresses: String..., external: [String] = []) -> [String: [String]] {
        let traces = ProbeTraces(
            addresses: Set(addresses.compactMap { IPAddress($0) }),
            external: Set(external.compactMap { Endpoint($0) }),
            pool: [IPAddress("203.0.113.2")].compactMap(\.self))
        return Dictionary(traces.keys(in: Self.listing).map { ($0.set, $0.keys) }, uniquingKeysWith: +)
    }

    /// What has no address in it is found by the port of a mapping that has.
    @Test func mappingsAreFoundInAllSets() {
        #expect(
            entries("192.168.1.254") == [
                "outside": ["192.168.1.254 . 1024", "192.168.1.254 . 1025"], "inside0": ["1024"],
                "used0": ["1024", "1025"], "owner0": ["1024 . 192.168.1.254 . 1024"],
                "seen": ["203.0.113.2 . 1024 . 203.0.113.254"],
            ])
    }

    /// Behind another NAT the internal endpoint is that NAT's; what was seen outside tells.
    @Test func mappingsAreFoundByTheirExternalEndpoint() {
        #expect(
            entries(external: ["203.0.113.2:1026", "203.0.113.9:51820"]) == [
                "used0": ["1026"], "owner0": ["1026 . 100.64.0.2 . 4000"],
            ])
    }

    @Test func remotesToo() {
        #expect(entries("203.0.113.254")["seen"] == ["203.0.113.2 . 1024 . 203.0.113.254"])
    }

    @Test func theLabsOwnStay() {
        #expect(entries("192.168.1.2")["inside0"] == ["51820"])
        #expect(entries("192.168.1.25", "192.168.1.240", "3.0.113.254") == [:])
        #expect(entries() == [:])
        let nothing = ProbeTraces(addresses: [IPAddress(v4: 1)], external: [], pool: [])
        #expect(nothing.keys(in: "").isEmpty)
    }
}
