import LabPlanner
import NetAddress
import PeeringCheck
import Testing
import WireGuardControl
import WireGuardKeys

//   a 192.168.1.2 ── home-a 203.0.113.2 ──┐
//   hub 203.0.113.10 ─────────────────── internet
//   b 192.168.1.2 ── home-b 203.0.113.3 ──┘
private let plan = LabPlan(
    lab: "t",
    nodes: [
        node("internet", .segment, nil, ["br0": "203.0.113.1/24"]),
        node("home-a", .router, "internet", ["wan0": "203.0.113.2/24", "lan0": "192.168.1.1/24"]),
        node("home-b", .router, "internet", ["wan0": "203.0.113.3/24", "lan0": "192.168.1.1/24"]),
        node("hub", .host, "internet", ["eth0": "203.0.113.10/24"]),
        node("a", .host, "home-a", ["eth0": "192.168.1.2/24"]),
        node("b", .host, "home-b", ["eth0": "192.168.1.2/24"]),
    ],
    tunnels: [
        PlannedTunnel(
            host: "a", namespace: "t.a", interface: "wg0", backend: .auto, address: prefix("10.66.66.2/24"),
            listenPort: 51820, mtu: 1420, firewallMark: 0, privateKeyFile: nil, peers: [])
    ],
    rendezvous: nil, pairs: [], steps: [])

private let keyA = PrivateKey.generate().publicKey
private let keyB = PrivateKey.generate().publicKey
private let built = WallTime(seconds: 1_000, nanoseconds: 0)
private let now = WallTime(seconds: 1_010, nanoseconds: 0)

private func prefix(_ text: String) -> IPPrefix { IPPrefix(text) ?? IPPrefix(host: IPAddress(v4: 0)) }

private func node(
    _ name: String, _ kind: PlannedNode.Kind, _ uplink: String?, _ addresses: KeyValuePairs<String, String>
)
    -> PlannedNode
{
    PlannedNode(
        name: name, kind: kind, namespace: "t.\(name)", uplink: uplink, nat: nil,
        interfaces: addresses.map { PlannedInterface(name: $0.key, address: prefix($0.value)) })
}

private func side(
    _ host: String, endpoint: String?, handshake: Int64? = 1_005, received: UInt64 = 500, answered: Int = 1
) -> SideEvidence {
    var evidence = SideEvidence(host: host)
    evidence.peer = WireGuardPeer(
        publicKey: host == "a" ? keyB : keyA, endpoint: endpoint.flatMap { Endpoint($0) },
        lastHandshake: handshake.map { WallTime(seconds: $0, nanoseconds: 0) }, receivedBytes: received)
    evidence.receivedBefore = 100
    evidence.echoesSent = 5
    evidence.echoesAnswered = answered
    evidence.quickestEcho = answered > 0 ? 1.5 : nil
    return evidence
}

private func verdict(
    _ a: SideEvidence, _ b: SideEvidence, expected: PlannedPair.Path = .direct
) -> PairVerdict {
    PairJudge(addresses: AddressBook(plan), builtAt: built).verdict(
        PlannedPair(from: "a", to: "b", interface: "wg0", expected: expected), from: a, to: b,
        firstHandshake: nil,
        now: now)
}

@Suite struct PairJudgeTests {
    let goodA = side("a", endpoint: "203.0.113.3:51820")
    let goodB = side("b", endpoint: "203.0.113.2:51820")

    /// The endpoint exists on no NAT; whoever translates it is named, and the verdict stays.
    @Test func aRewrittenEndpointIsDirect() throws {
        var phantom = side("a", endpoint: "203.0.113.3:52504")
        phantom.translation = EndpointTranslation(
            router: "home-a", original: try #require(Endpoint("203.0.113.3:51820")))
        let result = verdict(phantom, goodB)
        #expect(result.observed == .direct && result.ok)
        #expect(result.translation?.router == "home-a" && result.returnTranslation == nil)
        #expect(
            result.reason
                == "data both ways over 203.0.113.3:52504 (home-b's 203.0.113.3:51820, translated by home-a) and"
                + " 203.0.113.2:51820 (home-a)")
    }

