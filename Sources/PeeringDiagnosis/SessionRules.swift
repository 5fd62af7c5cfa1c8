import LabAgent
import LabPlanner
import NetAddress
import PathTrace
import PeeringCheck
import WireGuardControl
import WireGuardKeys

// What becomes of handshakes that get through.
extension DiagnosisJudge {
    func sessionFindings() -> [Finding] {
        var findings = [(evidence.from, evidence.to), (evidence.to, evidence.from)].flatMap {
            handshake($0, $1)
        }
        if [evidence.from, evidence.to].allSatisfy({ $0.device != nil }) {
            let has = [(evidence.from, evidence.to), (evidence.to, evidence.from)].map { side, other in
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

    /// What `to` made of `from`'s handshake initiations.
    private func handshake(_ from: PairEvidence.Side, _ to: PairEvidence.Side) -> [Finding] {
        let limit = evidence.ended.nanoseconds - JourneyFinder.patience
        let arrived = evidence.datagrams.filter { datagram in
            datagram.kind == .handshakeInitiation && datagram.sightings.first?.point.node == from.host
                && datagram.sightings.contains {
                    $0.point.node == to.host && !$0.isOutgoing && $0.time < limit
                }
        }
        guard !arrived.isEmpty else { return [] }
        let sources = Set(arrived.compactMap { $0.sightings.last?.source })
        let readings = to.initiations.filter { sources.contains($0.source) }
        if readings.last?.reading == .notForThisKey {
            return [
                Finding(
                    .wrongPublicKey, at: from.host,
                    "\(from.host)'s handshakes reach \(to.host) and are not made for its public key \(short(to.key))",
                    mend: "give \(from.host) \(to.host)'s public key \(to.key.base64)")
            ]
        }
        let responses = evidence.datagrams.filter { datagram in
            datagram.kind == .handshakeResponse && datagram.sightings.first?.point.node == to.host
        }
        if responses.isEmpty {
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
        let back = responses.contains {
            $0.sightings.contains { $0.point.node == from.host && !$0.isOutgoing }
        }
        let has = from.device?.peer(to.key)?.lastHandshake.map { $0 > evidence.began } ?? false
        guard back, !has else { return [] }
        return [
            Finding(
                .wrongPresharedKey, at: from.host,
                "\(from.host)'s handshakes reach \(to.host), and its responses come back to \(from.host), which refuses them:"
                    + " the preshared keys differ",
                mend: "give both the same preshared key")
        ]
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
