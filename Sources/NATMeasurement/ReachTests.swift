import NetAddress
import SystemCalls
import TopologyModel

extension Bench {
    /// Whether UDP comes through at all, translated or not, and how long it takes; false when the other tests
    /// cannot run.
    func testReach() throws(OperationFailure) -> Bool {
        let outcome = try outward([(fresh(), remote)])[0]
        guard let sighting = outcome.sighting else {
            result = RouterMeasurement(router: request.router, unmeasured: "UDP does not come through")
            if let error = outcome.error {
                result.udp = Finding(
                    .reject, "\(error.sender) answers with ICMP type \(error.type), code \(error.code)")
            } else {
                result.udp = Finding(
                    .drop, "nothing arrived outside, \(exchange.tries) tries, and no ICMP inside")
            }
            return false
        }
        if request.scope == .composite {
            result = RouterMeasurement(
                router: request.router, unmeasured: "not measured of several NATs in a row")
        }
        result.udp = Finding(.forward, "\(outcome.shot.source) arrived outside")
        let isTranslated = sighting.source.address != outcome.shot.source.address
        result.translated = Finding(
            isTranslated,
            isTranslated
                ? "\(outcome.shot.source) was \(sighting.source) outside"
                : "\(outcome.shot.source) was the same outside")
        let answer = try inward([(remote, sighting.source)])[0].sighting
        // Without an answer, as long again: what hinders it need not delay it.
        let outward = sighting.delay ?? .zero
        let took = outward + (answer?.delay ?? outward)
        result.roundTrip = Double(took.wholeNanoseconds) / 1e6
        exchange.patience = max(Self.leastPatience, took * 3, request.roundTrip * 3)
        return true
    }

    /// Enough for links without delay while the machine is busy.
    static let leastPatience = Duration.milliseconds(80)

    /// Why there is no mapping to measure; nil where there is one.
    var notTranslated: String? {
        result.translated.value == false ? "the router does not translate addresses" : nil
    }
}
