// In JSON an effect is flat and names itself: {"effect": "make-bridge", "namespace": "lab.internet", "interface": "br0"}.
// Swift's own coding would nest every case in an object of its own.

private enum Field: String, CodingKey {
    case effect, inverse, namespace, settings, interface, bridge, end, address, route, rule, text, host, shape
    case otherEnd = "other_end"
}

private enum EffectName: String, Codable {
    case makeNamespace = "make-namespace"
    case setSysctls = "set-sysctls"
    case makeBridge = "make-bridge"
    case makeVeth = "make-veth"
    case joinBridge = "join-bridge"
    case addAddress = "add-address"
    case bringUp = "bring-up"
    case sendSinglePackets = "send-single-packets"
    case shapeLink = "shape-link"
    case addRoute = "add-route"
    case addRule = "add-rule"
    case loadFirewall = "load-firewall"
    case loadNftables = "load-nftables"
    case makeWireGuard = "make-wireguard"
    case configureWireGuard = "configure-wireguard"
    case startAgent = "start-agent"
}

extension Effect: Codable {
    package init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: Field.self)
        func get<Value: Decodable>(_ field: Field) throws -> Value {
            try fields.decode(Value.self, forKey: field)
        }
        self =
            switch try get(.effect) as EffectName {
            case .makeNamespace: .makeNamespace(namespace: try get(.namespace))
            case .setSysctls: .setSysctls(namespace: try get(.namespace), settings: try get(.settings))
            case .makeBridge: .makeBridge(namespace: try get(.namespace), interface: try get(.interface))
            case .makeVeth: .makeVeth(end: try get(.end), otherEnd: try get(.otherEnd))
            case .joinBridge:
                .joinBridge(
                    namespace: try get(.namespace), interface: try get(.interface), bridge: try get(.bridge))
            case .addAddress:
                .addAddress(
                    namespace: try get(.namespace), interface: try get(.interface), address: try get(.address)
                )
            case .bringUp: .bringUp(namespace: try get(.namespace), interface: try get(.interface))
            case .sendSinglePackets:
                .sendSinglePackets(namespace: try get(.namespace), interface: try get(.interface))
            case .shapeLink:
                .shapeLink(
                    namespace: try get(.namespace), interface: try get(.interface), shape: try get(.shape))
            case .addRoute: .addRoute(namespace: try get(.namespace), route: try get(.route))
            case .addRule: .addRule(namespace: try get(.namespace), rule: try get(.rule))
            case .loadFirewall: .loadFirewall(namespace: try get(.namespace), text: try get(.text))
            case .loadNftables: .loadNftables(namespace: try get(.namespace), text: try get(.text))
            case .makeWireGuard:
                .makeWireGuard(
                    namespace: try get(.namespace), host: try get(.host), interface: try get(.interface))
            case .configureWireGuard:
                .configureWireGuard(
                    namespace: try get(.namespace), host: try get(.host), interface: try get(.interface))
            case .startAgent: .startAgent
            }
    }

    package func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: Field.self)
        func put(_ name: EffectName) throws { try fields.encode(name, forKey: .effect) }
        switch self {
        case .makeNamespace(let namespace):
            try put(.makeNamespace)
            try fields.encode(namespace, forKey: .namespace)
        case .setSysctls(let namespace, let settings):
            try put(.setSysctls)
            try fields.encode(namespace, forKey: .namespace)
            try fields.encode(settings, forKey: .settings)
        case .makeBridge(let namespace, let interface):
            try put(.makeBridge)
            try fields.encode(namespace, forKey: .namespace)
            try fields.encode(interface, forKey: .interface)
        case .makeVeth(let end, let otherEnd):
            try put(.makeVeth)
            try fields.encode(end, forKey: .end)
            try fields.encode(otherEnd, forKey: .otherEnd)
        case .joinBridge(let namespace, let interface, let bridge):
            try put(.joinBridge)
            try fields.encode(namespace, forKey: .namespace)
            try fields.encode(interface, forKey: .interface)
            try fields.encode(bridge, forKey: .bridge)
        case .addAddress(let namespace, let interface, let address):
            try put(.addAddress)
            try fields.encode(namespace, forKey: .namespace)
            try fields.encode(interface, forKey: .interface)
            try fields.encode(address, forKey: .address)
        case .bringUp(let namespace, let interface):
            try put(.bringUp)
            try fields.encode(namespace, forKey: .namespace)
            try fields.encode(interface, forKey: .interface)
        case .sendSinglePackets(let namespace, let interface):
            try put(.sendSinglePackets)
            try fields.encode(namespace, forKey: .namespace)
            try fields.encode(interface, forKey: .interface)
        case .shapeLink(let namespace, let interface, let shape):
            try put(.shapeLink)
            try fields.encode(namespace, forKey: .namespace)
            try fields.encode(interface, forKey: .interface)
            try fields.encode(shape, forKey: .shape)
        case .addRoute(let namespace, let route):
            try put(.addRoute)
            try fields.encode(namespace, forKey: .namespace)
            try fields.encode(route, forKey: .route)
        case .addRule(let namespace, let rule):
            try put(.addRule)
            try fields.encode(namespace, forKey: .namespace)
            try fields.encode(rule, forKey: .rule)
        case .loadFirewall(let namespace, let text):
            try put(.loadFirewall)
            try fields.encode(namespace, forKey: .namespace)
            try fields.encode(text, forKey: .text)
        case .loadNftables(let namespace, let text):
            try put(.loadNftables)
            try fields.encode(namespace, forKey: .namespace)
            try fields.encode(text, forKey: .text)
        case .makeWireGuard(let namespace, let host, let interface):
            try put(.makeWireGuard)
            try fields.encode(namespace, forKey: .namespace)
            try fields.encode(host, forKey: .host)
            try fields.encode(interface, forKey: .interface)
        case .configureWireGuard(let namespace, let host, let interface):
            try put(.configureWireGuard)
            try fields.encode(namespace, forKey: .namespace)
            try fields.encode(host, forKey: .host)
            try fields.encode(interface, forKey: .interface)
        case .startAgent: try put(.startAgent)
        }
    }
}

private enum InverseName: String, Codable {
    case removeNamespace = "remove-namespace"
    case removeWireGuard = "remove-wireguard"
    case stopAgent = "stop-agent"
    case goesWith = "goes-with"
}

extension Inverse: Codable {
    package init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: Field.self)
        func get<Value: Decodable>(_ field: Field) throws -> Value {
            try fields.decode(Value.self, forKey: field)
        }
        self =
            switch try get(.inverse) as InverseName {
            case .removeNamespace: .removeNamespace(namespace: try get(.namespace))
            case .removeWireGuard:
                .removeWireGuard(
                    namespace: try get(.namespace), host: try get(.host), interface: try get(.interface))
            case .stopAgent: .stopAgent
            case .goesWith: .goesWith(namespace: try get(.namespace))
            }
    }

    package func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: Field.self)
        func put(_ name: InverseName) throws { try fields.encode(name, forKey: .inverse) }
        switch self {
        case .removeNamespace(let namespace):
            try put(.removeNamespace)
            try fields.encode(namespace, forKey: .namespace)
        case .removeWireGuard(let namespace, let host, let interface):
            try put(.removeWireGuard)
            try fields.encode(namespace, forKey: .namespace)
            try fields.encode(host, forKey: .host)
            try fields.encode(interface, forKey: .interface)
        case .stopAgent: try put(.stopAgent)
        case .goesWith(let namespace):
            try put(.goesWith)
            try fields.encode(namespace, forKey: .namespace)
        }
    }
}
