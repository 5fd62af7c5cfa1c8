import NetAddress
import TopologyModel

/// What follows from what was seen; no effects.
enum Classification {
    static let nothingArrived = "some of the packets did not arrive outside"

    // MARK: Mapping

    /// The external endpoints that one internal endpoint had towards four remote ones; nil where nothing
    /// arrived.
    struct MappingSample: Hashable {
        var internalEndpoint: Endpoint
        /// Two ports of one address, then the same two of another; the last may be left out.
        var external: [Endpoint?]
    }

    /// RFC 5780 section 4.3, over several internal endpoints: the most dependent counts, since a random port
    /// is now and then the same again.
    static func mapping(_ samples: [MappingSample]) -> Finding<NATDependence> {
        var found: (NATDependence, String)?
        for sample in samples {
            let seen = sample.external.compactMap { $0 }
            guard seen.count == sample.external.count, seen.count >= 3 else { return .none(nothingArrived) }
            let dependence: NATDependence =
                if seen.allSatisfy({ $0 == seen[0] }) {
                    .endpointIndependent
                } else if seen[0] != seen[1] || seen.count > 3 && seen[2] != seen[3] {
                    .addressAndPortDependent
                } else {
                    .addressDependent
                }
            if let found, found.0 >= dependence { continue }
            found = (dependence, "\(sample.internalEndpoint) was \(text(seen))")
        }
        guard let found else { return .none(nothingArrived) }
        return Finding(found.0, found.1)
    }

    /// "203.0.113.10:4000, 4001 and 4000", or one when all are the same.
    static func text(_ endpoints: [Endpoint]) -> String {
        guard let first = endpoints.first else { return "nothing" }
        if endpoints.allSatisfy({ $0 == first }) { return "\(first) to all" }
        guard endpoints.allSatisfy({ $0.address == first.address }) else {
            return endpoints.map(\.description).joined(separator: ", ")
        }
        return "\(first.address) port " + endpoints.map { "\($0.port)" }.joined(separator: ", ")
    }

    // MARK: Filtering

    /// Whether packets to three fresh mappings, each to one remote endpoint, were delivered.
    struct FilteringSample: Hashable {
        /// From that remote endpoint itself.
        var contacted: Bool
        /// From another port of the same address.
        var otherPort: Bool
        /// From an address that no mapping was ever to.
        var stranger: Bool
    }

    /// RFC 5780 section 4.4.
    static func filtering(_ sample: FilteringSample) -> Finding<NATDependence> {
        guard sample.contacted else {
            return .none("not even the answer of the endpoint that was sent to arrived")
        }
        switch (sample.stranger, sample.otherPort) {
        case (true, true): return Finding(.endpointIndependent, "let in an address that was never sent to")
        case (true, false):
            return .none("let in an address that was never sent to, but not another port of one that was")
        case (false, true):
            return Finding(
                .addressDependent, "let in another port of the address that was sent to, no other address")
        case (false, false):
            return Finding(.addressAndPortDependent, "let in the endpoint that was sent to, and no other")
        }
    }

    // MARK: Ports

    /// A new mapping; the samples are in the order in which they were made.
    struct PortSample: Hashable {
        /// Which of the hosts.
        var host: Int
        var internalPort: UInt16
        var externalPort: UInt16
    }

    static func preserved(_ samples: [PortSample]) -> Finding<Share> {
        share(samples, "had their internal port outside too") { $0.internalPort == $0.externalPort }
    }

    static func parity(_ samples: [PortSample]) -> Finding<Share> {
        share(samples, "kept odd ports odd and even ones even") {
            $0.internalPort & 1 == $0.externalPort & 1
        }
    }

    private static func share(
        _ samples: [PortSample], _ what: String, _ condition: (PortSample) -> Bool
    ) -> Finding<Share> {
        guard !samples.isEmpty else { return .none(nothingArrived) }
        let count = samples.count(where: condition)
        return Finding(Share(count, of: samples.count), "\(count) of \(samples.count) mappings \(what)")
    }

    /// Fewer tell nothing.
    static let fewestPorts = 8
    /// Another's mapping or two may have come between.
    private static let longestStep = 8
    /// The most ports that a host's block may span.
    private static let widestBlock = 8192

