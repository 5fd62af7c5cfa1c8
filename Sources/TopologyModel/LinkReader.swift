// `link = { delay = "40ms", jitter = "5ms", loss = "2%", rate = "10mbit" }`
extension TopologyReader {
    /// Nil when something is wrong with it.
    func link(_ node: TOMLNode, of label: String) -> Topology.Link? {
        guard let entries = report.table(node, hint: "write it like link = { delay = \"40ms\" }") else {
            return nil
        }
        let valid = ["delay", "jitter", "loss", "rate"]
        var values: [String: Located<UInt64>] = [:]
        for entry in entries {
            switch entry.key {
            case "delay": values["delay"] = report.quantity(entry, .delay)
            case "jitter": values["jitter"] = report.quantity(entry, .jitter)
            case "loss": values["loss"] = report.quantity(entry, .loss)
            case "rate": values["rate"] = report.quantity(entry, .rate)
            default: unknown(entry, in: "the link of \(label)", valid: valid)
            }
        }
        // What could not be read is reported already.
        guard !report.lostKeys else { return nil }
        if entries.isEmpty {
            report.error(
                "`link` is empty", at: node.span, hint: "the keys here are \(valid.joined(separator: ", "))")
        }
        if let jitter = entries.first(where: { $0.key == "jitter" }) {
            check(jitter: jitter, values, entries)
        }
        return Topology.Link(
            delay: values["delay"]?.value ?? 0, jitter: values["jitter"]?.value ?? 0,
            loss: values["loss"]?.value ?? 0, rate: values["rate"]?.value)
    }

    private func check(jitter: TOMLNode, _ values: [String: Located<UInt64>], _ entries: [TOMLNode]) {
        guard let delay = entries.first(where: { $0.key == "delay" }) else {
            report.error(
                "`jitter` needs a `delay` to vary", at: jitter.keySpan,
                hint: "add the delay, as in delay = \"40ms\"")
            return
        }
        guard let most = values["delay"], let wanted = values["jitter"], wanted.value > most.value else {
            return
        }
        report.error(
            "`jitter` is greater than the delay: a packet cannot arrive before it is sent", at: wanted.span,
            notes: [.init("the delay is given here", at: delay.span)])
    }
}

/// A number with a unit: which units there are and how much of it may be.
struct Quantity {
    struct Unit {
        var name: String
        /// In the smallest unit that can be told.
        var scale: UInt64
    }

    var units: [Unit]
    /// In the smallest unit that can be told.
    var range: ClosedRange<UInt64>
    var least: String
    var most: String
    /// The smallest part of it that can be told.
    var finest: String
    var example: String

    /// In microseconds.
    private static let time = [
        Unit(name: "us", scale: 1), Unit(name: "ms", scale: 1000), Unit(name: "s", scale: 1_000_000),
    ]

    static let delay = Quantity(
        units: time, range: 1...10_000_000, least: "1us", most: "10s", finest: "1us",
        example: "40ms")

    /// At most two seconds: netem takes twice the jitter in nanoseconds modulo 2^32 (tabledist in the kernel's
    /// net/sched/sch_netem.c).
    static let jitter = Quantity(
        units: time, range: 1...2_000_000, least: "1us", most: "2s", finest: "1us", example: "5ms")

    /// In parts per million.
    static let loss = Quantity(
        units: [Unit(name: "%", scale: 10_000)], range: 0...1_000_000, least: "0%", most: "100%",
        finest: "0.0001%", example: "2%")

    /// In bit/s, with the SI's prefixes, as tc(8) has them.
    static let rate = Quantity(
        units: [
            Unit(name: "bit", scale: 1), Unit(name: "kbit", scale: 1000),
            Unit(name: "mbit", scale: 1_000_000),
            Unit(name: "gbit", scale: 1_000_000_000),
        ], range: 1000...100_000_000_000, least: "1kbit", most: "100gbit", finest: "1bit",
        example: "10mbit")

    /// As in `"us", "ms" or "s"`.
    var unitList: String {
        let names = units.map { "\"\($0.name)\"" }
        guard let last = names.last, names.count > 1 else { return names.joined() }
        return names.dropLast().joined(separator: ", ") + " or " + last
    }

    enum Reading {
        /// What is beyond every range is `UInt64.max`.
        case value(UInt64)
        case notANumber
        /// It has digits below the smallest part that can be told.
        case tooFine
    }

    /// Digits, perhaps with a fraction, times the scale.
    static func read(_ number: Substring, scale: UInt64) -> Reading {
        let parts = number.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count <= 2, parts.allSatisfy({ !$0.isEmpty && $0.utf8.allSatisfy(isDigit) }) else {
            return .notANumber
        }
        let whole = digits(parts[0]).multipliedReportingOverflow(by: scale)
        guard !whole.overflow else { return .value(.max) }
        var value = whole.partialValue
        var weight = scale
        for digit in parts.dropFirst().joined().utf8 where digit != 0x30 || weight > 1 {
            guard weight.isMultiple(of: 10) else { return .tooFine }
            weight /= 10
            let sum = value.addingReportingOverflow(weight * UInt64(digit - 0x30))
            guard !sum.overflow else { return .value(.max) }
            value = sum.partialValue
        }
        return .value(value)
    }

    private static func digits(_ text: Substring) -> UInt64 {
        let kept = text.drop { $0 == "0" }
        return kept.isEmpty ? 0 : UInt64(kept) ?? .max
    }

    static func isDigit(_ byte: UInt8) -> Bool { (0x30...0x39).contains(byte) }
}

extension Reporter {
    /// A number with a unit in the smallest unit that can be told; reported and nil when it is none.
    func quantity(_ node: TOMLNode, _ kind: Quantity) -> Located<UInt64>? {
        let wants = "from \"\(kind.least)\" to \"\(kind.most)\""
        guard case .string(let text) = node.value else {
            var hint: String?
            // The second of several is the usual one: ms, kbit.
            if case .integer(let value) = node.value, let unit = kind.units.prefix(2).last {
                hint = "write it with its unit: \(node.key) = \"\(value)\(unit.name)\""
            }
            wrongType(node, wants: "a string \(wants)", hint: hint)
            return nil
        }
        let number = text.prefix { $0 == "." || ($0.isASCII && $0.isNumber) }
        let unit = text[number.endIndex...]
        let example = "write it like \"\(kind.example)\""
        guard let known = kind.units.first(where: { $0.name == unit }) else {
            let meant = kind.units.first { $0.name == unit.lowercased().filter { $0 != " " } }
            error(
                number.isEmpty
                    ? "\"\(text)\" is not a \(node.key)"
                    : unit.isEmpty ? "\"\(text)\" has no unit" : "\"\(unit)\" is not a unit of a \(node.key)",
                at: node.span,
                hint: meant.map { "did you mean \"\(number)\($0.name)\"?" }
                    ?? "its unit is \(kind.unitList); \(example)")
            return nil
        }
        let value: UInt64
        switch Quantity.read(number, scale: known.scale) {
        case .value(let read): value = read
        case .notANumber:
            error("\"\(text)\" is not a \(node.key)", at: node.span, hint: example)
            return nil
        case .tooFine:
            error(
                "\"\(text)\" is too fine: a \(node.key) is told to \"\(kind.finest)\"", at: node.span)
            return nil
        }
        guard kind.range.contains(value) else {
            error("`\(node.key)` is \"\(text)\"; it must be \(wants)", at: node.span)
            return nil
        }
        return Located(value, node.span)
    }
}
