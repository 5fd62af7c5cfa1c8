import NetAddress
import TopologyModel

/// The nftables table `natlab` of a router whose NAT iptables cannot express.
///
/// How it works: conntrack translates every packet of a flow as its first one, so the nat chains only choose, for new
/// flows; what they chose is written down in maps by a filter chain behind them, which sees every packet and so keeps the
/// entries from running out. `outside` has the external endpoint of each mapping, `inside` the internal endpoint of each
/// external port, `used` the ports that are taken and `owner` by which mapping, `seen` the remotes that a mapping has sent
/// to. (Linux before 6.2 takes no map where a set is meant.)
struct NftablesRules {
    private let nat: PlannedNAT
    private let timeout: Int
    private var behaviour: NATBehaviour { nat.behaviour }

    /// Entries of a map: about 0.1 MB of kernel memory each; 65,535 would cost 20 ms a router.
    private static let size = 4096
    /// Ports that mappings get (RFC 4787 REQ-3a keeps 1024 and up apart from those below).
    private static let firstPort = 1024
    /// Random ports come from so many ranges in turn, so that no two of so many new mappings meet.
    private static let ranges = 64
    private static let sequentialPorts = 20_000..<21_024
    /// RFC 4787 REQ-5 recommends five minutes or more.
    static let defaultTimeout = 300

    init(_ nat: PlannedNAT) {
        self.nat = nat
        timeout = nat.behaviour.udpTimeout ?? Self.defaultTimeout
    }

    /// One transaction: all of it or nothing.
    var text: String {
        let parts =
            [sets, prerouting, postrouting] + nat.externals.indices.map(external) + [track, record, filter]
        return "table ip natlab {\n" + parts.joined() + "}\n"
    }

    // MARK: Words

    /// What tells one mapping of an internal endpoint from another, seen from the packets of a direction.
    private func remote(_ words: [String]) -> String {
        let count =
            switch behaviour.mapping {
            case .endpointIndependent: 0
            case .addressDependent: 1
            case .addressAndPortDependent: 2
            }
        return words.prefix(count).map { " . \($0)" }.joined()
    }

    private func source(_ direction: String) -> String {
        "ct \(direction) ip saddr . ct \(direction) proto-src"
    }

    private func mappingKey(_ direction: String) -> String {
        source(direction) + remote(["ct \(direction) ip daddr", "ct \(direction) proto-dst"])
    }

    private var udpForwards: [PlannedForward] { nat.forwards.filter { $0.transport == .udp } }

    /// Whether what comes in is held against the remotes that the mapping has sent to.
    ///
    /// With address and port-dependent filtering only known flows come in, which conntrack alone tells, except for those
    /// that hairpin.
    private var checksSenders: Bool {
        behaviour.filtering == .addressDependent
            || (behaviour.filtering == .addressAndPortDependent && behaviour.hairpin)
    }

    /// Whether somebody who was never sent to may come in at a mapping.
    private var letsNewFlowsIn: Bool { behaviour.filtering == .endpointIndependent || checksSenders }

    /// Whether flows share mappings; else each flow is a mapping, which conntrack alone remembers.
    private var keepsMappings: Bool { behaviour.mapping != .addressAndPortDependent }

    private func elements(_ items: [String]) -> String { "elements = { \(items.joined(separator: ", ")) }" }

    private func pair(_ endpoint: Endpoint) -> String { "\(endpoint.address) . \(endpoint.port)" }

    private func chain(_ name: String, at hook: String? = nil, _ rules: [String?]) -> String {
        let kept = rules.compactMap(\.self)
        guard !kept.isEmpty else { return "" }
        let head = hook.map { " type \($0); policy accept;" } ?? ""
        return "  chain \(name) {\(head)\n" + kept.map { "    \($0)\n" }.joined() + "  }\n"
    }

    // MARK: Maps and sets

