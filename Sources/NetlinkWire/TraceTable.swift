import CMNL
import CNLGenl
import Glibc
import NetAddress

/// The nftables table that marks packets for tracing.
///
/// As nft(8) lists it:
///
///     table inet natlab-why {
///         flags owner
///         set v4 { type ipv4_addr; elements = { ADDRESS, ... } }
///         chain trace { limit rate 500/second burst 500 packets meta nftrace set 1 }
///         chain choose {
///             meta l4proto != udp return
///             meta protocol ip @nh,96,32 @v4 goto trace     (the source address)
///             meta protocol ip @nh,128,32 @v4 goto trace    (the destination address)
///         }
///         chain prerouting { type filter hook prerouting priority -350; policy accept; jump choose }
///         chain output { type filter hook output priority -350; policy accept; jump choose }
///     }
///
/// likewise for IPv6 where there are such addresses, and in the same transaction the same for the bridge family. It
/// belongs to the socket that makes it, with which it goes. Source: linux/netfilter/nf_tables.h.
struct TraceTable {
    let name: String
    /// IPv4's, then IPv6's; those that have no addresses are left out.
    private let choices: [Choice]
    /// NFPROTO_*.
    let families: [UInt8]

    init(name: String, addresses: [IPAddress], families: [UInt8]) {
        self.name = name
        self.families = families
        let known = Set(addresses)
        choices = [true, false].compactMap { isV4 in
            let members = known.filter { $0.isV4 == isV4 }.sorted()
            return members.isEmpty ? nil : Choice(isV4: isV4, addresses: members)
        }
    }

    /// The addresses of one version of IP: a set of the table.
    private struct Choice {
        let isV4: Bool
        let addresses: [IPAddress]

        var name: String { isV4 ? "v4" : "v6" }
        /// Octets of an address.
        var length: UInt32 { isV4 ? 4 : 16 }
        /// As nft(8) numbers its types, which only a listing asks for.
        var type: UInt32 { isV4 ? 7 : 8 }
        var ethertype: [UInt8] { isV4 ? [0x08, 0x00] : [0x86, 0xDD] }
        /// Of the IPv4 header (RFC 791 section 3.1), of the IPv6 header (RFC 8200 section 3).
        var places: [(field: String, offset: UInt32)] {
            isV4 ? [("ip saddr", 12), ("ip daddr", 16)] : [("ip6 saddr", 8), ("ip6 daddr", 24)]
        }
    }

    /// Each packet makes some twenty events of half a kilobyte or less; so many a second are read easily.
    private static let rate: UInt32 = 500
    /// Behind the putting together of fragments (NF_IP_PRI_CONNTRACK_DEFRAG, -400), before everything else.
    private static let priority: Int32 = -350

    var requests: [RouteRequest] { families.flatMap { requests($0) } }

    private func requests(_ family: UInt8) -> [RouteRequest] {
        var requests = [table(family)]
        requests += choices.map { set($0, family) }
        requests += [chain("trace", family), chain("choose", family)]
        requests += [limitedTrace, skipOthers].map { rule($0, family) }
        requests += choices.flatMap { rules($0) }.map { rule($0, family) }
        for (name, hook) in [("prerouting", NF_INET_PRE_ROUTING), ("output", NF_INET_LOCAL_OUT)] {
            requests.append(chain(name, family, hook: hook.rawValue))
            let jump = Rule("jump to choose", in: name) { $0.verdict(NFT_JUMP.rawValue, "choose") }
            requests.append(rule(jump, family))
        }
        return requests
    }

    /// The addresses, in transactions to follow that of `requests`: all in one might be too much for one datagram.
    var fillings: [[RouteRequest]] {
        choices.flatMap { choice in
            stride(from: 0, to: choice.addresses.count, by: Self.share).map { first in
                let share = Array(choice.addresses[first...].prefix(Self.share))
                return families.map { elements(share, of: choice, $0) }
            }
        }
    }

    /// Of addresses in one message: 7 kB of IPv6's, where a nest may have 64.
    private static let share = 256

    private func table(_ family: UInt8) -> RouteRequest {
        request("create", "table", NFT_MSG_NEWTABLE, NLM_F_EXCL, family) { attributes in
            attributes.put(NFTA_TABLE_NAME, name)
            attributes.put(NFTA_TABLE_FLAGS, NFT_TABLE_F_OWNER.rawValue.bigEndian)
        }
    }

    private func set(_ choice: Choice, _ family: UInt8) -> RouteRequest {
        request("create", "set \(choice.name)", NFT_MSG_NEWSET, NLM_F_EXCL, family) { attributes in
            attributes.put(NFTA_SET_TABLE, name)
            attributes.put(NFTA_SET_NAME, choice.name)
            attributes.put(NFTA_SET_KEY_TYPE, choice.type.bigEndian)
            attributes.put(NFTA_SET_KEY_LEN, choice.length.bigEndian)
            // Names the set within the transaction; the kernel insists on one.
            attributes.put(NFTA_SET_ID, choice.type.bigEndian)
        }
    }

