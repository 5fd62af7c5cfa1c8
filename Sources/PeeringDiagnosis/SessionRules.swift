import LabAgent
import LabPlanner
import NetAddress
package import PathTrace
import PeeringCheck
package import WireGuardControl
import WireGuardKeys

// What becomes of handshakes that get through.
extension DiagnosisJudge {
    func sessionFindings() -> [Finding] {
        var findings = evidence.sides.flatMap { handshake($0, $1) }
        if [evidence.from, evidence.to].allSatisfy({ $0.device != nil }) {
            let has = evidence.sides.map { side, other in
                side.device?.peer(other.key)?.hasPresharedKey
            }
            if let first = has[0], let second = has[1], first != second {
                let (with, without) = first ? (evidence.from, evidence.to) : (evidence.to, evidence.from)
                findings.append(
                    Finding(
                        .wrongPresharedKey, at: without.host,
                        "\(with.host) has a preshared key for \(without.host), and \(without.host) has none for \(with.host)",
                        mend: "give both the same preshared key"))
            }
        }
        if findings.isEmpty, evidence.verdict.reason.contains("not a direct path") {
            findings.append(Finding(.notDirect, at: nil, evidence.verdict.reason))
        }
        return findings
    }

    /// What may be wrong at the ends of a tunnel that works.
    func insideTunnel() -> [Finding] {
        let sides = evidence.sides
        guard journeys.allSatisfy({ $0.arrived > 0 }),
            sides.allSatisfy({ ($0.device?.peer($1.key)?.lastHandshake) != nil })
        else { return [] }
        for (side, other) in sides {
            let interface = side.tunnel.interface
            if side.hasAddress == false {
                return [
                    inside(
                        side.host, "\(interface) of \(side.host) has lost its address \(side.address)",
                        mend:
                            "natlab exec \(side.host) -- ip address add \(side.tunnel.address) dev \(interface)"
                    )
                ]
            }
            if side.hasAddress != nil, side.peerInterface != interface {
                let way = side.peerInterface.map { "leaves by \($0)" } ?? "has no route"
                return [
                    inside(
                        side.host,
                        "what \(side.host) sends to \(other.address) \(way), not by \(interface)",
                        mend: "natlab exec \(side.host) -- ip route replace \(other.address) dev \(interface)"
                    )
                ]
            }
        }
        return [
            inside(
                nil,
                "an end answers no echoes (its firewall for \(evidence.interface), or net.ipv4.icmp_echo_ignore_all)",
                mend: nil)
        ]
    }

    private func inside(_ node: String?, _ text: String, mend: String?) -> Finding {
        Finding(
            .insideTunnel, at: node, "WireGuard's packets pass both ways, what they carry does not: \(text)",
            mend: mend)
    }

    /// What `to` made of `from`'s handshake initiations.
    private func handshake(_ from: PairEvidence.Side, _ to: PairEvidence.Side) -> [Finding] {
        let arrivals = initiations(from, to).compactMap(\.arrival)
        guard arrivals.contains(where: finder.isSettled) else { return [] }
        let sources = Set(arrivals.map(\.source))
        let readings = to.initiations.filter { sources.contains($0.source) }
        if readings.last?.reading == .notForThisKey {
            return [
                Finding(
                    .wrongPublicKey, at: from.host,
                    "\(from.host)'s handshakes reach \(to.host) and are not made for its public key \(short(to.key))",
                    mend: "give \(from.host) \(to.host)'s public key \(to.key.base64)")
            ]
        }
        // To somebody else it answers too.
        let answers = evidence.datagrams.filter { datagram in
            guard let first = datagram.sightings.first, first.point.node == to.host else { return false }
            return sources.contains(first.destination)
        }
        let responses = answers.filter { $0.kind == .handshakeResponse }
        if responses.isEmpty {
            // Under load WireGuard first wants to see the cookie again (WireGuard paper, section 5.3).
            if answers.contains(where: { $0.kind == .cookie }) { return [] }
            if let drop = finder.dropBeforeLeaving(to, to: sources) {
                return [
                    Finding(
                        .droppedOutbound, at: to.host,
                        "\(to.host)'s own firewall drops what it answers \(from.host) (\(JourneyFinder.words(drop)))",
                        mend: "let UDP out at \(to.host)")
                ]
            }
            return unanswered(from, to, readings)
        }
        let back = responses.compactMap { finder.arrival(of: $0, at: from.host) }
        let has = from.device?.peer(to.key)?.lastHandshake.map { $0 > evidence.began } ?? false
        guard back.contains(where: { !hasCrossed($0, from, to) }), !has else { return [] }
        return [
            Finding(
                .wrongPresharedKey, at: from.host,
                "\(from.host)'s handshakes reach \(to.host), and its responses come back to \(from.host), which refuses them:"
                    + " the preshared keys differ",
                mend: "give both the same preshared key")
        ]
    }

    /// `from`'s initiations to `to`: when each left, and how it came to `to`.
    private func initiations(_ from: PairEvidence.Side, _ to: PairEvidence.Side) -> [(
        left: Int64, arrival: Sighting?
    )] {
        evidence.datagrams.compactMap { datagram in
            guard datagram.kind == .handshakeInitiation, let first = datagram.sightings.first,
                first.point.node == from.host
            else { return nil }
            return (first.time, finder.arrival(of: datagram, at: to.host))
        }
    }

    /// Whether an initiation of `to` came to `from` while `from` waited for this response.
    ///
    /// A WireGuard that takes an initiation forgets its own, and refuses the response to it, with whatever keys.
    private func hasCrossed(_ response: Sighting, _ from: PairEvidence.Side, _ to: PairEvidence.Side) -> Bool
    {
        let asked = initiations(from, to).map(\.left).filter { $0 < response.time }.max() ?? 0
        return initiations(to, from).contains { _, arrival in
            arrival.map { asked < $0.time && $0.time < response.time } ?? false
        }
    }

    private func unanswered(
        _ from: PairEvidence.Side, _ to: PairEvidence.Side, _ readings: [PairEvidence.Initiation]
    ) -> [Finding] {
        guard case .read(let content) = readings.last?.reading, to.device?.peer(content.initiator) != nil
        else { return [] }
        return [
            Finding(
                .timestampRefused, at: to.host,
                "\(from.host)'s handshakes reach \(to.host), are made with the right keys, and \(to.host) does not answer:"
                    + " their timestamp \(RFC3339.text(content.timestamp)) is not later than one that it has accepted"
                    + " from \(from.host) before",
                mend:
                    "set \(from.host)'s clock right, and take the peer out at \(to.host) and add it again: it then forgets the timestamp"
            )
        ]
    }
}

/// Whether punches come through between two hosts both ways, and WireGuard's handshake is still to come.
///
/// Also while it has come in the last second only: one that succeeds shows in echoes within that.
/// - Parameter now: by CLOCK_REALTIME, as the sightings' times.
package func awaitsHandshake(_ one: String, _ other: String, _ datagrams: [Datagram], now: WallTime) -> Bool {
    func arrives(_ kind: DatagramKind, _ from: String, _ to: String) -> Bool {
        datagrams.contains { datagram in
            datagram.kind == kind && datagram.sightings.first?.point.node == from
                && datagram.sightings.contains {
                    $0.point.node == to && !$0.isOutgoing
                        && (kind == .punch || $0.time < now.nanoseconds - 1_000_000_000)
                }
        }
    }
    return arrives(.punch, one, other) && arrives(.punch, other, one)
        && !arrives(.handshakeInitiation, one, other) && !arrives(.handshakeInitiation, other, one)
}