    private var sets: String {
        let endpoint = "ipv4_addr . inet_service"
        let limits = "size \(Self.size); flags dynamic,timeout; timeout \(timeout)s;"
        let key = endpoint + remote(["ipv4_addr", "inet_service"])
        var lines = keepsMappings ? ["map outside { type \(key) : \(endpoint); \(limits) }"] : []
        if letsNewFlowsIn {
            lines += nat.externals.indices.map {
                "map inside\($0) { type inet_service : \(endpoint); \(limits) }"
            }
        }
        lines += nat.externals.indices.map { "set used\($0) { type inet_service; \(limits) }" }
        // One for each address, as nft tells no more than five parts of a key apart.
        lines += nat.externals.indices.map { "set owner\($0) { type inet_service . \(key); \(limits) }" }
        if checksSenders {
            let remote = behaviour.filtering == .addressDependent ? "ipv4_addr" : endpoint
            lines.append("set seen { type \(endpoint) . \(remote); \(limits) }")
        }
        if !nat.oneToOne.isEmpty {
            let (out, back) = (
                nat.oneToOne.map { "\($0.inner) : \($0.external)" },
                nat.oneToOne.map { "\($0.external) : \($0.inner)" }
            )
            lines.append("map one_to_one_out { type ipv4_addr : ipv4_addr; \(elements(out)) }")
            lines.append("map one_to_one_in { type ipv4_addr : ipv4_addr; \(elements(back)) }")
            let own = nat.oneToOne.map(\.external.description)
            lines.append("set one_to_one { type ipv4_addr; \(elements(own)) }")
        }
        for transport in Topology.Transport.allCases {
            let forwards = nat.forwards.filter { $0.transport == transport }
            guard !forwards.isEmpty else { continue }
            // Out by the first of several forwards of one endpoint.
            let out = forwards.filter { nat.forward(of: $0.inner, transport) == $0 }.map {
                "\(pair($0.inner)) : \(pair($0.external))"
            }
            let back = forwards.map { "\(pair($0.external)) : \(pair($0.inner))" }
            lines.append(
                "map forward_\(transport)_out { type \(endpoint) : \(endpoint); \(elements(out)) }")
            lines.append(
                "map forward_\(transport)_in { type \(endpoint) : \(endpoint); \(elements(back)) }")
        }
        if !udpForwards.isEmpty {
            let pairs = udpForwards.map { "\(pair($0.external)) . \(pair($0.inner))" }
            lines.append(
                "set forwards { type \(endpoint); \(elements(udpForwards.map { pair($0.external) })) }")
            lines.append("set forwarded { type \(endpoint) . \(endpoint); \(elements(pairs)) }")
            for (index, address) in nat.externals.enumerated() {
                let ports = udpForwards.filter { $0.external.address == address }.map {
                    "\($0.external.port)"
                }
                guard !ports.isEmpty else { continue }
                lines.append("set reserved\(index) { type inet_service; \(elements(ports)) }")
            }
        }
        return lines.map { "  \($0)\n" }.joined()
    }

    // MARK: Choosing

    /// What comes in from outside, or with hairpinning from inside, for an external endpoint.
    private var prerouting: String {
        let from = behaviour.hairpin ? "" : "iifname \"wan0\" "
        var rules: [String] = []
        if !nat.oneToOne.isEmpty { rules.append("\(from)dnat to ip daddr map @one_to_one_in") }
        for transport in Topology.Transport.allCases
        where nat.forwards.contains(where: { $0.transport == transport }) {
            rules.append(
                "\(from)dnat ip to ip daddr . \(transport) dport map @forward_\(transport)_in")
        }
        if letsNewFlowsIn {
            for (index, address) in nat.externals.enumerated() {
                rules.append("\(from)ip daddr \(address) dnat ip to udp dport map @inside\(index)")
            }
        }
        return chain("incoming", at: "nat hook prerouting priority dstnat", rules)
    }

