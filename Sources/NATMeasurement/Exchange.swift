import Glibc
import NetAddress
import SystemCalls

/// Which station of a measurement.
enum Side: Hashable, Sendable {
    case inside
    case outside
    /// One that watches a host of the lab.
    case tap(Int)
}

/// A packet to be sent, with a number in it by which it is known again wherever it arrives.
struct Shot: Hashable {
    enum Kind: Hashable {
        case udp
        case syn
        /// UDP in two fragments.
        case fragments(reversed: Bool)
    }
    var side: Side
    var source: Endpoint
    var destination: Endpoint
    var kind = Kind.udp

    static func outward(_ source: Endpoint, _ destination: Endpoint, _ kind: Kind = .udp) -> Shot {
        Shot(side: .inside, source: source, destination: destination, kind: kind)
    }

    static func inward(_ source: Endpoint, _ destination: Endpoint, _ kind: Kind = .udp) -> Shot {
        Shot(side: .outside, source: source, destination: destination, kind: kind)
    }
}

/// Where and how a shot arrived.
struct Sighting: Hashable {
    var side: Side
    var source: Endpoint
    var destination: Endpoint
    var time: MonotonicTime
    /// Since the very packet that arrived was sent, which may be a later try; nil for TCP.
    var delay: Duration?
}

/// An ICMP error about a shot.
struct ErrorSighting: Hashable {
    var side: Side
    var sender: IPAddress
    var type: UInt8
    var code: UInt8
    /// Of the packet that it returns.
    var source: Endpoint
    var destination: Endpoint
}

/// What became of a shot.
struct Outcome: Hashable {
    var shot: Shot
    var number: UInt32
    var sighting: Sighting?
    var error: ErrorSighting?

    var arrived: Bool { sighting != nil }
}

/// Sends and receives at both sides of a router.
final class Exchange {
    private let inside: Station
    private let outside: Station
    private let taps: [Station]
    private var hops: [Side: MACAddress] = [:]
    /// Tells this measurement's packets from all others.
    private let run = UInt64.random(in: .min ... .max)
    private var lastNumber: UInt32 = 0
    private var identification = UInt16.random(in: .min ... .max)
    /// When each try of a shot was sent.
    private var sent: [UInt32: [MonotonicTime]] = [:]
    private var sightings: [UInt32: Sighting] = [:]
    private var errors: [UInt32: ErrorSighting] = [:]
    /// How long to wait for what has been sent.
    var patience: Duration
    /// How often to send what does not arrive.
    let tries: Int
    private let isCancelled: () -> Bool

    init(
        inside: Station, outside: Station, taps: [Station], patience: Duration, tries: Int,
        isCancelled: @escaping () -> Bool
    ) {
        self.inside = inside
        self.outside = outside
        self.taps = taps
        self.patience = patience
        self.tries = tries
        self.isCancelled = isCancelled
    }

    /// Finds the router's hardware addresses on both sides, and lets it find those of all hosts; how long the
    /// answers took, together.
    func findRouter(inside gateway: IPAddress, outside external: IPAddress) throws(OperationFailure)
        -> Duration
    {
        let start = MonotonicTime.now()
        var took: [Side: Duration] = [:]
        let questions = [(Side.inside, inside, gateway), (Side.outside, outside, external)]
        var wait = patience
        for _ in 0..<7 {
            for (side, station, address) in questions where hops[side] == nil {
                try station.ask(for: address)
            }
            _ = try self.wait(wait) {
                for (side, station, address) in questions where hops[side] == nil {
                    guard let found = station.neighbour(address) else { continue }
                    hops[side] = found
                    took[side] = MonotonicTime.now() - start
                }
                return hops.count == questions.count
            }
            if hops.count == questions.count { return took.values.reduce(.zero, +) }
            wait = min(wait * 2, .seconds(2))
        }
        let silent = questions.filter { hops[$0.0] == nil }.map { "\($0.2)" }
        throw OperationFailure(
            "find router", silent.joined(separator: " and "), errno: EHOSTUNREACH, detail: "no answer to ARP")
    }

