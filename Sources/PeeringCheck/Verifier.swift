import Glibc
package import LabPlanner
package import NetAddress
import SystemCalls
package import WireGuardControl
package import WireGuardKeys

/// What the rendezvous client of a tunnel says of one peer.
package struct ClientWord: Sendable {
    /// Attempts at reaching the peer since `up`.
    package var attempts: Int
    /// It has nothing to try: the server, asked at least three times, knows no usable address of the peer, or does
    /// not serve the client.
    package var cannotTry: Bool
    /// Its state in words.
    package var says: String
    /// When the client was ready.
    package var clientUp: WallTime?
    /// WireGuard's own time of the first handshake with this peer since the client was up.
    package var firstHandshake: WallTime?

    package init(
        attempts: Int, cannotTry: Bool, says: String, clientUp: WallTime?, firstHandshake: WallTime?
    ) {
        self.attempts = attempts
        self.cannotTry = cannotTry
        self.says = says
        self.clientUp = clientUp
        self.firstHandshake = firstHandshake
    }
}

/// One tunnel's means of being checked.
package struct TunnelAccess {
    package var tunnel: PlannedTunnel
    package var publicKey: PublicKey
    package var transport: any WireGuardTransport
    /// A raw, non-blocking ICMP (or ICMPv6) socket in the host's namespace, bound to the WireGuard interface.
    ///
    /// What it sends can leave by no other way. -1 (which poll(2) passes over) where the interface is gone.
    package var echoSocket: Int32

    package init(
        tunnel: PlannedTunnel, publicKey: PublicKey, transport: any WireGuardTransport, echoSocket: Int32
    ) {
        self.tunnel = tunnel
        self.publicKey = publicKey
        self.transport = transport
        self.echoSocket = echoSocket
    }
}

