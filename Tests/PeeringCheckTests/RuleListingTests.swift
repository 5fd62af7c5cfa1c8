import LinuxLab
import Testing

/// Listings of `nft --handle --stateless --terse list ruleset`, as nft 1.0.6 writes them.
struct RuleListingTests {
    private static let listing = RuleListing(
        """
        table ip filter { # handle 1
        	chain INPUT { # handle 1
        		type filter hook input priority filter; policy accept;
        		udp dport 99 ct state new counter drop # handle 2
        		meta l4proto udp xt match string counter drop # handle 5
        		meta l4proto udp  udp dport { 1, 2, 3 } meta length 100-200 counter packets 7 bytes 80 drop # handle 6
        		counter name "all" drop # handle 7
        		udp dport 9 counter log prefix "a  counter # handle 3" drop comment "my  rule" # handle 8
        		counter # handle 9
        	}

        	chain other { # handle 4
        		counter drop # handle 10
        	}
        }
        table inet natlab { # handle 2
        	set seen { # handle 3
        		type ipv4_addr
        		size 4096
        	}

        	chain INPUT { # handle 1
        		type filter hook postrouting priority srcnat + 50; policy drop;
        		ip saddr . udp sport != @seen drop # handle 2
        	}
        }
        """)

    @Test(arguments: [
        (2, "udp dport 99 ct state new drop"), (5, "meta l4proto udp xt match string drop"),
        (6, "meta l4proto udp udp dport { 1, 2, 3 } meta length 100-200 drop"),
        (7, "counter name \"all\" drop"),
        (8, "udp dport 9 log prefix \"a  counter # handle 3\" drop comment \"my  rule\""), (9, ""),
    ])
    func ruleIsFoundWithoutWhatItCounts(_ handle: UInt64, _ text: String) {
        #expect(
            Self.listing.rule(family: "ip", table: "filter", chain: "INPUT", handle: handle) == text)
    }

    @Test func tablesAndChainsAreToldApart() {
        let rule = "ip saddr . udp sport != @seen drop"
        #expect(Self.listing.rule(family: "inet", table: "natlab", chain: "INPUT", handle: 2) == rule)
        #expect(Self.listing.rule(family: "ip", table: "filter", chain: "other", handle: 2) == nil)
        #expect(Self.listing.rule(family: "ip6", table: "filter", chain: "INPUT", handle: 2) == nil)
        #expect(Self.listing.hook(family: "ip", table: "filter", chain: "INPUT") == "input")
        #expect(Self.listing.hook(family: "inet", table: "natlab", chain: "INPUT") == "postrouting")
        #expect(Self.listing.hook(family: "ip", table: "filter", chain: "other") == nil)
    }

    @Test func rejectionIsToldFromAWordInAComment() {
        #expect(RuleListing.rejects("udp dport 9 reject with icmp admin-prohibited"))
        #expect(RuleListing.rejects("log prefix \"no \" reject comment \"mine\""))
        #expect(!RuleListing.rejects("udp dport 9 drop comment \"we reject that\""))
        #expect(!RuleListing.rejects("udp dport 9 drop"))
    }

    @Test func damagedListingIsHarmless() {
        let text =
            "table\nchain a {\ntype filter hook\ntable ip t {\nchain c {\ntype hook\n drop # handle x\n}\n}"
        for count in 0...text.count { _ = RuleListing(String(text.prefix(count))) }
        #expect(RuleListing(text).hook(family: "ip", table: "t", chain: "c") == nil)
    }
}