    /// Sends the shots, waits until each has arrived or an ICMP error about it has, and sends those again
    /// that have not.
    func deliver(_ shots: [Shot], tries: Int? = nil) throws(OperationFailure) -> [Outcome] {
        let numbered = shots.map { shot in
            lastNumber += 1
            return (number: lastNumber, shot: shot)
        }
        func isSettled(_ number: UInt32) -> Bool { sightings[number] != nil || errors[number] != nil }
        for _ in 0..<(tries ?? self.tries) {
            let missing = numbered.filter { !isSettled($0.number) }
            if missing.isEmpty { break }
            for (number, shot) in missing { try send(shot, number) }
            _ = try wait(patience) { missing.allSatisfy { isSettled($0.number) } }
        }
        return numbered.map { outcome(of: $0.number, $0.shot) }
    }

    /// Sends a shot as often as one that does not arrive, at once and without waiting; ask `outcome` later.
    ///
    /// For what need not arrive, or at one moment only.
    func insist(_ shot: Shot) throws(OperationFailure) -> UInt32 {
        lastNumber += 1
        for _ in 0..<tries { try send(shot, lastNumber) }
        return lastNumber
    }

    func outcome(of number: UInt32, _ shot: Shot) -> Outcome {
        Outcome(shot: shot, number: number, sighting: sightings[number], error: errors[number])
    }

    /// Sends an ICMP "port unreachable" about a shot as it has arrived.
    func refuse(_ number: UInt32, _ sighting: Sighting) throws(OperationFailure) {
        errors[number] = nil
        let payload = self.payload(number, attempt: 0)
        let udp = UDPDatagram(
            from: sighting.source.port, to: sighting.destination.port, payload: payload)
        let (source, destination) = (sighting.source.address, sighting.destination.address)
        let seen = packet(
            from: source, to: destination, proto: IPv4Packet.udp,
            payload: udp.bytes(from: source, to: destination))
        let error = ICMPError(code: ICMPError.portUnreachable, about: seen.bytes)
        try send(
            packet(from: destination, to: source, proto: IPv4Packet.icmp, payload: error.bytes),
            at: sighting.side)
    }

    /// Receives until the condition holds or the time is over; whether it held.
    ///
    /// Throws ECANCELED when the measurement has been cancelled.
    func wait(_ time: Duration, until condition: () -> Bool) throws(OperationFailure) -> Bool {
        let deadline = MonotonicTime.now() + time
        while true {
            try receive()
            if condition() { return true }
            if isCancelled() { throw OperationFailure("measure", "router", errno: ECANCELED) }
            let left = min(deadline.millisecondsLeft(), Self.longestSleep)
            guard left > 0 else { return false }
            var entries = stations.map {
                pollfd(fd: $0.1.pollDescriptor, events: Int16(POLLIN), revents: 0)
            }
            _ = poll(&entries, nfds_t(entries.count), left)
        }
    }

    /// Milliseconds after which it is asked again whether the measurement has been cancelled.
    private static let longestSleep: Int32 = 100

    // MARK: Sending

    private func send(_ shot: Shot, _ number: UInt32) throws(OperationFailure) {
        let (source, destination) = (shot.source.address, shot.destination.address)
        if shot.kind == .syn {
            let segment = TCPSyn(
                from: shot.source.port, to: shot.destination.port, sequence: firstSequence &+ number)
            let bytes = segment.bytes(from: source, to: destination)
            try send(
                packet(from: source, to: destination, proto: IPv4Packet.tcp, payload: bytes), at: shot.side)
            return
        }
        var payload = payload(number, attempt: sent[number, default: []].count)
        sent[number, default: []].append(.now())
        if shot.kind != .udp { payload += [UInt8](repeating: 0, count: Self.longPayload - payload.count) }
        let udp = UDPDatagram(from: shot.source.port, to: shot.destination.port, payload: payload)
        let whole = packet(
            from: source, to: destination, proto: IPv4Packet.udp,
            payload: udp.bytes(from: source, to: destination))
        guard case .fragments(let reversed) = shot.kind else { return try send(whole, at: shot.side) }
        let pieces = whole.fragments(size: Self.fragmentSize)
        for piece in reversed ? pieces.reversed() : pieces { try send(piece, at: shot.side) }
    }