/// Checks all pairs in parallel: echoes both ways through each tunnel, and what WireGuard says of each session.
///
/// It only adds traffic: no peer is removed, reset or given another endpoint to get a verdict.
package final class Verifier {
    private struct Side {
        var tunnel: Int
        var peer: Int
        var evidence: SideEvidence
    }
    private struct Pair {
        var planned: PlannedPair
        var sides: [Side]
        var verdict: PairVerdict?
    }
    private struct Flight {
        var pair: Int
        var side: Int
        /// By CLOCK_REALTIME, as the kernel stamps the reply.
        var sent: Int64
    }

    private let tunnels: [TunnelAccess]
    private let judge: PairJudge
    private let words: (_ host: String, _ interface: String) -> [PublicKey: ClientWord]
    private let translation: (_ host: String, _ remote: Endpoint) -> EndpointTranslation?
    private let builtAt: WallTime
    private var nextRead = MonotonicTime.now()
    private let identifier = UInt16.random(in: 1...UInt16.max)
    private let token = (0..<8).map { _ in UInt8.random(in: 0...255) }
    private var pairs: [Pair] = []
    /// Echo requests under way, by sending tunnel and sequence number.
    private var flights: [[UInt16: Flight]]
    private var sequences: [UInt16]
    /// Interfaces whose program did not answer in time, which holds up everything else: asked again only later.
    private var stuck: [Int: Stuck] = [:]
    private struct Stuck {
        var failure: OperationFailure
        var askAgain: MonotonicTime
        var times: Int
    }

    /// How often echoes go out: at first quickly, as sessions come up within milliseconds.
    private static let quickInterval = Duration.milliseconds(100)
    private static let slowInterval = Duration.milliseconds(500)
    /// While a pair has no session, only one side sends for this long: two handshakes that cross leave both sides
    /// waiting for the other for WireGuard's REKEY_TIMEOUT of 5 s.
    private static let oneSided = Duration.milliseconds(1500)
    /// The first echo may have waited for the handshake; the second tells the round trip.
    private static let echoesForDirect = 2
    /// A pair that is expected not to connect is given this long beside its three attempts.
    private static let patienceForNone = Duration.seconds(3)
    /// An echo is this long inside the tunnel: longer than what a handshake (148 bytes at most) and a keepalive (32)
    /// add to a peer's count, so that they cannot pass for one.
    private static let echoSize = 256
    /// Between two questions to an interface that is stuck, and how many without an answer are enough.
    private static let stuckPause = Duration.seconds(1)
    private static let stuckTimes = 2

    /// - Parameters:
    ///   - wanted: the pairs to check; nil for all of the plan's.
    ///   - tunnels: one for each tunnel of the plan that could be opened; pairs that need another are judged without.
    ///   - words: what a tunnel's rendezvous client says, by peer key; asked again while pairs are open.
    ///   - translation: which router on a host's way shows it this remote endpoint in place of another.
    package init(
        plan: LabPlan, pairs wanted: [PlannedPair]? = nil, builtAt: WallTime, tunnels: [TunnelAccess],
        words: @escaping (_ host: String, _ interface: String) -> [PublicKey: ClientWord],
        translation: @escaping (_ host: String, _ remote: Endpoint) -> EndpointTranslation? = { _, _ in nil }
    ) {
        self.tunnels = tunnels
        self.words = words
        self.translation = translation
        self.builtAt = builtAt
        judge = PairJudge(
            addresses: AddressBook(plan), builtAt: builtAt,
            namesInterface: Set(plan.tunnels.map(\.interface)).count > 1)
        flights = tunnels.map { _ in [:] }
        sequences = tunnels.map { _ in 0 }
        let index = Dictionary(
            tunnels.enumerated().map { ([$0.element.tunnel.host, $0.element.tunnel.interface], $0.offset) },
            uniquingKeysWith: { first, _ in first })
        for planned in wanted ?? plan.pairs {
            guard let from = index[[planned.from, planned.interface]],
                let to = index[[planned.to, planned.interface]]
            else { continue }
            pairs.append(
                Pair(
                    planned: planned,
                    sides: [
                        Side(tunnel: from, peer: to, evidence: SideEvidence(host: planned.from)),
                        Side(tunnel: to, peer: from, evidence: SideEvidence(host: planned.to)),
                    ]))
        }
    }

    /// Runs until every pair is decided or the time is up.
    ///
    /// - Parameters:
    ///   - timeout: for the whole.
    ///   - isCancelled: asked several times a second; true decides what is open as if the time were up.
    ///   - progress: told after each change: how many pairs are decided, of how many.
    package func run(
        timeout: Duration, isCancelled: () -> Bool = { false },
        progress: (_ decided: Int, _ all: Int) -> Void
    ) -> [PairVerdict] {
        let start = MonotonicTime.now()
        let deadline = start + timeout
        readDevices(of: Set(pairs.flatMap { $0.sides.map(\.tunnel) }))
        var nextEcho = start
        var nextWords = start + Self.slowInterval
        progress(0, pairs.count)
        while pairs.contains(where: { $0.verdict == nil }) {
            var now = MonotonicTime.now()
            if now >= nextEcho {
                readDevicesWithoutSession()
                sendEchoes(elapsed: now - start)
                nextEcho = now + (now - start < .seconds(2) ? Self.quickInterval : Self.slowInterval)
            }
            if now >= nextWords {
                askClients()
                nextWords = now + Self.slowInterval
            }
            waitForReplies(until: min(nextEcho, deadline))
            now = MonotonicTime.now()
            if decide(elapsed: now - start, isLast: now >= deadline || isCancelled()) {
                progress(pairs.count { $0.verdict != nil }, pairs.count)
            }
        }
        addFirstHandshakes()
        return pairs.compactMap(\.verdict)
    }

    // MARK: - Evidence

    private func readDevice(_ index: Int) -> Result<WireGuardDevice, OperationFailure> {
        if let stuck = stuck[index], MonotonicTime.now() < stuck.askAgain { return .failure(stuck.failure) }
        do throws(OperationFailure) {
            let device = try tunnels[index].transport.read()
            stuck[index] = nil
            return .success(device)
        } catch {
            if error.errno == ETIMEDOUT {
                stuck[index] = Stuck(
                    failure: error, askAgain: .now() + Self.stuckPause, times: (stuck[index]?.times ?? 0) + 1)
            }
            return .failure(error)
        }
    }

    /// Whether a side's interface is dead: at once when it says so, after several questions when it says nothing.
    private func isBroken(_ side: Side) -> Bool {
        side.evidence.unreadable != nil && (stuck[side.tunnel]?.times ?? Self.stuckTimes) >= Self.stuckTimes
    }

    private func readDevices(of indexes: Set<Int>) {
        var devices: [Int: Result<WireGuardDevice, OperationFailure>] = [:]
        for index in indexes { devices[index] = readDevice(index) }
        for pair in pairs.indices where pairs[pair].verdict == nil {
            for side in pairs[pair].sides.indices {
                let (tunnel, peer) = (pairs[pair].sides[side].tunnel, pairs[pair].sides[side].peer)
                switch devices[tunnel] {
                case nil: continue
                case .success(let device):
                    pairs[pair].sides[side].evidence.unreadable = nil
                    pairs[pair].sides[side].evidence.peer = device.peer(tunnels[peer].publicKey)
                    let received = pairs[pair].sides[side].evidence.peer?.receivedBytes ?? 0
                    // The first look, or the count has begun anew: what was answered before is no evidence any more.
                    if (pairs[pair].sides[side].evidence.receivedBefore ?? .max) > received {
                        pairs[pair].sides[side].evidence.receivedBefore = received
                        pairs[pair].sides[side].evidence.echoesAnswered = 0
                    }
                case .failure(let failure):
                    let name = tunnels[tunnel].tunnel
                    pairs[pair].sides[side].evidence.unreadable =
                        "\(name.interface) of \(name.host) does not answer: \(failure)"
                    pairs[pair].sides[side].evidence.peer = nil
                }
            }
        }
    }

    private func askClients() {
        var known: [Int: [PublicKey: ClientWord]] = [:]
        for pair in pairs.indices where pairs[pair].verdict == nil {
            for side in pairs[pair].sides.indices {
                let (tunnel, peer) = (pairs[pair].sides[side].tunnel, pairs[pair].sides[side].peer)
                let all =
                    known[tunnel] ?? words(tunnels[tunnel].tunnel.host, tunnels[tunnel].tunnel.interface)
                known[tunnel] = all
                guard let word = all[tunnels[peer].publicKey] else { continue }
                pairs[pair].sides[side].evidence.attempts = word.attempts
                pairs[pair].sides[side].evidence.clientSays = word.says
                pairs[pair].sides[side].evidence.clientCannotTry = word.cannotTry
            }
        }
    }

    /// Whether both sides have had a handshake since `up`.
    private func hasSession(_ pair: Pair) -> Bool {
        pair.sides.allSatisfy { ($0.evidence.peer?.lastHandshake).map { $0 >= builtAt } ?? false }
    }

    /// Looks at the sides of pairs without a session, not more often than costs a third of the time.
    private func readDevicesWithoutSession() {
        let start = MonotonicTime.now()
        guard start >= nextRead else { return }
        let waiting = pairs.filter { $0.verdict == nil && !hasSession($0) }
        readDevices(of: Set(waiting.flatMap { $0.sides.map(\.tunnel) }))
        let end = MonotonicTime.now()
        nextRead = end + (end - start) * 2
    }

    /// The sides that may send now.
    ///
    /// A side without an endpoint never: WireGuard would use its one handshake in 5 s up on it.
    private func senders(_ pair: Pair, elapsed: Duration) -> [Int] {
        let able = pair.sides.indices.filter { pair.sides[$0].evidence.peer?.endpoint != nil }
        guard able.count == 2, elapsed < Self.oneSided, !hasSession(pair) else { return able }
        let keys = pair.sides.map { tunnels[$0.tunnel].publicKey.bytes }
        // The side that the rendezvous clients, too, let start.
        return [keys[0].lexicographicallyPrecedes(keys[1]) ? 0 : 1]
    }

    private func sendEchoes(elapsed: Duration) {
        for pair in pairs.indices where pairs[pair].verdict == nil {
            for side in senders(pairs[pair], elapsed: elapsed) {
                let (from, to) = (pairs[pair].sides[side].tunnel, pairs[pair].sides[side].peer)
                let address = tunnels[to].tunnel.address.address
                sequences[from] &+= 1
                let message = EchoMessage(
                    isV4: address.isV4, identifier: identifier, sequence: sequences[from], token: token)
                // Never longer than the interface takes in one piece.
                let headers = (address.isV4 ? 20 : 40) + message.request().count
                let size = max(headers, min(Self.echoSize, tunnels[from].tunnel.mtu))
                let request = message.request(padding: size - headers)
                pairs[pair].sides[side].evidence.echoSize = UInt64(size)
                flights[from][sequences[from]] = Flight(pair: pair, side: side, sent: wallClockNanoseconds())
                // A failed send (interface down) is an attempt like a lost packet; the verdict's
                // reason comes from what WireGuard knows, which says more than this errno.
                _ = SocketAddress(Endpoint(address, port: 0)).withPointer { target, length in
                    request.withUnsafeBytes {
                        sendto(
                            tunnels[from].echoSocket, $0.baseAddress, $0.count, Int32(MSG_DONTWAIT), target,
                            length)
                    }
                }
                pairs[pair].sides[side].evidence.echoesSent += 1
            }
        }
    }

    private func waitForReplies(until: MonotonicTime) {
        var polls = tunnels.map { pollfd(fd: $0.echoSocket, events: Int16(POLLIN), revents: 0) }
        guard poll(&polls, nfds_t(polls.count), until.millisecondsLeft()) > 0 else { return }
        for index in polls.indices where polls[index].revents != 0 { drain(index) }
    }

    private func drain(_ tunnel: Int) {
        let isV4 = tunnels[tunnel].tunnel.address.address.isV4
        // Bounded: other traffic on the interface must not keep the loop here.
        for _ in 0..<1024 {
            guard let arrival = EchoSocket.receive(tunnels[tunnel].echoSocket) else { return }
            let reply = EchoMessage(reply: arrival.bytes, isV4: isV4)
            guard let echo = reply ?? EchoMessage(turnedBack: arrival.bytes, isV4: isV4),
                echo.identifier == identifier, echo.token == token,
                let flight = flights[tunnel].removeValue(forKey: echo.sequence)
            else { continue }
            guard reply != nil else {
                pairs[flight.pair].sides[flight.side].evidence.turnedBackBy = arrival.from
                continue
            }
            // A clock that was set back meanwhile must not make it negative.
            let milliseconds = max(0, Double(arrival.time - flight.sent) / 1e6)
            pairs[flight.pair].sides[flight.side].evidence.echoesAnswered += 1
            pairs[flight.pair].sides[flight.side].evidence.quickestEcho = min(
                pairs[flight.pair].sides[flight.side].evidence.quickestEcho ?? milliseconds, milliseconds)
        }
    }

    // MARK: - Deciding

    /// Decides what can be decided; true when something was.
    private func decide(elapsed: Duration, isLast: Bool) -> Bool {
        let open = pairs.indices.filter { pairs[$0].verdict == nil }
        let ready = open.filter { index in
            isLast || pairs[index].sides.allSatisfy { $0.evidence.echoesAnswered >= Self.echoesForDirect }
                || pairs[index].sides.contains { isBroken($0) }
                || (pairs[index].planned.expected == .none && elapsed > Self.patienceForNone
                    && judge.hasTriedEnough(pairs[index].sides[0].evidence, pairs[index].sides[1].evidence))
        }
        guard !ready.isEmpty else { return false }
        readDevices(of: Set(ready.flatMap { pairs[$0].sides.map(\.tunnel) }))
        if isLast { askClients() }
        let wall = WallTime(nanoseconds: wallClockNanoseconds())
        var changed = false
        for index in ready {
            let (from, to) = (pairs[index].sides[0], pairs[index].sides[1])
            let isDirect = judge.isDirect(from.evidence, to.evidence, now: wall)
            let isBroken = isBroken(from) || isBroken(to)
            let isNone =
                pairs[index].planned.expected == .none && elapsed > Self.patienceForNone
                && judge.hasTriedEnough(from.evidence, to.evidence)
            guard isLast || isDirect || isBroken || isNone else { continue }
            pairs[index].verdict = judge.verdict(
                pairs[index].planned, from: translated(from), to: translated(to), firstHandshake: nil,
                now: wall)
            changed = true
        }
        return changed
    }

    private func translated(_ side: Side) -> SideEvidence {
        var evidence = side.evidence
        evidence.translation = evidence.peer?.endpoint.flatMap { translation(evidence.host, $0) }
        return evidence
    }

    /// Adds when each connected pair's first handshake was; the clients may notice it a moment after WireGuard.
    private func addFirstHandshakes() {
        // Without an answer in time the verdict simply lacks the figure.
        _ = try? waitUntil(timeout: .seconds(1), pause: .milliseconds(10)) {
            var isMissing = false
            for index in pairs.indices where pairs[index].verdict?.firstHandshake == nil {
                let answer = firstHandshake(pairs[index].sides[0], pairs[index].sides[1])
                pairs[index].verdict?.firstHandshake = answer.milliseconds
                isMissing =
                    isMissing
                    || (answer.haveClients && answer.milliseconds == nil
                        && pairs[index].verdict?.observed == .direct)
            }
            return !isMissing
        }
    }

    /// Milliseconds from both clients being up to the pair's first handshake; nil where no clients run.
    private func firstHandshake(_ a: Side, _ b: Side) -> (haveClients: Bool, milliseconds: Double?) {
        let mine = words(tunnels[a.tunnel].tunnel.host, tunnels[a.tunnel].tunnel.interface)[
            tunnels[b.tunnel].publicKey]
        let theirs = words(tunnels[b.tunnel].tunnel.host, tunnels[b.tunnel].tunnel.interface)[
            tunnels[a.tunnel].publicKey]
        guard let upA = mine?.clientUp, let upB = theirs?.clientUp else { return (false, nil) }
        guard let first = [mine?.firstHandshake, theirs?.firstHandshake].compactMap({ $0 }).min() else {
            return (true, nil)
        }
        return (true, max(0, Double(first.nanoseconds - max(upA, upB).nanoseconds) / 1e6))
    }
}
