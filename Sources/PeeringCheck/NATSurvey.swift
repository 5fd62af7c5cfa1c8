package import LabPlanner
package import NATMeasurement
import NetAddress
import SystemCalls
import TopologyModel

/// From a lab's plan: from where each router is measured.
package struct NATSurvey {
    /// A measurement to make, and what it is of.
    package struct Job: Sendable {
        package var request: MeasurementRequest
        /// The composed behaviour that is expected of several NATs in a row; nil for a router by itself.
        package var theory: NATPath?
    }

    private let plan: LabPlan
    private let nodes: [String: PlannedNode]
    /// The other end of each veth, by "NAMESPACE INTERFACE".
    private let farEnds: [String: Port]
    private let theory: TraversalTheory
    /// Seconds; nil measures only short lifetimes that are declared.
    private let longestLifetime: Int?

    /// Lifetimes up to this many seconds are measured without being asked for.
    private static let shortLifetime = 60
    static let notAskedFor = "not asked for"
    private static let candidates = 16
    /// Ports in a block of which the measurement takes no large part.
    private static let roomyBlock = 256

    /// - Parameter longestLifetime: the longest lifetime to look for, in seconds, where the NAT declares none up to a minute.
    package init(_ plan: LabPlan, longestLifetime: Int? = nil) {
        self.plan = plan
        self.longestLifetime = longestLifetime
        nodes = Dictionary(plan.nodes.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        theory = TraversalTheory(plan)
        var ends: [String: Port] = [:]
        for step in plan.steps {
            guard case .makeVeth(let end, let other) = step.effect else { continue }
            ends["\(end.namespace) \(end.interface)"] = other
            ends["\(other.namespace) \(other.interface)"] = end
        }
        farEnds = ends
    }

    /// Each router at its own uplink, then each path through several NATs.
    ///
    /// - Parameter names: routers; empty for all.
    package func jobs(_ names: [String]) -> (routers: [Job], paths: [Job], problems: [String]) {
        let routers = plan.nodes.filter {
            $0.kind == .router && (names.isEmpty || names.contains($0.name))
        }
        var problems: [String] = []
        func job(_ node: PlannedNode, _ number: Int, composite: NATPath?) -> Job? {
            do throws(OperationFailure) {
                return Job(request: try request(node, number, composite: composite), theory: composite)
            } catch {
                let mend = error.mend.map { "; \($0)" } ?? ""
                problems.append("\(node.name) cannot be measured: \(error)\(mend)")
                return nil
            }
        }
        let single = routers.enumerated().compactMap { job($0.element, $0.offset, composite: nil) }
        let chains = routers.compactMap { node -> (PlannedNode, NATPath)? in
            let path = theory.composite(of: node.name)
            return node.translation != nil && path.hops.count > 1 ? (node, path) : nil
        }
        let composite = chains.enumerated().compactMap {
            job($0.element.0, $0.offset, composite: $0.element.1)
        }
        return (single, composite, problems)
    }

    // MARK: -

    private func request(
        _ node: PlannedNode, _ number: Int, composite: NATPath?
    ) throws(OperationFailure) -> MeasurementRequest {
        let outermost = composite?.hops.last.flatMap { nodes[$0.router] } ?? node
        guard let lan = address(node, "lan0"), let wan = address(outermost, "wan0"),
            let outside = farEnds["\(outermost.namespace) wan0"]
        else { throw OperationFailure("measure", node.name, detail: "it has no wan0 or no lan0 in the plan") }
        let inside = plan.nodes.first { $0.uplink == node.name }.flatMap { child in
            outerInterface(child).map { FarEnd(NetworkNamespace(child.namespace), $0) }
        }
        let above = composite.map { $0.hops.dropFirst().compactMap { nodes[$0.router]?.namespace } } ?? []
        let free = freeAddresses(in: lan, of: node.name)
        let freeOutside = freeAddresses(in: wan, of: outermost.uplink)
        guard free.count >= 2, freeOutside.count >= 3 else {
            let tight = free.count < 2 ? lan : wan
            throw OperationFailure(
                "measure", node.name,
                detail:
                    "\(tight.network) has no room for the probes' addresses (two in the LAN, three at the uplink)",
                mend: "give it a larger prefix")
        }
        let quality = linkQuality(node, outermost)
        return MeasurementRequest(
            router: node.name, scope: composite == nil ? .router : .composite,
            network: NetworkNamespace(node.namespace), above: above.map { NetworkNamespace($0) },
            inside: inside, lanAddress: lan.address, insideCandidates: free,
            outside: FarEnd(NetworkNamespace(outside.namespace), outside.interface),
            outsideCandidates: freeOutside,
            externalAddresses: outermost.translation?.externals ?? [wan.address],
            firstPort: firstPort(number), lifetime: composite == nil ? lifetime(node) : nil,
            roundTrip: quality.roundTrip, tries: quality.tries, forwards: forwards(node))
    }

    private func address(_ node: PlannedNode, _ interface: String) -> IPPrefix? {
        node.interfaces.first { $0.name == interface }?.address
    }

    private func outerInterface(_ node: PlannedNode) -> String? {
        switch node.kind {
        case .segment: nil
        case .router: "wan0"
        case .host: "eth0"
        }
    }

    /// From the end of the prefix, where nobody has an address by the plan.
    private func freeAddresses(in prefix: IPPrefix, of network: String?) -> [IPAddress] {
        var taken = Set(nodes[network ?? ""]?.interfaces.map(\.address.address) ?? [])
        for node in plan.nodes where node.uplink == network {
            taken.formUnion(node.interfaces.map(\.address.address))
            taken.formUnion(node.translation?.externals ?? [])
            taken.formUnion(node.translation?.oneToOne.map(\.external) ?? [])
        }
        let count = prefix.network.hostCount
        var free: [IPAddress] = []
        var number = UInt64(clamping: count)
        while number > 0, free.count < Self.candidates {
            if let address = prefix.network.host(number), !taken.contains(address) { free.append(address) }
            number -= 1
        }
        return free
    }

    /// Each measurement has ports of its own, and none of those that the lab's hosts use.
    private func firstPort(_ number: Int) -> UInt16 {
        let span = Int(MeasurementRequest.portSpan)
        let used =
            plan.tunnels.map { Int($0.listenPort) }
            + plan.nodes.flatMap { $0.translation?.forwards.map { Int($0.external.port) } ?? [] }
        let starts = stride(from: 1024, through: Int(MeasurementRequest.lastFirstPort), by: span).filter {
            start in
            !used.contains {
                (start..<start + span).contains($0) || (start + 32_768..<start + span + 32_768).contains($0)
            }
        }
        return UInt16(clamping: starts.isEmpty ? 1024 : starts[number % starts.count])
    }

    private func lifetime(_ node: PlannedNode) -> Int? {
        guard let nat = node.translation else { return nil }
        if let declared = nat.behaviour.udpTimeout, declared <= Self.shortLifetime {
            // Far enough to see it end.
            return declared + max(2, declared / 5)
        }
        return longestLifetime
    }

    private func forwards(_ node: PlannedNode) -> [StaticForward] {
        guard let nat = node.translation else { return [] }
        func end(_ host: String) -> FarEnd? {
            nodes[host].map { FarEnd(NetworkNamespace($0.namespace), "eth0") }
        }
        return nat.forwards.filter { $0.transport == .udp }.compactMap { forward in
            end(forward.host).map {
                StaticForward(
                    external: forward.external.address, externalPort: forward.external.port,
                    internal: forward.inner.address, internalPort: forward.inner.port, at: $0)
            }
        }
            + nat.oneToOne.compactMap { entry in
                end(entry.host).map { StaticForward(external: entry.external, internal: entry.inner, at: $0) }
            }
    }

    /// Of the links on the LAN by which the measurement sends and looks.
    private func worstLinkInside(_ node: PlannedNode) -> LinkShape? {
        let nat = node.translation
        let hosts = Set((nat?.forwards.map(\.host) ?? []) + (nat?.oneToOne.map(\.host) ?? []))
        let first = plan.nodes.first { $0.uplink == node.name }
        let links = ([first] + plan.nodes.filter { hosts.contains($0.name) }).compactMap { $0?.link }
        guard !links.isEmpty else { return nil }
        return LinkShape(
            delay: links.map(\.delay).max() ?? 0, jitter: links.map(\.jitter).max() ?? 0,
            loss: links.map(\.loss).max() ?? 0)
    }

    /// How long a packet takes there and back at the most, and how often to send what may get lost.
    private func linkQuality(_ node: PlannedNode, _ outermost: PlannedNode) -> (
        roundTrip: Duration, tries: Int
    ) {
        var links = [node.link, worstLinkInside(node)].compactMap(\.self)
        if node.name != outermost.name, let link = outermost.link { links.append(link) }
        var next = node.uplink
        while node.name != outermost.name, let above = next.flatMap({ nodes[$0] }),
            above.name != outermost.name
        {
            if let link = above.link { links.append(link) }
            next = above.uplink
        }
        let delay = links.reduce(UInt64(0)) { $0 + 2 * ($1.delay + $1.jitter) }
        let kept = links.reduce(1.0) { $0 * (1 - Double($1.loss) / 1e6) * (1 - Double($1.loss) / 1e6) }
        // Until the chance that all got lost is below one in a million.
        var tries = 3
        var chance = (1 - kept) * (1 - kept) * (1 - kept)
        while chance > 1e-6, tries < 40 {
            tries += 1
            chance *= 1 - kept
        }
        // A packet whose random port is taken is dropped, and the measurement takes many.
        if let behaviour = node.translation?.behaviour, behaviour.ports == .block,
            behaviour.blockSize < Self.roomyBlock
        {
            tries = max(tries, 16)
        }
        return (.microseconds(Int64(clamping: delay)), tries)
    }
}
