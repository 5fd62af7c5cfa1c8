import NetAddress

extension LabPlan {
    /// The plan for people: what the lab is, then every step with its number and its line in the file.
    package func text() -> String {
        var output = "lab \(lab): \(nodes.count) namespaces, \(tunnels.count) tunnels, \(steps.count) steps\n"
        output += "\nnodes\n"
        for node in nodes {
            let traits = [
                node.uplink.map { "on \($0)" }, node.nat.map { "nat \($0)" }, node.link.map { "link \($0)" },
            ].compactMap(\.self)
            let interfaces = node.interfaces.map { "\($0.name) \($0.address)" }
            let words = [node.kind.rawValue, node.name] + traits + interfaces
            output += "  \(words.joined(separator: "  "))\n"
        }
        if !tunnels.isEmpty { output += "\ntunnels\n" }
        for tunnel in tunnels { output += tunnel.text() }
        if let rendezvous {
            output += "\nrendezvous\n  on \(rendezvous.host), port \(rendezvous.port); "
            output += "\(rendezvous.clients.count) clients reach it at \(rendezvous.endpoint)\n"
            for client in rendezvous.clients {
                if client.startDelay > 0 {
                    output += "  \(client.host).\(client.interface) starts \(client.startDelay) ms later\n"
                }
                if let endpoint = client.endpoint {
                    output += "  \(client.host).\(client.interface) is told \(endpoint) instead\n"
                }
                if let key = client.serverKey {
                    output += "  \(client.host).\(client.interface) is told that its key is \(key)\n"
                }
            }
        }
        if !pairs.isEmpty { output += "\npairs\n" }
        for pair in pairs {
            output += "  \(pair.from) - \(pair.to)  \(pair.interface)  \(pair.expected.rawValue)\n"
        }

        output += "\nsteps (without an undo of its own, a step goes with its namespace)\n"
        let width = String(steps.count).utf8.count
        for (index, step) in steps.enumerated() {
            let number = String(index + 1)
            let pad = String(repeating: " ", count: width - number.utf8.count)
            output += "  \(pad)\(number)  \(step.effect)"
            if let undo = step.inverse.text { output += "; undo: \(undo)" }
            if let line = step.line { output += "  # line \(line)" }
            output += "\n"
            let indent = String(repeating: " ", count: width + 6)
            for line in step.effect.details { output += "\(indent)\(line)\n" }
        }
        return output
    }
}

extension PlannedTunnel {
    fileprivate func text() -> String {
        var words = [
            "\(host) \(interface) \(address)", listenPort == 0 ? "any port" : "port \(listenPort)",
            "mtu \(mtu)",
        ]
        if backend != .auto { words.append(backend.rawValue) }
        if firewallMark != 0 { words.append("mark \(firewallMark)") }
        if let privateKeyFile { words.append("private key from \(privateKeyFile)") }
        var output = "  \(words.joined(separator: ", "))\n"
        for peer in peers {
            var words = [
                "peer \(peer.host): allowed \(peer.allowedIPs.map(\.description).joined(separator: " "))",
                peer.endpoint.map { "at \($0)" } ?? "endpoint not known yet",
            ]
            if peer.keepalive != 0 { words.append("keepalive \(peer.keepalive)s") }
            if let file = peer.presharedKeyFile { words.append("preshared key from \(file)") }
            output += "    \(words.joined(separator: ", "))\n"
        }
        return output
    }
}

extension Effect: CustomStringConvertible {
    /// One line: where, then what.
    package var description: String {
        switch self {
        case .makeNamespace(let namespace): "\(namespace): make the namespace"
        case .setSysctls(let namespace, let settings):
            "\(namespace): set \(settings.count) sysctls"
        case .makeBridge(let namespace, let interface): "\(namespace): make bridge \(interface)"
        case .makeVeth(let end, let otherEnd): "\(end.namespace): make veth \(end.interface) to \(otherEnd)"
        case .joinBridge(let namespace, let interface, let bridge):
            "\(namespace): put \(interface) into \(bridge)"
        case .addAddress(let namespace, let interface, let address):
            "\(namespace): give \(interface) \(address)"
        case .bringUp(let namespace, let interface): "\(namespace): bring up \(interface)"
        case .sendSinglePackets(let namespace, let interface):
            "\(namespace): send single packets on \(interface)"
        case .shapeLink(let namespace, let interface, let shape):
            "\(namespace): shape what leaves \(interface): \(shape)"
        case .addRoute(let namespace, let route): "\(namespace): route \(route)"
        case .addRule(let namespace, let rule): "\(namespace): rule \(rule)"
        case .loadFirewall(let namespace, _): "\(namespace): iptables-restore"
        case .loadNftables(let namespace, _): "\(namespace): load nftables rules"
        case .makeWireGuard(let namespace, _, let interface): "\(namespace): make WireGuard \(interface)"
        case .configureWireGuard(let namespace, _, let interface):
            "\(namespace): configure \(interface): key, port, peers"
        case .startAgent: "start the agent: rendezvous and clients"
        }
    }
}

extension Effect {
    /// What does not fit on the line.
    fileprivate var details: [String] {
        switch self {
        case .setSysctls(_, let settings): settings.map(\.description)
        case .loadFirewall(_, let text), .loadNftables(_, let text):
            text.split(separator: "\n").map(String.init)
        default: []
        }
    }
}

extension Inverse {
    /// Nil where nothing has to be done.
    fileprivate var text: String? {
        switch self {
        case .removeNamespace: "remove the namespace"
        case .removeWireGuard(_, _, let interface): "end \(interface)"
        case .stopAgent: "stop the agent"
        case .goesWith: nil
        }
    }
}

extension Sysctl: CustomStringConvertible {
    package var description: String { "\(key) = \(value)" + (ifPresent ? ", if there is one" : "") }
}

extension Port: CustomStringConvertible {
    package var description: String { "\(namespace):\(interface)" }
}

extension Route: CustomStringConvertible {
    /// As ip-route(8) has it.
    package var description: String {
        var words = [destination == .allIPv4 ? "default" : destination.description]
        if let gateway { words.append("via \(gateway)") }
        if let interface { words.append("dev \(interface)") }
        if onLink { words.append("onlink") }
        if let table { words.append("table \(table)") }
        return words.joined(separator: " ")
    }
}

extension RoutingRule: CustomStringConvertible {
    /// As ip-rule(8) has it.
    package var description: String {
        var words = family == .ipv6 ? ["-6"] : []
        if let priority { words.append("priority \(priority)") }
        if invert { words.append("not") }
        if let firewallMark { words.append("fwmark \(firewallMark)") }
        words.append("table \(table == 254 ? "main" : String(table))")
        if let suppressPrefixLength { words.append("suppress_prefixlength \(suppressPrefixLength)") }
        return words.joined(separator: " ")
    }
}
