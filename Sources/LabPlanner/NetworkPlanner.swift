import NetAddress
import TopologyModel

/// Plans namespaces, links, addresses, routes and NAT.
///
///     segment:  br0 (gateway, .1)  <- ports named after the nodes
///     router:   wan0 -> uplink     lan0 (.1) <- hosts, routers
///     host:     eth0 -> segment or router
struct NetworkPlanner {
    private let underlay: Underlay
    private let segments: [Underlay.Node]
    private let links: LinkNames
    private let routes: RoutePlanner
    private let hasShapedLinks: Bool
    private let hubs: Set<String>

    /// - Parameter hubs: hosts that pass packets on between their WireGuard peers.
    init(_ underlay: Underlay, hubs: Set<String>) {
        self.underlay = underlay
        self.hubs = hubs
        segments = underlay.nodes.filter { $0.kind == .segment }
        links = LinkNames(underlay)
        routes = RoutePlanner(underlay, links)
        hasShapedLinks = underlay.nodes.contains { $0.link != nil }
    }

    func nodes() -> [PlannedNode] {
        underlay.nodes.map { node in
            PlannedNode(
                name: node.name, kind: node.kind, namespace: node.namespace,
                uplink: node.parent.map { underlay.nodes[$0].name }, nat: node.nat?.name,
                translation: node.translation, interfaces: interfaces(of: node), link: node.link)
        }
    }

    /// Those with an address.
    private func interfaces(of node: Underlay.Node) -> [PlannedInterface] {
        let outer = underlay.interfaceAddress(node).map {
            PlannedInterface(name: outerName(node), address: $0)
        }
        let inner = underlay.gateway(node).map { PlannedInterface(name: innerName(node), address: $0) }
        return [outer, inner].compactMap(\.self)
    }

    private func outerName(_ node: Underlay.Node) -> String { node.kind == .router ? "wan0" : "eth0" }
    private func innerName(_ node: Underlay.Node) -> String { node.kind == .segment ? "br0" : "lan0" }

    /// Node by node within each phase: what goes to one namespace stays together and can be sent at once.
    func steps() -> [PlanStep] {
        underlay.nodes.flatMap(namespaceSteps) + linkSteps() + underlay.nodes.flatMap(addressSteps)
            + underlay.nodes.flatMap(natSteps)
    }

    private func step(_ effect: Effect, in node: Underlay.Node) -> PlanStep {
        PlanStep(effect, inverse: .goesWith(namespace: node.namespace), line: node.line)
    }

    // MARK: Namespaces

    private func namespaceSteps(_ node: Underlay.Node) -> [PlanStep] {
        [
            PlanStep(
                .makeNamespace(namespace: node.namespace),
                inverse: .removeNamespace(namespace: node.namespace),
                line: node.line),
            step(.setSysctls(namespace: node.namespace, settings: sysctls(node)), in: node),
        ]
    }

    /// A new namespace begins with the machine's own IPv4 settings (net.core.devconf_inherit_init_net), so whatever the
    /// lab relies on is set.
    private func sysctls(_ node: Underlay.Node) -> [Sysctl] {
        func both(_ family: String, _ key: String, _ value: String, ifPresent: Bool = false) -> [Sysctl] {
            ["all", "default"].map { Sysctl("net.\(family).conf.\($0).\(key)", value, ifPresent: ifPresent) }
        }
        let forwards = node.kind != .host || hubs.contains(node.name)
        // First: it resets other settings of the namespace.
        var settings = [Sysctl("net.ipv4.ip_forward", forwards ? "1" : "0")]
        // Replies may come in where the route back does not point: over the links between segments, through tunnels.
        settings += both("ipv4", "rp_filter", "0")
        // A segment sends packets back out of the interface they came in by, to LANs routed through a neighbour.
        // A hub does so between its peers.
        if forwards { settings += both("ipv4", "send_redirects", "0") }
        // The links between segments have no addresses: each answers ARP for the gateway that is on its bridge.
        if node.kind == .segment, segments.count > 1 { settings += both("ipv4", "arp_ignore", "0") }
        // Rate-limited "port unreachable" would look like a silent drop.
        settings.append(Sysctl("net.ipv4.icmp_ratelimit", "0"))
        // Duplicate address detection holds IPv6 addresses back for a second.
        settings += both("ipv6", "accept_dad", "0", ifPresent: true)
        // On, a bridge's frames pass iptables: the router's rules would apply between hosts of one LAN.
        if hasBridge(node) {
            settings.append(Sysctl("net.bridge.bridge-nf-call-iptables", "0", ifPresent: true))
        }
        return settings
    }

    // MARK: Links

    private func hasBridge(_ node: Underlay.Node) -> Bool {
        LinkNames.hasBridge(node)
    }

