import Glibc
import NetAddress
package import SystemCalls

/// Measures what NAT routers really do, by sending through them from both sides.
///
/// Nothing of the lab's own hosts takes part: the packets come from addresses that nobody has, and enter and
/// leave at the far ends of the router's links.
package enum NATMeter {
    /// Measures each router, at most `limit` at a time; the results in the requests' order.
    ///
    /// `isCancelled` is asked ten times a second, on several threads.
    package static func measure(
        _ requests: [MeasurementRequest], limit: Int = 64,
        isCancelled: @escaping @Sendable () -> Bool = { false }
    ) -> [Result<RouterMeasurement, OperationFailure>] {
        inParallel(requests, limit: limit) { request in
            Result { () throws(OperationFailure) in try measure(request, isCancelled: isCancelled) }
        }
    }

    /// Measures a router; what it left in the routers it takes out again, also when it throws.
    ///
    /// Throws EADDRNOTAVAIL when no candidate address is free on a side, EHOSTUNREACH when the router does
    /// not answer ARP.
    package static func measure(
        _ request: MeasurementRequest, isCancelled: @escaping () -> Bool = { false }
    ) throws(OperationFailure) -> RouterMeasurement {
        guard let inside = request.inside else {
            let port = try ProbePort(in: request.network, bridge: request.lanInterface)
            let outcome = Result { () throws(OperationFailure) in
                try measure(request, inside: port.end, isCancelled)
            }
            let removal = Result { () throws(OperationFailure) in try port.remove() }
            let measurement = try outcome.get()
            try removal.get()
            return measurement
        }
        // Other measurements of neighbours share the link: once in some hundred times, on a busy machine, the router's
        // answers do not come to this one's hardware addresses. It begins again with others.
        var attempt = 1
        while true {
            do throws(OperationFailure) {
                return try measure(request, inside: inside, isCancelled)
            } catch {
                guard error.errno == EHOSTUNREACH, attempt < attempts else { throw error }
                attempt += 1
            }
        }
    }

    private static let attempts = 3

    private static func measure(
        _ request: MeasurementRequest, inside: FarEnd, _ isCancelled: @escaping () -> Bool
    ) throws(OperationFailure) -> RouterMeasurement {
        guard (1024...MeasurementRequest.lastFirstPort).contains(request.firstPort) else {
            throw OperationFailure(
                "measure", request.router, errno: EINVAL, detail: "ports from \(request.firstPort) on")
        }
        guard let external = request.externalAddresses.first else {
            throw OperationFailure(
                "measure", request.router, errno: EADDRNOTAVAIL, detail: "it has no external address")
        }
        let (hosts, remotes) = try addresses(request, inside: inside)
        let exchange = Exchange(
            inside: try Station(at: inside, addresses: hosts),
            outside: try Station(at: request.outside, addresses: remotes),
            taps: try taps(request.forwards), patience: max(Bench.leastPatience, request.roundTrip * 3),
            tries: request.tries, isCancelled: isCancelled)
        let bench = Bench(request, exchange: exchange, hosts: hosts, remotes: remotes)
        let outcome = Result { () throws(OperationFailure) in
            let answered = try exchange.findRouter(
                inside: request.lanAddress, outside: external)
            exchange.patience = max(exchange.patience, answered * 3)
            try bench.run()
        }
        var cleaning = Cleaning(addresses: hosts + remotes, endpoints: bench.ownEndpoints)
        let removal = Result { () throws(OperationFailure) in
            try cleaning.run(in: [request.network] + request.above)
        }
        try outcome.get()
        try removal.get()
        bench.result.removedConnections = cleaning.count
        bench.result.traces = cleaning.traces.mapValues(Array.init)
        bench.result.addresses = hosts + remotes
        return bench.result
    }

    /// Two addresses inside and three outside that nobody has, or as many as there are.
    private static func addresses(
        _ request: MeasurementRequest, inside: FarEnd
    ) throws(OperationFailure) -> (hosts: [IPAddress], remotes: [IPAddress]) {
        let searches = [
            try AddressSearch(at: inside, candidates: request.insideCandidates, router: request.network),
            try AddressSearch(
                at: request.outside, candidates: request.outsideCandidates, router: request.network),
        ]
        let free = try AddressSearch.run(searches, patience: max(.milliseconds(30), request.roundTrip))
        for (addresses, side) in zip(free, ["inside", "outside"]) where addresses.isEmpty {
            throw OperationFailure(
                "find free address", "\(side) of \(request.router)", errno: EADDRNOTAVAIL,
                detail: "none is left for the measurement")
        }
        return (Array(free[0].prefix(2)), Array(free[1].prefix(3)))
    }

    private static func taps(_ forwards: [StaticForward]) throws(OperationFailure) -> [Station] {
        var stations: [Station] = []
        let places = Dictionary(grouping: forwards, by: \.at).sorted { "\($0.key)" < "\($1.key)" }
        for (place, forwards) in places {
            stations.append(
                try Station(at: place, addresses: Array(Set(forwards.map(\.internal))), answers: false))
        }
        return stations
    }
}

extension Bench {
    /// All tests, one after the other.
    fileprivate func run() throws(OperationFailure) {
        guard try testReach() else {
            if request.scope == .router {
                try testTCPMapping()
                try testOutside()
            }
            return finish()
        }
        try testMapping()
        try testPorts()
        try testFiltering()
        if request.scope == .router {
            try testOutside()
            try testSharing()
            try testEarlyPacket()
            try testRemoteSource()
            try testHairpin()
            try testICMP()
            try testFragments()
            try testForwards()
            try testLifetime()
        }
        judgePooling()
        finish()
    }

    private func finish() {
        func inOrder(_ endpoints: Set<Endpoint>) -> [Endpoint] {
            endpoints.sorted {
                ($0.address.description, $0.port) < ($1.address.description, $1.port)
            }
        }
        result.internalEndpoints = inOrder(internalEndpoints)
        result.externalEndpoints = inOrder(externalEndpoints)
    }
}
