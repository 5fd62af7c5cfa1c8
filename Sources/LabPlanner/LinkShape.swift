/// What a link does to the packets of one direction; the other direction has the same by itself.
///
/// Applied where packets leave: at both ends of the link.
package struct LinkShape: Codable, Hashable, Sendable {
    /// Microseconds that every packet takes longer; 0 for none.
    package var delay: UInt64
    /// Microseconds, at most the delay, which varies evenly by so much up and down.
    package var jitter: UInt64
    /// Parts per million of the packets that get lost.
    package var loss: UInt64
    /// bit/s; nil for what the machine can do.
    package var rate: UInt64?

    private enum CodingKeys: String, CodingKey {
        case delay = "delay_us"
        case jitter = "jitter_us"
        case loss = "loss_ppm"
        case rate = "rate_bit_per_s"
    }

    package init(delay: UInt64 = 0, jitter: UInt64 = 0, loss: UInt64 = 0, rate: UInt64? = nil) {
        self.delay = delay
        self.jitter = jitter
        self.loss = loss
        self.rate = rate
    }

    /// Whether it is more than a rate, so that the kernel needs netem for it.
    package var changesPackets: Bool { delay > 0 || jitter > 0 || loss > 0 }
    package var isNothing: Bool { !changesPackets && rate == nil }
}

extension LinkShape: CustomStringConvertible {
    /// In the words of the topology: "delay 40ms, jitter 5ms, loss 2%, rate 10mbit".
    package var description: String {
        let time: [(UInt64, String)] = [(1_000_000, "s"), (1000, "ms"), (1, "us")]
        let bits: [(UInt64, String)] = [
            (1_000_000_000, "gbit"), (1_000_000, "mbit"), (1000, "kbit"), (1, "bit"),
        ]
        var words: [String] = []
        if delay > 0 { words.append("delay \(Self.text(delay, time))") }
        if jitter > 0 { words.append("jitter \(Self.text(jitter, time))") }
        if loss > 0 { words.append("loss \(Self.percent(loss))") }
        if let rate { words.append("rate \(Self.text(rate, bits))") }
        return words.isEmpty ? "nothing" : words.joined(separator: ", ")
    }

    /// In the largest unit that needs no fraction.
    private static func text(_ value: UInt64, _ units: [(scale: UInt64, name: String)]) -> String {
        for unit in units where value.isMultiple(of: unit.scale) {
            return "\(value / unit.scale)\(unit.name)"
        }
        return "\(value)"
    }

    private static func percent(_ ppm: UInt64) -> String {
        var fraction = String(10_000 + ppm % 10_000).dropFirst()
        while fraction.last == "0" { fraction.removeLast() }
        return "\(ppm / 10_000)" + (fraction.isEmpty ? "" : ".\(fraction)") + "%"
    }
}
