import CMNL
import Glibc

/// A queueing discipline: what becomes of the packets that leave an interface.
package enum QueueDiscipline: Hashable, Sendable {
    case netem(NetemSettings)
    case tokenBucket(TokenBucketSettings)

    /// As tc(8) calls it; the module is `sch_` and this.
    package var kind: String {
        switch self {
        case .netem: "netem"
        case .tokenBucket: "tbf"
        }
    }
}

/// Delay, loss and rate; tc-netem(8).
package struct NetemSettings: Hashable, Sendable {
    /// Nanoseconds.
    package var latency: Int64
    /// Nanoseconds, evenly up and down; 0 for none.
    ///
    /// Under 2^31: `tabledist` of sch_netem.c takes twice of it modulo 2^32.
    package var jitter: Int64
    /// Probability, 2^32 - 1 being 1.
    package var loss: UInt32
    /// Bytes of Ethernet frames a second; 0 for no limit.
    package var rate: UInt64
    /// Packets that are on their way or wait; what comes more is dropped.
    package var limit: UInt32

    package init(latency: Int64, jitter: Int64, loss: UInt32, rate: UInt64, limit: UInt32) {
        self.latency = latency
        self.jitter = jitter
        self.loss = loss
        self.rate = rate
        self.limit = limit
    }
}

/// A rate; tc-tbf(8).
package struct TokenBucketSettings: Hashable, Sendable {
    /// Bytes of Ethernet frames a second.
    package var rate: UInt64
    /// Bytes that may go at once after a pause; at least the largest frame, or that is dropped.
    package var burst: UInt32
    /// Bytes that wait; what comes more is dropped.
    package var limit: UInt32

    package init(rate: UInt64, burst: UInt32, limit: UInt32) {
        self.rate = rate
        self.burst = burst
        self.limit = limit
    }
}

extension RouteRequest {
    /// Puts a discipline at the root of an interface (`tc qdisc add dev NAME root handle 1:`).
    ///
    /// EEXIST when it has one already; ENOENT, "Specified qdisc kind is unknown", when the kernel has none of
    /// that kind and can load none. Source: linux/pkt_sched.h; netem_change and tbf_change in the kernel's
    /// net/sched.
    package static func addQueue(_ discipline: QueueDiscipline, index: Int32, name: String) -> RouteRequest {
        var header = tcmsg()
        header.tcm_ifindex = index
        header.tcm_handle = 1 << 16
        header.tcm_parent = TC_H_ROOT
        return RouteRequest(
            "add \(discipline.kind) to", name, type: RTM_NEWQDISC, flags: NLM_F_CREATE | NLM_F_EXCL,
            header: header
        ) { attributes in
            attributes.put(TCA_KIND, discipline.kind)
            attributes.nest(TCA_OPTIONS) { options in
                switch discipline {
                case .netem(let settings): putNetem(settings, &options)
                case .tokenBucket(let settings): putTokenBucket(settings, &options)
                }
            }
        }
    }

    /// Most segments that TCP may hand to the interface as one packet; 1 is no segmentation offload.
    ///
    /// Source: IFLA_GSO_MAX_SEGS, netif_set_gso_max_segs.
    package static func setSegmentsPerPacket(index: Int32, _ count: UInt32, name: String) -> RouteRequest {
        var header = ifinfomsg()
        header.ifi_index = index
        return RouteRequest("limit segments of", name, type: RTM_NEWLINK, header: header) { attributes in
            attributes.put(IFLA_GSO_MAX_SEGS, count)
        }
    }

    private static func putNetem(_ settings: NetemSettings, _ options: inout RouteAttributeWriter) {
        // Latency and jitter here would be in ticks of 64 ns; the attributes below take their place (since
        // Linux 4.16), so no clock has to be looked up.
        var fixed = tc_netem_qopt()
        fixed.limit = settings.limit
        fixed.loss = settings.loss
        options.structure(fixed)
        if settings.rate > 0 {
            var rate = tc_netem_rate()
            rate.rate = UInt32(clamping: settings.rate)
            options.put(TCA_NETEM_RATE, structure: rate)
            // get_rate takes the greater of the two.
            if settings.rate > UInt32.max { options.put(TCA_NETEM_RATE64, structure: settings.rate) }
        }
        options.put(TCA_NETEM_LATENCY64, structure: settings.latency)
        options.put(TCA_NETEM_JITTER64, structure: settings.jitter)
    }

    private static func putTokenBucket(
        _ settings: TokenBucketSettings, _ options: inout RouteAttributeWriter
    ) {
        var parameters = tc_tbf_qopt()
        parameters.rate.rate = UInt32(clamping: settings.rate)
        // Any known link layer: only for TC_LINKLAYER_UNAWARE does the kernel look at a table of transmission
        // times.
        parameters.rate.linklayer = UInt8(TC_LINKLAYER_ETHERNET.rawValue)
        parameters.limit = settings.limit
        options.put(TCA_TBF_PARMS, structure: parameters)
        // psched_ratecfg_precompute takes the greater of the two.
        if settings.rate > UInt32.max { options.put(TCA_TBF_RATE64, structure: settings.rate) }
        // In bytes, instead of `buffer` in ticks.
        options.put(TCA_TBF_BURST, settings.burst)
    }
}
