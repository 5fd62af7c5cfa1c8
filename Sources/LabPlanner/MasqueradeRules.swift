import NetAddress
import TopologyModel

/// iptables' MASQUERADE as a faithful home router has it, as text for `iptables-restore`.
///
/// Source: the measurements behind them say that MASQUERADE alone is no home router. Without the INPUT rule an unsolicited
/// packet leaves a conntrack entry that takes the port away from the hole about to be punched; without the FORWARD rule
/// outsiders reach the LAN's own addresses. Without `:CHAIN` lines iptables-restore does not flush, which would cost 30 ms.
struct MasqueradeRules {
    let nat: PlannedNAT

    var text: String {
        var rules = ["*nat"]
        for entry in nat.oneToOne {
            rules.append("-A PREROUTING -i wan0 -d \(entry.external) -j DNAT --to-destination \(entry.inner)")
            rules.append("-A POSTROUTING -o wan0 -s \(entry.inner) -j SNAT --to-source \(entry.external)")
        }
        for forward in nat.forwards {
            rules.append(
                "-A PREROUTING -i wan0 -d \(forward.external.address) -p \(forward.transport)"
                    + " --dport \(forward.external.port) -j DNAT --to-destination \(forward.inner)")
        }
        rules += ["-A POSTROUTING -o wan0 -j MASQUERADE", "COMMIT", "*filter"]
        switch nat.behaviour.udp {
        case .forward: break
        case .drop: rules.append("-A FORWARD -p udp -j DROP")
        case .reject: rules.append("-A FORWARD -p udp -j REJECT --reject-with icmp-admin-prohibited")
        }
        rules += [
            "-A INPUT -i wan0 -m conntrack --ctstate NEW,INVALID -j DROP",
            "-A FORWARD -i wan0 -m conntrack --ctstate NEW,INVALID -m conntrack ! --ctstate DNAT -j DROP",
            "COMMIT",
        ]
        return rules.joined(separator: "\n") + "\n"
    }
}