    /// The source of what goes out.
    ///
    /// Packets that hairpin get their external source too (RFC 4787 REQ-9a); `iifname` keeps that from what comes in.
    private var postrouting: String {
        let outgoing = chain(
            "outgoing", at: "nat hook postrouting priority srcnat",
            [
                "oifname \"wan0\" jump choose",
                behaviour.hairpin ? "iifname \"lan0\" oifname \"lan0\" ct status dnat jump choose" : nil,
            ])
        var rules: [String] = []
        if !nat.oneToOne.isEmpty { rules.append("snat to ip saddr map @one_to_one_out") }
        for transport in Topology.Transport.allCases
        where nat.forwards.contains(where: { $0.transport == transport }) {
            rules.append("snat ip to ip saddr . \(transport) sport map @forward_\(transport)_out")
        }
        if keepsMappings {
            let remote = remote(["ip daddr", "udp dport"])
            rules.append("snat ip to ip saddr . udp sport\(remote) map @outside")
        }
        return chain("choose", rules + pooling) + outgoing
    }

    /// Which external address.
    private var pooling: [String] {
        let count = nat.externals.count
        guard count > 1 else { return ["goto external0"] }
        let all = (0..<count).map { "\($0) : goto external\($0)" }.joined(separator: ", ")
        guard behaviour.pooling == .paired else { return ["numgen random mod \(count) vmap { \(all) }"] }
        let known = nat.inside.enumerated().map { "\($0.element) : goto external\($0.offset % count)" }
        return (known.isEmpty ? [] : ["ip saddr vmap { \(known.joined(separator: ", ")) }"])
            + ["jhash ip saddr mod \(count) vmap { \(all) }"]
    }

    /// Which port of one external address; the flow is new to all maps.
    private func external(_ index: Int) -> String {
        let address = nat.externals[index]
        // TCP's ports are as dependent as UDP's; so are the identifiers of ICMP.
        let random = behaviour.mapping == .endpointIndependent ? "" : " fully-random"
        let hasReserved = udpForwards.contains { $0.external.address == address }
        var rules = ["meta l4proto != udp snat to \(address)\(random)"]
        switch behaviour.ports {
        case .preserve:
            let free =
                "udp sport != @used\(index) " + (hasReserved ? "udp sport != @reserved\(index) " : "")
            rules += ["\(free)snat to \(address)", randomPort(address)]
        case .random: rules.append(randomPort(address))
        case .sequential:
            let ports = Self.sequentialPorts.enumerated().map { "\($0.offset) : \($0.element)" }
            rules.append(
                "meta l4proto udp snat to \(address):numgen inc mod \(ports.count) map { "
                    + "\(ports.joined(separator: ", ")) }")
        case .block: rules += blocks(index)
        }
        return chain("external\(index)", rules)
    }

    private func randomPort(_ address: IPAddress) -> String {
        let width = (65_536 - Self.firstPort) / Self.ranges
        let ranges = (0..<Self.ranges).map { number in
            let first = Self.firstPort + number * width
            return "\(number) : \(address) . \(first)-\(first + width - 1)"
        }
        return "meta l4proto udp snat ip to numgen inc mod \(Self.ranges) map { "
            + "\(ranges.joined(separator: ", ")) } fully-random"
    }

    /// A block for each known host with this address; others get one of sixteen by the end of their address.
    private func blocks(_ index: Int) -> [String] {
        let count = nat.externals.count
        let isPaired = behaviour.pooling == .paired
        let here = nat.inside.enumerated().filter { !isPaired || $0.offset % count == index }.map(\.element)
        let address = nat.externals[index]
        func block(_ number: Int) -> String {
            let first = Self.firstPort + number * behaviour.blockSize
            return "\(address) . \(first)-\(first + behaviour.blockSize - 1)"
        }
        func choice(_ key: String, _ blocks: [String]) -> String {
            "meta l4proto udp snat ip to \(key) map { \(blocks.joined(separator: ", ")) } fully-random"
        }
        let known = here.enumerated().map { "\($0.element) : \(block($0.offset))" }
        // The same at each address.
        let first = isPaired ? (nat.inside.count + count - 1) / count : nat.inside.count
        let others = (0..<NATBehaviour.spareBlocks).map { "0.0.0.\($0) : \(block(first + $0))" }
        return (known.isEmpty ? [] : [choice("ip saddr", known)]) + [choice("ip saddr & 0.0.0.15", others)]
    }

    // MARK: Writing down, filtering