    private func elements(_ addresses: [IPAddress], of choice: Choice, _ family: UInt8) -> RouteRequest {
        request("fill", "set \(choice.name)", NFT_MSG_NEWSETELEM, 0, family) { attributes in
            attributes.put(NFTA_SET_ELEM_LIST_TABLE, name)
            attributes.put(NFTA_SET_ELEM_LIST_SET, choice.name)
            attributes.nest(NFTA_SET_ELEM_LIST_ELEMENTS) { list in
                for address in addresses {
                    list.nest(NFTA_LIST_ELEM) { element in
                        element.nest(NFTA_SET_ELEM_KEY) { $0.put(NFTA_DATA_VALUE, bytes: address.bytes) }
                    }
                }
            }
        }
    }

    /// - Parameter hook: NF_INET_*, which NF_BR_* equal; nil for a chain that is jumped to.
    private func chain(_ chain: String, _ family: UInt8, hook: UInt32? = nil) -> RouteRequest {
        request("create", "chain \(chain)", NFT_MSG_NEWCHAIN, NLM_F_EXCL, family) { attributes in
            attributes.put(NFTA_CHAIN_TABLE, name)
            attributes.put(NFTA_CHAIN_NAME, chain)
            guard let hook else { return }
            attributes.nest(NFTA_CHAIN_HOOK) { place in
                place.put(NFTA_HOOK_HOOKNUM, hook.bigEndian)
                place.put(NFTA_HOOK_PRIORITY, UInt32(bitPattern: Self.priority).bigEndian)
            }
            attributes.put(NFTA_CHAIN_TYPE, "filter")
        }
    }

    // MARK: Rules

    private struct Rule {
        var chain: String
        /// For errors.
        var text: String
        var expressions: @Sendable (inout ExpressionWriter) -> Void

        init(
            _ text: String, in chain: String,
            _ expressions: @escaping @Sendable (inout ExpressionWriter) -> Void
        ) {
            self.chain = chain
            self.text = text
            self.expressions = expressions
        }
    }

    private func rule(_ rule: Rule, _ family: UInt8) -> RouteRequest {
        request("add", "rule \(rule.text)", NFT_MSG_NEWRULE, NLM_F_APPEND, family) { attributes in
            attributes.put(NFTA_RULE_TABLE, name)
            attributes.put(NFTA_RULE_CHAIN, rule.chain)
            attributes.nest(NFTA_RULE_EXPRESSIONS) { list in
                var writer = ExpressionWriter(list)
                rule.expressions(&writer)
                list = writer.attributes
            }
        }
    }

    private var limitedTrace: Rule {
        Rule("meta nftrace set 1", in: "trace") { rule in
            rule.limit(perSecond: Self.rate)
            rule.setMeta(NFT_META_NFTRACE.rawValue, [1])
        }
    }

    private var skipOthers: Rule {
        Rule("meta l4proto != udp return", in: "choose") { rule in
            rule.loadMeta(NFT_META_L4PROTO.rawValue)
            rule.compare(NFT_CMP_NEQ, [UInt8(IPPROTO_UDP)])
            rule.verdict(NFT_RETURN.rawValue)
        }
    }

    private func rules(_ choice: Choice) -> [Rule] {
        choice.places.map { field, offset in
            Rule("\(field) @\(choice.name)", in: "choose") { rule in
                // ETH_P_*: the one word for it that IP and bridge chains have in common.
                rule.loadMeta(NFT_META_PROTOCOL.rawValue)
                rule.compare(NFT_CMP_EQ, choice.ethertype)
                rule.loadNetworkHeader(offset, choice.length)
                rule.lookUp(choice.name)
                rule.verdict(NFT_GOTO.rawValue, "trace")
            }
        }
    }

    private func request(
        _ operation: String, _ object: String, _ message: nf_tables_msg_types, _ flags: Int32,
        _ family: UInt8,
        attributes: @escaping @Sendable (inout RouteAttributeWriter) -> Void
    ) -> RouteRequest {
        var header = nfgenmsg()
        header.nfgen_family = family
        return RouteRequest(
            operation, "\(object) for tracing", type: Int(nftablesType(message)), flags: NLM_F_CREATE | flags,
            header: header, attributes: attributes)
    }
}

/// All values pass through it.
private let register = NFT_REG_1.rawValue.bigEndian

/// Appends nftables expressions to a rule.
private struct ExpressionWriter {
    var attributes: RouteAttributeWriter

    init(_ attributes: RouteAttributeWriter) { self.attributes = attributes }

    private mutating func expression(_ name: String, _ body: (inout RouteAttributeWriter) -> Void) {
        attributes.nest(NFTA_LIST_ELEM) { element in
            element.put(NFTA_EXPR_NAME, name)
            element.nest(NFTA_EXPR_DATA, body)
        }
    }