    /// Two fragments' worth.
    private static let longPayload = 1000
    private static let fragmentSize = 512

    private func send(_ packet: IPv4Packet, at side: Side) throws(OperationFailure) {
        guard let hop = hops[side] else { return }
        switch side {
        case .inside: try inside.send(packet, by: hop)
        case .outside: try outside.send(packet, by: hop)
        case .tap: break
        }
    }

    private func packet(
        from source: IPAddress, to destination: IPAddress, proto: UInt8, payload: [UInt8]
    ) -> IPv4Packet {
        identification &+= 1
        return IPv4Packet(
            from: source, to: destination, proto: proto, identification: identification, payload: payload)
    }

    // MARK: Receiving

    private var stations: [(Side, Station)] {
        [(.inside, inside), (.outside, outside)] + taps.enumerated().map { (.tap($0), $1) }
    }

    private func receive() throws(OperationFailure) {
        for (side, station) in stations {
            while let packet = try station.receive() { take(packet, at: side) }
        }
    }

    private func take(_ packet: IPv4Packet, at side: Side) {
        switch packet.proto {
        case IPv4Packet.udp:
            guard let udp = UDPDatagram(packet.payload), let number = number(in: udp.payload) else { return }
            let now = MonotonicTime.now()
            note(
                number,
                Sighting(
                    side: side, source: Endpoint(packet.source, port: udp.sourcePort),
                    destination: Endpoint(packet.destination, port: udp.destinationPort), time: now,
                    delay: age(number, udp.payload, at: now)))
        case IPv4Packet.tcp:
            guard let segment = TCPSyn(packet.payload) else { return }
            let number = segment.sequence &- firstSequence
            guard number >= 1, number <= lastNumber else { return }
            note(
                number,
                Sighting(
                    side: side, source: Endpoint(packet.source, port: segment.sourcePort),
                    destination: Endpoint(packet.destination, port: segment.destinationPort), time: .now()))
        case IPv4Packet.icmp:
            // "Host unreachable": an ARP packet was lost, and the next try may come through.
            guard let error = ICMPError(packet.payload), !error.isHostUnreachable,
                let quoted = IPv4Packet(error.quoted, quoted: true),
                let udp = UDPDatagram(quoted.payload, quoted: true), let number = number(in: udp.payload)
            else { return }
            errors[number] = ErrorSighting(
                side: side, sender: packet.source, type: error.type, code: error.code,
                source: Endpoint(quoted.source, port: udp.sourcePort),
                destination: Endpoint(quoted.destination, port: udp.destinationPort))
        default: break
        }
    }

    private func note(_ number: UInt32, _ sighting: Sighting) {
        // The first counts: a later one is the same sent again.
        if sightings[number] == nil { sightings[number] = sighting }
    }

    // MARK: Numbers

    /// "natlab", the measurement, the number, which try: a length that neither WireGuard nor the rendezvous
    /// has.
    private func payload(_ number: UInt32, attempt: Int) -> [UInt8] {
        var payload = Self.mark
        payload.append32(UInt32(truncatingIfNeeded: run >> 32))
        payload.append32(UInt32(truncatingIfNeeded: run))
        payload.append32(number)
        payload.append(UInt8(clamping: attempt))
        return payload
    }

    private static let mark = Array("natlab".utf8)

    private func number(in payload: [UInt8]) -> UInt32? {
        guard payload.count >= 19, payload.starts(with: Self.mark),
            UInt64(payload.number32(at: 6)) << 32 | UInt64(payload.number32(at: 10)) == run
        else { return nil }
        return payload.number32(at: 14)
    }

    /// How long ago the try was sent that this is the payload of.
    private func age(_ number: UInt32, _ payload: [UInt8], at time: MonotonicTime) -> Duration? {
        guard let times = sent[number], Int(payload[18]) < times.count else { return nil }
        return time - times[Int(payload[18])]
    }

    /// TCP has no payload yet: the number is in the sequence number.
    private var firstSequence: UInt32 { UInt32(truncatingIfNeeded: run) }
}