    @Test func directNamesBothNATs() {
        let result = verdict(goodA, goodB)
        #expect(result.observed == .direct && result.ok)
        #expect(result.endpointOwner == "home-b" && result.returnEndpointOwner == "home-a")
        #expect(result.handshakeAge == 5)
        #expect(result.roundTrip == 1.5)
        #expect(
            result.reason == "data both ways over 203.0.113.3:51820 (home-b) and 203.0.113.2:51820 (home-a)")
    }

    @Test func directWhereNoneIsExpectedIsNotOk() {
        let result = verdict(goodA, goodB, expected: .none)
        #expect(result.observed == .direct && !result.ok)
    }

    @Test func aHandshakeFromBeforeThisUpDoesNotCount() {
        let result = verdict(side("a", endpoint: "203.0.113.3:51820", handshake: 999), goodB)
        #expect(result.observed == .none && !result.ok)
        #expect(result.reason.contains("no handshake with b has come about since up"))
        #expect(result.handshakeAge == nil)
    }

    @Test func aHandshakeOf180SecondsIsDead() {
        let late = WallTime(seconds: 1_005 + 180, nanoseconds: 0)
        let judge = PairJudge(addresses: AddressBook(plan), builtAt: built)
        #expect(!judge.isDirect(goodA, goodB, now: late))
        #expect(judge.isDirect(goodA, goodB, now: WallTime(nanoseconds: late.nanoseconds - 1)))
    }

    @Test func aHandshakeWithoutDataIsNotConnected() {
        let result = verdict(side("a", endpoint: "203.0.113.3:51820", answered: 0), goodB)
        #expect(result.observed == .none)
        #expect(
            result.reason.contains("no data came back from b to a in 5 tries over 203.0.113.3:51820 (home-b)")
        )
    }

    @Test func dataThatCameOverAnotherPeerIsNotThisPairs() {
        // Echoes are answered, but this peer's own counter stands still: they came through a hub.
        let result = verdict(side("a", endpoint: "203.0.113.3:51820", received: 100), goodB)
        #expect(result.observed == .none)
    }

    @Test func anEndpointThatBelongsToTheHubIsNotDirect() {
        let result = verdict(side("a", endpoint: "203.0.113.10:51820"), goodB)
        #expect(result.observed == .none && result.endpointOwner == "hub")
        #expect(result.reason.contains("belongs to hub: not a direct path"))
    }

    @Test func anEndpointInsideTheTunnelIsNotDirect() {
        let result = verdict(side("a", endpoint: "10.66.66.3:51820"), goodB)
        #expect(result.observed == .none && result.endpointOwner == nil)
        #expect(result.reason.contains("inside a WireGuard tunnel"))
    }

    @Test func theOtherHomesEqualAddressIsNotTakenForThePeers() {
        // 192.168.1.2 is also a's own address: as an endpoint of b it leads nowhere.
        let result = verdict(side("a", endpoint: "192.168.1.2:51820"), goodB)
        #expect(result.observed == .none)
    }

    @Test func missingPeerMissingEndpointAndDeadInterfaceAreToldApart() {
        var stranger = goodA
        stranger.peer = nil
        #expect(verdict(stranger, goodB).reason == "b is not a peer of a's interface")
        var told = side("a", endpoint: nil)
        told.clientSays = "the rendezvous does not answer"
        #expect(
            verdict(told, goodB).reason
                == "a knows no endpoint of b; a's client: the rendezvous does not answer")
        var dead = goodA
        dead.unreadable = "wg0 of a does not answer: gone"
        #expect(verdict(dead, goodB).reason == "wg0 of a does not answer: gone")
    }

    @Test func answersThatDoNotFitIntoWhatThePeerReceivedCameAnotherWay() {
        // A keepalive or a handshake has raised the count meanwhile, but not by three echoes.
        var hubbed = side("a", endpoint: "203.0.113.3:51820", received: 100 + 3 * 256 - 1, answered: 3)
        hubbed.echoSize = 256
        let result = verdict(hubbed, goodB)
        #expect(result.observed == .none)
        #expect(
            result.reason.contains(
                "3 echoes came back from b to a, but not over this peer, which received 767 bytes"))
        hubbed.peer?.receivedBytes += 1
        #expect(verdict(hubbed, goodB).observed == .direct)
        // As long as the count's beginning is not known, nothing is proved.
        hubbed.receivedBefore = nil
        #expect(verdict(hubbed, goodB).observed == .none)
    }

    @Test func aHubThatTurnsEchoesBackIsNamed() {
        var hubbed = side("a", endpoint: "203.0.113.3:51820", answered: 0)
        hubbed.turnedBackBy = IPAddress("10.66.66.2")
        let reason = verdict(hubbed, goodB).reason
        #expect(
            reason.contains("goes to a (10.66.66.2) to be sent on, not over this peer: not a direct path"))
        hubbed.turnedBackBy = IPAddress("10.66.66.99")
        #expect(verdict(hubbed, goodB).reason.contains("goes to 10.66.66.99 to be sent on"))
    }

    @Test func severalNetworksAreToldApart() {
        let judge = PairJudge(addresses: AddressBook(plan), builtAt: built, namesInterface: true)
        let pair = PlannedPair(from: "a", to: "b", interface: "wg7", expected: .direct)
        let reason = judge.verdict(
            pair, from: side("a", endpoint: nil), to: goodB, firstHandshake: nil, now: now
        ).reason
        #expect(reason == "wg7: a knows no endpoint of b")
    }

    @Test func oneNATForBothIsNamedAsTheObstacle() {
        // c is in a's home; both reach each other's mapping only through home-a itself.
        var lab = plan
        lab.nodes.append(node("c", .host, "home-a", ["eth0": "192.168.1.3/24"]))
        let judge = PairJudge(addresses: AddressBook(lab), builtAt: built)
        let pair = PlannedPair(from: "a", to: "c", interface: "wg0", expected: .direct)
        let (a, c) = (
            side("a", endpoint: "203.0.113.2:51820", handshake: nil, answered: 0),
            side("c", endpoint: "203.0.113.2:1024", handshake: nil, answered: 0)
        )
        let reason = judge.verdict(pair, from: a, to: c, firstHandshake: nil, now: now).reason
        #expect(reason.contains("; both are behind home-a, which does not hairpin"))
        let straight = side("a", endpoint: "192.168.1.3:51820", handshake: nil, answered: 0)
        #expect(
            !judge.verdict(pair, from: straight, to: c, firstHandshake: nil, now: now).reason.contains(
                "hairpin"))
        #expect(
            !verdict(side("a", endpoint: "203.0.113.3:1", handshake: nil), goodB).reason.contains("hairpin"))
    }
}

