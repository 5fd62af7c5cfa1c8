import Glibc
package import LabPlanner
package import NetlinkWire
package import SystemCalls

extension QueueDiscipline {
    /// What makes one direction of a link as wanted.
    ///
    /// A rate beside a delay is netem's own and not that of a token bucket under it: netem counts the time on the
    /// wire from the packet before, so that a packet waits once, in one queue, in order, without a burst; and before
    /// Linux 6.13 netem did not see its child drop packets. A rate alone needs no netem, which many kernels lack.
    package init(_ shape: LinkShape) {
        let rate = shape.rate.map { $0 / 8 } ?? 0
        guard shape.changesPackets else {
            self = .tokenBucket(
                TokenBucketSettings(
                    rate: rate, burst: UInt32(clamping: max(Self.smallestBurst, rate / 250)),
                    limit: UInt32(clamping: max(10 * Self.frame, rate / 10))))
            return
        }
        let loss = shape.loss * UInt64(UInt32.max) / 1_000_000
        self = .netem(
            NetemSettings(
                latency: Int64(clamping: shape.delay) * 1000, jitter: Int64(clamping: shape.jitter) * 1000,
                loss: UInt32(clamping: loss), rate: rate, limit: Self.packets(shape, rate)))
    }

    /// Bytes of a full Ethernet frame.
    private static let frame: UInt64 = 1514
    /// 4 ms of the rate is what a busy machine may be late by; two frames, because a bucket must hold one.
    private static let smallestBurst = 2 * frame

    /// Room for what is on its way and for 100 ms that wait, as with a token bucket.
    ///
    /// netem counts packets, not bytes: what is on its way is taken for packets of 128 bytes, so that small ones get
    /// their rate too. Without a rate it is 250,000 packets a second, 3 Gbit/s of full frames.
    private static func packets(_ shape: LinkShape, _ rate: UInt64) -> UInt32 {
        let onTheirWay = shape.delay + shape.jitter
        guard rate > 0 else { return UInt32(clamping: 1000 + onTheirWay / 4) }
        let small = rate.multipliedReportingOverflow(by: onTheirWay).partialValue / 128_000_000
        return UInt32(clamping: max(10, rate / 10 / frame) + small)
    }
}

/// What the running kernel can do to the packets of a link.
///
/// Looked up by trying it on the `lo` of a namespace that is made for that and goes with its socket: only then has
/// the kernel loaded the module, if it has one.
package struct LinkAbilities: Hashable, Sendable {
    /// Delay, jitter and loss.
    package var hasNetem: Bool
    /// A rate alone.
    package var hasTokenBucket: Bool

    /// The least that each discipline is asked for, to see whether the kernel has it.
    static let netemProbe = QueueDiscipline(LinkShape(delay: 1000))
    static let tokenBucketProbe = QueueDiscipline(LinkShape(rate: 1_000_000))

    package static func look() throws(OperationFailure) -> LinkAbilities {
        LinkAbilities(
            hasNetem: try has(netemProbe),
            hasTokenBucket: try has(tokenBucketProbe))
    }

    private static func has(_ discipline: QueueDiscipline) throws(OperationFailure) -> Bool {
        let socket = try RouteSocket.inNewNamespace()
        do throws(OperationFailure) {
            // `lo` is always the first.
            try socket.perform(.addQueue(discipline, index: 1, name: "lo"))
            return true
        } catch {
            guard error.errno == ENOENT else { throw error }
            return false
        }
    }

    /// Throws when the kernel lacks what a link of the plan needs; names the first such link.
    static func check(_ plan: LabPlan) throws(OperationFailure) {
        let shaped = plan.nodes.filter { $0.link != nil }
        guard !shaped.isEmpty else { return }
        let abilities = try look()
        if !abilities.hasNetem, let node = shaped.first(where: { $0.link?.changesPackets == true }) {
            throw lack(
                "netem", of: node,
                "load it with `modprobe sch_netem` (Fedora has it in kernel-modules-extra), or use a kernel that has "
                    + "it, as Debian's; without it only `rate` works: take delay, jitter and loss out of the links"
            )
        }
        if !abilities.hasTokenBucket, let node = shaped.first(where: { $0.link?.changesPackets == false }) {
            throw lack("tbf", of: node, "load it with `modprobe sch_tbf`, or take `rate` out of the links")
        }
    }

    private static func lack(_ kind: String, of node: PlannedNode, _ mend: String) -> OperationFailure {
        OperationFailure(
            "shape the link of", "\(node.name) (\(node.link.map { "\($0)" } ?? ""))", errno: EOPNOTSUPP,
            detail: "the running kernel has no sch_\(kind)", mend: mend)
    }
}