    mutating func loadMeta(_ key: UInt32) {
        expression("meta") { meta in
            meta.put(NFTA_META_KEY, key.bigEndian)
            meta.put(NFTA_META_DREG, register)
        }
    }

    mutating func setMeta(_ key: UInt32, _ value: [UInt8]) {
        expression("immediate") { immediate in
            immediate.put(NFTA_IMMEDIATE_DREG, register)
            immediate.nest(NFTA_IMMEDIATE_DATA) { $0.put(NFTA_DATA_VALUE, bytes: value) }
        }
        expression("meta") { meta in
            meta.put(NFTA_META_KEY, key.bigEndian)
            meta.put(NFTA_META_SREG, register)
        }
    }

    mutating func loadNetworkHeader(_ offset: UInt32, _ length: UInt32) {
        expression("payload") { payload in
            payload.put(NFTA_PAYLOAD_DREG, register)
            payload.put(NFTA_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER.rawValue.bigEndian)
            payload.put(NFTA_PAYLOAD_OFFSET, offset.bigEndian)
            payload.put(NFTA_PAYLOAD_LEN, length.bigEndian)
        }
    }

    mutating func compare(_ operation: nft_cmp_ops, _ value: [UInt8]) {
        expression("cmp") { comparison in
            comparison.put(NFTA_CMP_SREG, register)
            comparison.put(NFTA_CMP_OP, operation.rawValue.bigEndian)
            comparison.nest(NFTA_CMP_DATA) { $0.put(NFTA_DATA_VALUE, bytes: value) }
        }
    }

    /// Goes on with the rule only if the value is in the set.
    mutating func lookUp(_ set: String) {
        expression("lookup") { lookup in
            lookup.put(NFTA_LOOKUP_SET, set)
            lookup.put(NFTA_LOOKUP_SREG, register)
        }
    }

    mutating func limit(perSecond rate: UInt32) {
        expression("limit") { limit in
            limit.put(NFTA_LIMIT_RATE, structure: UInt64(rate).bigEndian)
            limit.put(NFTA_LIMIT_UNIT, structure: UInt64(1).bigEndian)
            limit.put(NFTA_LIMIT_BURST, rate.bigEndian)
        }
    }

    /// - Parameter chain: for NFT_JUMP and NFT_GOTO.
    mutating func verdict(_ code: Int32, _ chain: String? = nil) {
        expression("immediate") { immediate in
            immediate.put(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT.rawValue.bigEndian)
            immediate.nest(NFTA_IMMEDIATE_DATA) { data in
                data.nest(NFTA_DATA_VERDICT) { verdict in
                    verdict.put(NFTA_VERDICT_CODE, UInt32(bitPattern: code).bigEndian)
                    if let chain { verdict.put(NFTA_VERDICT_CHAIN, chain) }
                }
            }
        }
    }
}

extension RouteRequest {
    /// What comes between the two is one transaction of the subsystem.
    static func beginBatch(_ subsystem: Int32) -> RouteRequest { batch("begin", 0x10, subsystem) }
    static func endBatch(_ subsystem: Int32) -> RouteRequest { batch("end", 0x11, subsystem) }

    /// NFNL_MSG_BATCH_BEGIN and NFNL_MSG_BATCH_END, macros that do not import.
    private static func batch(_ operation: String, _ type: Int, _ subsystem: Int32) -> RouteRequest {
        var header = nfgenmsg()
        header.res_id = UInt16(truncatingIfNeeded: subsystem).bigEndian
        return RouteRequest(operation, "transaction", type: type, header: header)
    }
}

/// NFNL_SUBSYS_NFTABLES above, the message below.
func nftablesType(_ message: nf_tables_msg_types) -> UInt16 {
    UInt16(NFNL_SUBSYS_NFTABLES) << 8 | UInt16(truncatingIfNeeded: message.rawValue)
}

/// The enumerations of nf_tables.h come as they are named.
extension RouteAttributeWriter {
    fileprivate mutating func put(_ type: some RawRepresentable<UInt32>, _ value: UInt32) {
        put(Int(type.rawValue), value)
    }
    fileprivate mutating func put(_ type: some RawRepresentable<UInt32>, _ text: String) {
        put(Int(type.rawValue), text)
    }
    fileprivate mutating func put(_ type: some RawRepresentable<UInt32>, bytes: [UInt8]) {
        put(Int(type.rawValue), bytes: bytes)
    }
    fileprivate mutating func put(
        _ type: some RawRepresentable<UInt32>, structure value: some BitwiseCopyable
    ) {
        put(Int(type.rawValue), structure: value)
    }
    fileprivate mutating func nest(
        _ type: some RawRepresentable<UInt32>, _ body: (inout RouteAttributeWriter) -> Void
    ) {
        nest(Int(type.rawValue), body)
    }
}