/// When "none" is a finding, and when the time was merely short.
@Suite struct TriedEnoughTests {
    private let short = "before both sides had tried 3 times"
    private let judge = PairJudge(addresses: AddressBook(plan), builtAt: built)
    private let other = side("b", endpoint: "203.0.113.2:51820", handshake: nil)

    private func client(_ attempts: Int, cannotTry: Bool = false, endpoint: String? = "203.0.113.3:51820")
        -> SideEvidence
    {
        var evidence = side("a", endpoint: endpoint, handshake: nil, answered: 0)
        evidence.attempts = attempts
        evidence.clientCannotTry = cannotTry
        return evidence
    }

    @Test func twoAttemptsOfAClientAreTooFew() {
        #expect(verdict(client(2), other).reason.contains(short))
        #expect(!verdict(client(3), other).reason.contains(short))
    }

    @Test func aSlowClientWithoutAnEndpointIsWaitedFor() {
        #expect(!judge.hasTriedEnough(client(0, endpoint: nil), other))
        #expect(judge.hasTriedEnough(client(0, cannotTry: true, endpoint: nil), other))
        // Without a client nothing will ever come.
        #expect(judge.hasTriedEnough(side("a", endpoint: nil, handshake: nil), other))
    }

    @Test func dataOverASessionIsWhatIsTriedThere() {
        var connected = side("a", endpoint: "203.0.113.3:51820", answered: 0)
        connected.attempts = 1
        let reason = verdict(connected, side("b", endpoint: "203.0.113.2:51820")).reason
        #expect(reason.contains("no data came back") && !reason.contains(short))
        connected.echoesSent = 2
        #expect(verdict(connected, side("b", endpoint: "203.0.113.2:51820")).reason.contains(short))
    }

