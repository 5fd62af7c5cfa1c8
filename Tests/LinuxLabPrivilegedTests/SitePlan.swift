import LabPlanner
import NetAddress

/// Hand-made plans of sites, each a NAT router and a host behind it.
///
///     LAB.internet          LAB.rN                      LAB.hN
///     br0 203.0.0.1/16 -- wan0 203.0.X.Y/16
///                          lan0 192.168.1.1/24 -- eth0 192.168.1.2/24
struct SitePlan {
    let lab: String
    private(set) var nodes: [PlannedNode] = []
    var steps: [PlanStep] = []
    private(set) var tunnels: [PlannedTunnel] = []

    init(_ lab: String, sites: Int) {
        self.lab = lab
        let internet = "\(lab).internet"
        let segmentAddress = Self.prefix([203, 0, 0, 1], 16)
        nodes.append(
            PlannedNode(
                name: "internet", kind: .segment, namespace: internet, uplink: nil, nat: nil,
                interfaces: [PlannedInterface(name: "br0", address: segmentAddress)]))
        make(internet, [Sysctl("net.bridge.bridge-nf-call-iptables", "0", ifPresent: true)])
        add(.makeBridge(namespace: internet, interface: "br0"), in: internet)
        add(.addAddress(namespace: internet, interface: "br0", address: segmentAddress), in: internet)
        add(.bringUp(namespace: internet, interface: "br0"), in: internet)
        for number in 1..<(sites + 1) { addSite(number, internet) }
    }

    var plan: LabPlan {
        LabPlan(lab: lab, nodes: nodes, tunnels: tunnels, rendezvous: nil, pairs: [], steps: steps)
    }

    static func wanAddress(_ number: Int) -> IPAddress {
        IPAddress(v4: 0xCB00_0100 + UInt32(number))
    }

    mutating func add(_ effect: Effect, in namespace: String) {
        steps.append(PlanStep(effect, inverse: .goesWith(namespace: namespace), line: nil))
    }

    mutating func make(_ namespace: String, _ settings: [Sysctl]) {
        steps.append(
            PlanStep(
                .makeNamespace(namespace: namespace), inverse: .removeNamespace(namespace: namespace),
                line: nil))
        if !settings.isEmpty { add(.setSysctls(namespace: namespace, settings: settings), in: namespace) }
    }

    mutating func addTunnel(_ tunnel: PlannedTunnel) {
        tunnels.append(tunnel)
        let inverse = Inverse.removeWireGuard(
            namespace: tunnel.namespace, host: tunnel.host, interface: tunnel.interface)
        let (namespace, host, interface) = (tunnel.namespace, tunnel.host, tunnel.interface)
        steps.append(
            PlanStep(
                .makeWireGuard(namespace: namespace, host: host, interface: interface), inverse: inverse,
                line: nil))
        add(.configureWireGuard(namespace: namespace, host: host, interface: interface), in: namespace)
        add(.addAddress(namespace: namespace, interface: interface, address: tunnel.address), in: namespace)
        add(.bringUp(namespace: namespace, interface: interface), in: namespace)
    }

    /// The two drop rules make MASQUERADE a faithful port-restricted NAT.
    static let firewall = """
        *nat
        -A POSTROUTING -o wan0 -j MASQUERADE
        COMMIT
        *filter
        -A INPUT -i wan0 -m conntrack --ctstate NEW,INVALID -j DROP
        -A FORWARD -i wan0 -m conntrack --ctstate NEW,INVALID -m conntrack ! --ctstate DNAT -j DROP
        COMMIT

        """

    private mutating func addSite(_ number: Int, _ internet: String) {
        let (router, host) = ("\(lab).r\(number)", "\(lab).h\(number)")
        let port = "p\(number)"
        let wan = Self.prefix(Self.wanAddress(number).bytes, 16)
        let lan = Self.prefix([192, 168, 1, 1], 24)
        let inside = Self.prefix([192, 168, 1, 2], 24)
        nodes.append(
            PlannedNode(
                name: "r\(number)", kind: .router, namespace: router, uplink: "internet", nat: "masquerade",
                interfaces: [
                    PlannedInterface(name: "wan0", address: wan),
                    PlannedInterface(name: "lan0", address: lan),
                ]))
        nodes.append(
            PlannedNode(
                name: "h\(number)", kind: .host, namespace: host, uplink: "r\(number)", nat: nil,
                interfaces: [PlannedInterface(name: "eth0", address: inside)]))
        make(router, [Sysctl("net.ipv4.ip_forward", "1")])
        add(
            .makeVeth(
                end: Port(namespace: internet, interface: port),
                otherEnd: Port(namespace: router, interface: "wan0")),
            in: router)
        add(.joinBridge(namespace: internet, interface: port, bridge: "br0"), in: internet)
        add(.bringUp(namespace: internet, interface: port), in: internet)
        make(host, [])
        add(
            .makeVeth(
                end: Port(namespace: router, interface: "lan0"),
                otherEnd: Port(namespace: host, interface: "eth0")),
            in: host)
        add(.addAddress(namespace: router, interface: "wan0", address: wan), in: router)
        add(.addAddress(namespace: router, interface: "lan0", address: lan), in: router)
        add(.bringUp(namespace: router, interface: "wan0"), in: router)
        add(.bringUp(namespace: router, interface: "lan0"), in: router)
        add(
            .addRoute(
                namespace: router,
                route: Route(to: Self.prefix([0, 0, 0, 0], 0), via: IPAddress(v4: 0xCB00_0001))),
            in: router)
        add(.loadFirewall(namespace: router, text: Self.firewall), in: router)
        add(.addAddress(namespace: host, interface: "eth0", address: inside), in: host)
        add(.bringUp(namespace: host, interface: "eth0"), in: host)
        add(
            .addRoute(
                namespace: host,
                route: Route(to: Self.prefix([0, 0, 0, 0], 0), via: IPAddress(v4: 0xC0A8_0101))),
            in: host)
    }

    private static func prefix(_ bytes: [UInt8], _ length: Int) -> IPPrefix {
        guard let address = IPAddress(bytes: bytes), let prefix = IPPrefix(address, length: length) else {
            preconditionFailure("a constant of this file")
        }
        return prefix
    }
}
