package import NetAddress
import NetlinkWire
package import SystemCalls

/// A UDP packet that a rule of a firewall, or a chain's policy, has dropped.
package struct PacketDrop: Sendable, Hashable, Codable {
    /// As the packet came to the base chain that dropped it: behind a NAT, translated.
    ///
    /// Port 0 in a fragment that is not the first.
    package var source: Endpoint
    package var destination: Endpoint
    /// As nft(8) calls it: "ip", "ip6", "inet", "bridge".
    package var family: String
    package var table: String
    package var chain: String
    /// Of the base chain: "prerouting", "input", "forward", "output", "postrouting".
    package var hook: String?
    /// The rule in nft's words, without what it counts: "iifname \"wan0\" ct state invalid,new drop".
    ///
    /// Nil for a policy, and for a rule that is not there any more.
    package var rule: String?
    package var isPolicy: Bool
    /// Whether the rule also tells the sender.
    package var isReject: Bool
    /// Names; nil where the packet has none at that hook, or the interface is gone.
    package var inInterface: String?
    package var outInterface: String?
    /// Octets of UDP payload.
    package var payloadSize: Int?
    /// Nanoseconds since the Unix epoch, when it was read.
    package var time: Int64

    package init(
        source: Endpoint, destination: Endpoint, family: String, table: String, chain: String,
        hook: String? = nil, rule: String? = nil, isPolicy: Bool = false, isReject: Bool = false,
        inInterface: String? = nil, outInterface: String? = nil, payloadSize: Int? = nil, time: Int64
    ) {
        self.source = source
        self.destination = destination
        self.family = family
        self.table = table
        self.chain = chain
        self.hook = hook
        self.rule = rule
        self.isPolicy = isPolicy
        self.isReject = isReject
        self.inInterface = inInterface
        self.outInterface = outInterface
        self.payloadSize = payloadSize
        self.time = time
    }

    private enum CodingKeys: String, CodingKey {
        case source, destination, family, table, chain, hook, rule, time
        case isPolicy = "is_policy"
        case isReject = "is_reject"
        case inInterface = "in_interface"
        case outInterface = "out_interface"
        case payloadSize = "payload_size"
    }
}

/// Watches what the firewall of a namespace drops of the UDP packets of some addresses.
///
/// It sees what nftables drops, iptables-nft too: not the legacy iptables, nor what the kernel drops by itself (no route,
/// rp_filter, a full table of connections). At most 500 packets a second are followed. Not for several threads at once.
package final class DropWatch {
    private let namespace: NetworkNamespace
    private let trace: TraceSocket
    private var listing: RuleListing?
    private var names: [Int32: String]?
    /// Where each packet is, by the kernel's number of it.
    private var current: [UInt32: Visit] = [:]
    private var earlier: [UInt32: Visit] = [:]
    /// Why rules or interfaces of drops have no text, where they could not be listed.
    package private(set) var listingFailure: OperationFailure?

    private struct Visit {
        var headers: TracedHeaders
        var baseChain: String
    }

    /// The kernel's numbers of packets come again; of those that were not heard of for so many others, nothing is kept.
    private static let memory = 1024

    /// Begins to watch; from here on what is dropped is seen.
    ///
    /// Throws what `TraceSocket` throws where the kernel cannot trace; the caller goes on without.
    package init(_ namespace: NetworkNamespace, addresses: [IPAddress]) throws(OperationFailure) {
        self.namespace = namespace
        trace = try TraceSocket(namespace, addresses: addresses)
    }

    /// Readable when there is something to read, though it need not be a drop; it stays this object's.
    package var descriptor: Int32 { trace.descriptor }

    /// Whether something may have been missed, because it was not read in time.
    package var lostEvents: Bool { trace.hasLostEvents }

    /// What was dropped since the last call; does not wait.
    package func drops() throws(OperationFailure) -> [PacketDrop] {
        // A table that was made anew counts its handles from 1 again.
        listing = nil
        names = nil
        var drops: [PacketDrop] = []
        for event in try trace.events() {
            if let headers = event.headers { note(event, headers) }
            guard event.isDrop, let visit = current[event.packet] ?? earlier[event.packet] else { continue }
            drops.append(drop(event, visit))
        }
        return drops
    }

    /// The first event at a base chain is of that chain itself, and has the headers.
    private func note(_ event: TraceEvent, _ headers: TracedHeaders) {
        if current.count >= Self.memory {
            earlier = current
            current = [:]
        }
        current[event.packet] = Visit(headers: headers, baseChain: event.chain)
    }

    private func drop(_ event: TraceEvent, _ visit: Visit) -> PacketDrop {
        let family = Self.familyName(event.family)
        let rules = rules()
        let rule = event.handle.flatMap {
            rules.rule(family: family, table: event.table, chain: event.chain, handle: $0)
        }
        return PacketDrop(
            source: visit.headers.source, destination: visit.headers.destination, family: family,
            table: event.table, chain: event.chain,
            hook: rules.hook(family: family, table: event.table, chain: visit.baseChain), rule: rule,
            isPolicy: event.isPolicy, isReject: rule.map { RuleListing.rejects($0) } ?? false,
            inInterface: name(visit.headers.inInterface), outInterface: name(visit.headers.outInterface),
            payloadSize: visit.headers.payloadSize, time: wallClockNanoseconds())
    }

    // MARK: Names

    /// The rules as they are now, listed once a call of `drops` and only where something was dropped.
    private func rules() -> RuleListing {
        if let listing { return listing }
        var fresh = RuleListing()
        do throws(OperationFailure) {
            fresh = RuleListing(try namespace.nftRules())
        } catch {
            listingFailure = error
        }
        listing = fresh
        return fresh
    }

    private func name(_ index: Int32?) -> String? {
        guard let index else { return nil }
        if names == nil {
            do throws(OperationFailure) {
                let links = try RouteSocket(namespace).links()
                names = Dictionary(links.map { ($0.index, $0.name) }) { first, _ in first }
            } catch {
                listingFailure = error
                names = [:]
            }
        }
        return names?[index]
    }

    /// NFPROTO_* of linux/netfilter.h.
    private static func familyName(_ family: UInt8) -> String {
        switch family {
        case 1: "inet"
        case 2: "ip"
        case 3: "arp"
        case 5: "netdev"
        case 7: "bridge"
        case 10: "ip6"
        default: "family \(family)"
        }
    }
}
