package import LabPlanner
package import NetAddress

/// What `verify` found: the JSON form is documented in docs/json.md and held by tests.
package struct VerifyReport: Codable, Hashable, Sendable {
    package var lab: String
    /// Every pair is as expected and nothing of the lab is broken.
    package var ok: Bool
    package var pairs: [PairVerdict]
    /// What is broken beside the pairs, each as a sentence that names it: a dead agent, a client that is not served.
    package var problems: [String]

    package init(lab: String, pairs: [PairVerdict], problems: [String]) {
        self.lab = lab
        self.pairs = pairs
        self.problems = problems
        ok = problems.isEmpty && pairs.allSatisfy(\.ok)
    }
}

/// Why a pair is as it is: what `why` says of it.
package struct PairExplanation: Codable, Hashable, Sendable {
    /// One of `why`'s causes; nil for a pair that is connected.
    package var cause: String?
    /// One sentence.
    package var verdict: String

    package init(cause: String?, verdict: String) {
        self.cause = cause
        self.verdict = verdict
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(cause, forKey: .cause)
        try container.encode(verdict, forKey: .verdict)
    }
}

/// The verdict on one pair of WireGuard peers.
package struct PairVerdict: Codable, Hashable, Sendable {
    package var from: String
    package var to: String
    /// The WireGuard interface both use.
    package var interface: String
    package var expected: PlannedPair.Path
    package var observed: PlannedPair.Path
    package var ok: Bool
    /// Where `from` sends to reach `to`; nil when it knows none.
    package var endpoint: Endpoint?
    /// The node that has the endpoint's address; nil when no node of the lab has.
    package var endpointOwner: String?
    /// Where `to` sends to reach `from`, and whose that is.
    package var returnEndpoint: Endpoint?
    package var returnEndpointOwner: String?
    /// Seconds since the older of the two sides' last handshakes; nil when a side has had none since `up`.
    package var handshakeAge: Double?
    /// Milliseconds from when both clients were up to the pair's first handshake; nil without clients or handshake.
    package var firstHandshake: Double?
    /// The quickest echo through the tunnel during this verify, milliseconds; nil without one.
    package var roundTrip: Double?
    /// One sentence: why it is so.
    package var reason: String
    /// Who makes `endpoint` of another one; nil where it is the other side's own.
    package var translation: EndpointTranslation?
    /// The same for `returnEndpoint`.
    package var returnTranslation: EndpointTranslation?
    /// What the NATs on both ways let one expect.
    package var theory: TraversalTheory.Verdict?
    /// Of a pair that is not as expected; nil too where there were too many to look at each.
    package var explanation: PairExplanation?

    package init(
        from: String, to: String, interface: String, expected: PlannedPair.Path, observed: PlannedPair.Path,
        ok: Bool,
        endpoint: Endpoint? = nil, endpointOwner: String? = nil, returnEndpoint: Endpoint? = nil,
        returnEndpointOwner: String? = nil, handshakeAge: Double? = nil, firstHandshake: Double? = nil,
        roundTrip: Double? = nil, reason: String, translation: EndpointTranslation? = nil,
        returnTranslation: EndpointTranslation? = nil
    ) {
        self.from = from
        self.to = to
        self.interface = interface
        self.expected = expected
        self.observed = observed
        self.ok = ok
        self.endpoint = endpoint
        self.endpointOwner = endpointOwner
        self.returnEndpoint = returnEndpoint
        self.returnEndpointOwner = returnEndpointOwner
        self.handshakeAge = handshakeAge
        self.firstHandshake = firstHandshake
        self.roundTrip = roundTrip
        self.reason = reason
        self.translation = translation
        self.returnTranslation = returnTranslation
    }

    enum CodingKeys: String, CodingKey {
        case from, to, interface, expected, observed, ok, endpoint, reason, theory
        case endpointOwner = "endpoint_owner"
        case returnEndpoint = "return_endpoint"
        case returnEndpointOwner = "return_endpoint_owner"
        case handshakeAge = "handshake_age_s"
        case firstHandshake = "first_handshake_ms"
        case roundTrip = "rtt_ms"
        case translation = "endpoint_translation"
        case returnTranslation = "return_endpoint_translation"
        case explanation = "why"
    }

    package func encode(to encoder: any Encoder) throws {
        // Every key is always there, null where there is nothing: a reader need not tell "absent" from "none".
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(from, forKey: .from)
        try container.encode(to, forKey: .to)
        try container.encode(interface, forKey: .interface)
        try container.encode(expected, forKey: .expected)
        try container.encode(observed, forKey: .observed)
        try container.encode(ok, forKey: .ok)
        try container.encode(endpoint, forKey: .endpoint)
        try container.encode(endpointOwner, forKey: .endpointOwner)
        try container.encode(returnEndpoint, forKey: .returnEndpoint)
        try container.encode(returnEndpointOwner, forKey: .returnEndpointOwner)
        try container.encode(handshakeAge, forKey: .handshakeAge)
        try container.encode(firstHandshake, forKey: .firstHandshake)
        try container.encode(roundTrip, forKey: .roundTrip)
        try container.encode(reason, forKey: .reason)
        try container.encode(translation, forKey: .translation)
        try container.encode(returnTranslation, forKey: .returnTranslation)
        try container.encode(theory, forKey: .theory)
        try container.encode(explanation, forKey: .explanation)
    }
}