    @Test func anUnreadableInterfaceIsNoMatterOfTime() {
        var dead = client(0)
        dead.peer = nil
        dead.unreadable = "wg0 of a does not answer: gone"
        #expect(verdict(dead, client(0)).reason == "wg0 of a does not answer: gone")
    }
}

@Suite struct EchoMessageTests {
    @Test func requestHasTheChecksumOfRFC1071() {
        let message = EchoMessage(
            isV4: true, identifier: 0x1234, sequence: 1, token: [1, 2, 3, 4, 5, 6, 7, 8])
        // The checksum over a message that carries its own checksum is zero.
        #expect(EchoMessage.internetChecksum(message.request()) == 0)
        #expect(message.request().prefix(2) == [8, 0])
        #expect(Array(message.request()[4...]) == [0x12, 0x34, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8])
    }

    @Test func readsAReplyBehindAnIPHeaderWithOptions() {
        let header: [UInt8] = [0x46] + [UInt8](repeating: 0, count: 23)
        let icmp: [UInt8] = [0, 0, 0, 0, 0x12, 0x34, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8]
        let reply = EchoMessage(reply: header + icmp, isV4: true)
        #expect(
            reply
                == EchoMessage(isV4: true, identifier: 0x1234, sequence: 9, token: [1, 2, 3, 4, 5, 6, 7, 8]))
    }

    @Test func refusesRequestsTornRepliesAndGarbage() {
        let header: [UInt8] = [0x45] + [UInt8](repeating: 0, count: 19)
        #expect(EchoMessage(reply: header + [8, 0] + [UInt8](repeating: 0, count: 14), isV4: true) == nil)
        #expect(EchoMessage(reply: header + [0, 0, 0], isV4: true) == nil)
        #expect(EchoMessage(reply: [], isV4: true) == nil)
        #expect(EchoMessage(reply: [0x4F, 0, 0], isV4: true) == nil)
    }

    @Test func paddingIsUnderTheChecksumToo() {
        let message = EchoMessage(isV4: true, identifier: 7, sequence: 1, token: [1, 2, 3, 4, 5, 6, 7, 8])
        let request = message.request(padding: 21)
        #expect(request.count == 37 && EchoMessage.internetChecksum(request) == 0)
    }

    @Test func readsWhatARouterTurnedBack() {
        let header: [UInt8] = [0x45] + [UInt8](repeating: 0, count: 19)
        for isV4 in [true, false] {
            let sent = EchoMessage(isV4: isV4, identifier: 7, sequence: 9, token: [1, 2, 3, 4, 5, 6, 7, 8])
            let inner = (isV4 ? header : [UInt8](repeating: 0x60, count: 40)) + sent.request()
            // Time Exceeded (RFC 792: 11; RFC 4443: 3), checksum, four unused bytes.
            let outer = (isV4 ? header : []) + [isV4 ? 11 : 3, 0, 0, 0, 0, 0, 0, 0]
            #expect(EchoMessage(turnedBack: outer + inner, isV4: isV4) == sent)
            #expect(EchoMessage(reply: outer + inner, isV4: isV4) == nil)
            for length in 0..<(outer + inner).count {
                #expect(EchoMessage(turnedBack: (outer + inner)[..<length], isV4: isV4) == nil)
            }
        }
    }
}