    static func ports(_ samples: [PortSample]) -> Finding<NATPorts> {
        guard samples.count >= fewestPorts else {
            return .none("only \(samples.count) mappings arrived outside")
        }
        let external = samples.map { Int($0.externalPort) }
        let kept = samples.count { $0.internalPort == $0.externalPort }
        // Another's mapping may have had one or two of them.
        if kept * 8 >= samples.count * 7 {
            return Finding(.preserve, "\(kept) of \(samples.count) mappings kept their port")
        }
        let steps = zip(external, external.dropFirst()).map { $1 - $0 }
        let small = steps.count { (1...longestStep).contains($0) }
        // One step may be the start over from the first port, one a bigger gap.
        if small >= steps.count - 2 { return Finding(.sequential, "ports \(list(external))") }
        let hosts = Set(samples.map(\.host)).sorted().map { host in
            samples.filter { $0.host == host }.map { Int($0.externalPort) }.sorted()
        }
        let spans = hosts.map { ($0.last ?? 0) - ($0.first ?? 0) }
        if spans.contains(where: { $0 > widestBlock }) { return Finding(.random, "ports \(list(external))") }
        guard hosts.count > 1 else {
            return .none("ports \(list(external)): one host alone does not tell a block from random ports")
        }
        let ranges = hosts.map { ($0.first ?? 0)...($0.last ?? 0) }.sorted { $0.lowerBound < $1.lowerBound }
        let disjoint = zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound < $1.lowerBound }
        return disjoint
            ? Finding(
                .block,
                "each host has its own: "
                    + ranges.map { "\($0.lowerBound)-\($0.upperBound)" }.joined(separator: ", "))
            : Finding(.random, "ports \(list(external))")
    }

    private static func list(_ ports: [Int]) -> String {
        ports.prefix(8).map(String.init).joined(separator: ", ") + (ports.count > 8 ? ", ..." : "")
    }

    /// Which external addresses each internal one was seen with.
    static func pooling(_ seen: [IPAddress: Set<IPAddress>], addresses: Int) -> Finding<NATPooling> {
        guard addresses > 1 else { return .none("there is one external address") }
        guard !seen.isEmpty else { return .none(nothingArrived) }
        let several = seen.filter { $0.value.count > 1 }.sorted { "\($0.key)" < "\($1.key)" }
        if let (host, external) = several.first {
            return Finding(
                .arbitrary, "\(host) was \(external.map(\.description).sorted().joined(separator: ", "))")
        }
        let pairs = seen.map { "\($0.key) was always \($0.value.first?.description ?? "")" }.sorted()
        return Finding(.paired, pairs.joined(separator: ", "))
    }

    // MARK: Lifetime

    /// Mappings that were tested once, at this age in seconds.
    static func lifetime(_ tested: [(age: Double, alive: Bool)]) -> Finding<Lifetime> {
        guard !tested.isEmpty else { return .none(nothingArrived) }
        let alive = tested.filter(\.alive).map(\.age).max() ?? 0
        // A packet that was lost looks like a mapping that was dead.
        let lost = tested.filter { !$0.alive && $0.age < alive }
        guard lost.count <= tested.count / 8 else {
            return .none(
                "\(lost.count) of \(tested.count) mappings were dead before one that lived \(seconds(alive))")
        }
        guard let dead = tested.filter({ !$0.alive && $0.age > alive }).map(\.age).min() else {
            return Finding(
                Lifetime(alive: alive, dead: nil), "alive after \(seconds(alive)), the longest tried")
        }
        return Finding(
            Lifetime(alive: alive, dead: dead), "alive after \(seconds(alive)), dead after \(seconds(dead))")
    }

    /// Whether mappings that had a packet at 60 % of their age were alive where those without one are dead.
    static func refresh(
        _ tested: [(age: Double, alive: Bool)], lifetime: Lifetime?, what: String
    ) -> Finding<Bool> {
        guard let lifetime else { return .none("the lifetime is not known") }
        guard let dead = lifetime.dead else {
            return .none("no mapping died within \(seconds(lifetime.alive))")
        }
        // Sure to be dead without the packet, and sure to be alive with it.
        let telling = tested.filter { $0.age > dead && $0.age * refreshPoint < lifetime.alive }
        guard !telling.isEmpty else {
            return .none("no mapping of a telling age: look for a longer lifetime")
        }
        let alive = telling.count(where: \.alive)
        let text =
            "\(alive) of \(telling.count) mappings older than \(seconds(dead)) were alive after \(what)"
        if alive * 2 == telling.count { return .none(text) }
        return Finding(alive * 2 > telling.count, text)
    }

    /// When the packet comes, as a part of the age at the test.
    static let refreshPoint = 0.6

    static func seconds(_ value: Double) -> String {
        let hundredths = Int((value * 100).rounded())
        return "\(hundredths / 100).\(hundredths % 100 < 10 ? "0" : "")\(hundredths % 100) s"
    }
}