    /// Behind the source NAT, where the packet has its external endpoint and conntrack still tells the internal one.
    ///
    /// What filtering refuses is dropped only here, so that what hairpins is judged by its external source; the flow is
    /// not confirmed yet, and leaves no trace that could take a port (nf_conntrack_confirm runs last).
    private var track: String {
        let inward = "oifname \"lan0\" meta l4proto udp ct status dnat"
        let target = "ct original ip daddr . ct original proto-dst"
        var rules: [String?] = [
            "oifname \"wan0\" meta l4proto udp jump record",
            behaviour.hairpin
                ? "iifname \"lan0\" oifname \"lan0\" meta l4proto udp ct status dnat jump record" : nil,
        ]
        if checksSenders {
            let remote = behaviour.filtering == .addressDependent ? "ip saddr" : "ip saddr . udp sport"
            rules += [
                nat.oneToOne.isEmpty ? nil : "\(inward) ct original ip daddr @one_to_one accept",
                udpForwards.isEmpty ? nil : "\(inward) \(target) @forwards accept",
                "\(inward) ct state new \(target) . \(remote) != @seen drop",
            ]
        }
        return chain("track", at: "filter hook postrouting priority srcnat + 50", rules)
    }

    private var record: String {
        let udp = "meta l4proto udp"
        var rules: [String] = []
        if !nat.oneToOne.isEmpty { rules.append("ip saddr @one_to_one return") }
        if !udpForwards.isEmpty {
            let original = "\(udp) ct direction original"
            rules += [
                "\(udp) ct direction reply ip saddr . udp sport @forwards return",
                "\(original) ip saddr . udp sport . \(source("original")) @forwarded return",
                "\(original) ip saddr . udp sport @forwards drop",
            ]
        }
        // A port that another mapping has: dropped before it is confirmed, so that the next packet gets another.
        for (index, address) in nat.externals.enumerated() {
            rules.append(
                "ip saddr \(address) \(udp) ct state new ct direction original udp sport @used\(index)"
                    + " udp sport . \(mappingKey("original")) != @owner\(index) drop")
        }
        for direction in ["original", "reply"] {
            let here = "\(udp) ct direction \(direction)"
            if keepsMappings {
                rules.append("\(here) update @outside { \(mappingKey(direction)) : ip saddr . udp sport }")
            }
            for (index, address) in nat.externals.enumerated() {
                let place = "ip saddr \(address) \(here)"
                if letsNewFlowsIn {
                    rules.append("\(place) update @inside\(index) { udp sport : \(source(direction)) }")
                }
                rules += [
                    "\(place) update @used\(index) { udp sport }",
                    "\(place) update @owner\(index) { udp sport . \(mappingKey(direction)) }",
                ]
            }
            if checksSenders {
                let port = behaviour.filtering == .addressDependent ? "" : " . ct \(direction) proto-dst"
                rules.append(
                    "\(here) update @seen { ip saddr . udp sport . ct \(direction) ip daddr\(port) }")
            }
        }
        return chain("record", rules)
    }

    /// Nobody outside reaches the router or, past the NAT, the LAN's own addresses.
    private var filter: String {
        let udp: String? =
            switch behaviour.udp {
            case .forward: nil
            case .drop: "meta l4proto udp drop"
            case .reject: "meta l4proto udp reject with icmp type admin-prohibited"
            }
        return chain(
            "input", at: "filter hook input priority filter", ["iifname \"wan0\" ct state new,invalid drop"])
            + chain(
                "forward", at: "filter hook forward priority filter",
                [udp, "iifname \"wan0\" ct state new,invalid ct status ! dnat drop"])
    }
}

/// Rules that take all that natlab's NATs ask of the kernel, to see whether it has that.
package let natRulesToTry = NftablesRules(
    PlannedNAT(
        engine: .nftables,
        behaviour: NATBehaviour(
            mapping: .addressDependent, filtering: .addressDependent, hairpin: true, udp: .reject),
        externals: [IPAddress(v4: 0xCB00_710A), IPAddress(v4: 0xCB00_710B)])
).text