    private func linkSteps() -> [PlanStep] {
        var steps: [PlanStep] = []
        for (index, node) in underlay.nodes.enumerated() where node.kind != .host {
            if hasBridge(node) {
                steps.append(
                    step(.makeBridge(namespace: node.namespace, interface: innerName(node)), in: node))
            }
            if index == 0 {
                for (leaf, names) in zip(segments.dropFirst(), links.betweenSegments) {
                    steps.append(
                        step(
                            .makeVeth(
                                end: Port(namespace: node.namespace, interface: names.atCentre),
                                otherEnd: Port(namespace: leaf.namespace, interface: names.atLeaf)), in: leaf)
                    )
                }
            }
            for childIndex in node.children {
                let child = underlay.nodes[childIndex]
                guard let port = links.ports[childIndex] else { continue }
                steps.append(
                    step(
                        .makeVeth(
                            end: Port(namespace: node.namespace, interface: port),
                            otherEnd: Port(namespace: child.namespace, interface: outerName(child))),
                        in: child))
                guard hasBridge(node) else { continue }
                steps.append(
                    step(
                        .joinBridge(namespace: node.namespace, interface: port, bridge: innerName(node)),
                        in: child))
            }
        }
        return steps
    }

    // MARK: Addresses and routes

    private func addressSteps(_ node: Underlay.Node) -> [PlanStep] {
        // Further WAN addresses come after the first, which is what MASQUERADE takes.
        let further = node.furtherAddresses.compactMap { address in
            underlay.interfaceAddress(node).flatMap { IPPrefix(address, length: $0.length) }.map {
                PlannedInterface(name: outerName(node), address: $0)
            }
        }
        var steps = (interfaces(of: node) + further).map {
            step(.addAddress(namespace: node.namespace, interface: $0.name, address: $0.address), in: node)
        }
        let shapes = shapeSteps(node)
        for interface in links.interfaces(
            of: node, inner: innerName(node), outer: outerName(node), in: underlay)
        {
            steps += shapes[interface] ?? []
            steps.append(step(.bringUp(namespace: node.namespace, interface: interface), in: node))
        }
        for (route, line) in routes.byNode[node.name] ?? [] {
            steps.append(
                PlanStep(
                    .addRoute(namespace: node.namespace, route: route),
                    inverse: .goesWith(namespace: node.namespace),
                    line: line))
        }
        return steps
    }

    // MARK: Links that are no perfect wires

    /// By interface of the node: its own end of the link above, and its ends of the links below.
    ///
    /// A qdisc works on what leaves an interface, so each end shapes one direction. Segmentation offload would make
    /// netem lose up to 64 KiB of TCP as one packet; packets are large from where they are sent on, so every host
    /// of a lab with such a link does without.
    private func shapeSteps(_ node: Underlay.Node) -> [String: [PlanStep]] {
        var steps: [String: [PlanStep]] = [:]
        if node.kind == .host, hasShapedLinks {
            let effect = Effect.sendSinglePackets(namespace: node.namespace, interface: outerName(node))
            steps[outerName(node), default: []].append(step(effect, in: node))
        }
        func shape(_ interface: String, as child: Underlay.Node) {
            guard let shape = child.link else { return }
            let effect = Effect.shapeLink(namespace: node.namespace, interface: interface, shape: shape)
            steps[interface, default: []].append(
                PlanStep(effect, inverse: .goesWith(namespace: node.namespace), line: child.line))
        }
        shape(outerName(node), as: node)
        for child in node.children {
            if let port = links.ports[child] { shape(port, as: underlay.nodes[child]) }
        }
        return steps
    }

    // MARK: NAT

    private func natSteps(_ node: Underlay.Node) -> [PlanStep] {
        guard let nat = node.translation else { return [] }
        let behaviour = nat.behaviour
        let timeout: Int?
        let load: Effect
        switch nat.engine {
        case .routing: return []
        case .masquerade:
            let text = MasqueradeRules(nat: nat).text
            load = .loadFirewall(namespace: node.namespace, text: text)
            timeout = behaviour.udpTimeout
        case .nftables:
            let rules = NftablesRules(nat)
            load = .loadNftables(namespace: node.namespace, text: rules.text)
            timeout = behaviour.udpTimeout ?? NftablesRules.defaultTimeout
        }
        // After the rules: they make the kernel load conntrack, without which there are no such settings.
        return [step(load, in: node)]
            + (timeout.map {
                [
                    step(
                        .setSysctls(
                            namespace: node.namespace,
                            settings: [
                                Sysctl("net.netfilter.nf_conntrack_udp_timeout", "\($0)"),
                                Sysctl("net.netfilter.nf_conntrack_udp_timeout_stream", "\($0)"),
                            ]), in: node)
                ]
            } ?? [])
    }
}
