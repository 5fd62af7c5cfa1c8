import Glibc
import SystemCalls
import TestSupport
import Testing

/// Every behaviour of RFC 4787, and MASQUERADE, directly on the internet and behind a carrier's NAT.
///
/// ```
///               stun 203.0.113.200, .201 (coturn)
///                │
///   ─────────────┴──────────────────────────── internet
///     │              │                 │
///   d-eim-eif …    c-eim-eif         c-adm-adf …      four carriers of different kinds
///     │              ├─────────┐       │
///   hd-eim-eif     n-eim-eif   …     n-eim-adf …
///                    │                 │
///                  hn-eim-eif        hn-eim-adf
/// ```
struct NineLab {
    static let carriers = ["eim-eif", "adm-adf", "masquerade", "symmetric"]

    /// One NAT, or one behind another, and the host behind it.
    struct Path {
        var router: String
        var host: String
        var behaviour: Behaviour
        var carrier: String?
    }

    let lab: Lab
    let paths: [Path]
    private let behaviours: [String]

    init(_ natlab: Natlab, _ behaviours: [String] = Behaviour.nine + ["masquerade"]) throws {
        self.behaviours = behaviours
        var text = "[host.stun]\non = \"internet\"\naddress = \"203.0.113.200\"\n"
        var paths: [Path] = []
        for (number, carrier) in Self.carriers.enumerated() {
            text +=
                "[router.c-\(carrier)]\nuplink = \"internet\"\nlan = \"100.64.\(number).0/24\"\n"
                + "nat = \"\(carrier)\"\n"
        }
        for (number, name) in behaviours.enumerated() {
            let carrier = Self.carriers[number % Self.carriers.count]
            let own = try Behaviour(name)
            text += Lab.home("d-\(name)", "\"\(name)\"", hosts: ["hd-\(name)"])
            text += Lab.home("n-\(name)", "\"\(name)\"", hosts: ["hn-\(name)"], on: "c-\(carrier)")
            paths += [
                Path(router: "d-\(name)", host: "hd-\(name)", behaviour: own, carrier: nil),
                Path(
                    router: "n-\(name)", host: "hn-\(name)", behaviour: own.behind(try Behaviour(carrier)),
                    carrier: "c-\(carrier)"),
            ]
        }
        lab = try natlab.writeLab(text)
        self.paths = paths
    }

    /// Each router as declared at its own uplink, each path as its NATs are together.
    func check(_ result: NATResult) throws {
        let names =
            behaviours.flatMap { [("d-\($0)", $0), ("n-\($0)", $0)] }
            + Self.carriers.map { ("c-\($0)", $0) }
        #expect(result.routers.count == names.count)
        for (router, name) in names {
            let found = try #require(result.router(router))
            let behaviour = try Behaviour(name)
            #expect(found.nat == name && found.ok, "\(router): \(found.differences)")
            #expect(found.measured("mapping") == .word(behaviour.mappingWord))
            #expect(found.measured("filtering") == .word(behaviour.filteringWord))
        }
        let nested = paths.filter { $0.carrier != nil }
        #expect(result.paths.map(\.router).sorted() == nested.map(\.router).sorted())
        for path in nested {
            let found = try #require(result.paths.first { $0.router == path.router })
            #expect(found.via == [path.router, path.carrier] && found.ok, "\(found.differences)")
            for card in [found.theory, found.measured] {
                #expect(card["mapping"] == .word(path.behaviour.mappingWord), "\(path.router)")
                #expect(card["filtering"] == .word(path.behaviour.filteringWord), "\(path.router)")
            }
        }
    }
}

@Suite(.serialized) struct NineTests {
    @Test func areMeasuredAsDeclaredAndAsTheorySays() throws {
        try withCleanup { cleanup in
            let nine = try NineLab(try Natlab(cleanup))
            try nine.lab.up()
            try nine.check(try nine.lab.expectAsDeclared())
        }
    }

    /// A method of RFC 5780 that is not natlab's, from real hosts: coturn's client and server.
    @Test func coturnAgrees() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let nine = try NineLab(natlab)
            try nine.lab.up()
            let coturn = try Coturn(nine.lab, server: "stun", cleanup)
            let found = try coturn.discover(from: nine.paths.map(\.host))
            for (path, behaviour) in zip(nine.paths, found) {
                #expect(behaviour == path.behaviour, "\(path.router)")
            }
            // And natlab, in the same lab, with coturn's mappings still there.
            try nine.check(try nine.lab.expectAsDeclared())
        }
    }
}
