import Glibc
import SystemCalls

extension Doctor {
    /// wireguard-go: where, and which version.
    static func wireGuardGo() -> DoctorCheck {
        let name = "wireguard-go"
        let path: String
        do throws(OperationFailure) {
            path = try ProgramCall("wireguard-go").findProgram()
        } catch {
            return DoctorCheck(name, .missing, "not in PATH", mend: "apt-get install wireguard-go")
        }
        do throws(OperationFailure) {
            // The first line is "wireguard-go VERSION"; the rest is its address.
            let output = try ProgramCall(path, ["--version"]).run()
            guard output.status.isSuccess, let version = firstLine(output.output).split(separator: " ").last
            else {
                return DoctorCheck(
                    name, .missing, "\(path) does not run: \(firstLine(output.error))",
                    mend: "apt-get install --reinstall wireguard-go")
            }
            return DoctorCheck(name, .ok, "\(version), \(path)")
        } catch {
            return DoctorCheck(
                name, .missing, "\(path) does not run: \(reason(error))",
                mend: "apt-get install --reinstall wireguard-go")
        }
    }

    /// iptables-restore, the NAT of a router by it, and its IPv6 sister.
    static func firewallChecks(_ place: DoctorNamespace?) -> [DoctorCheck] {
        let four = restore("iptables", FirewallLoads.program, required: true)
        let six = restore("ip6tables", "ip6tables-restore", required: false)
        return [
            four.check, load("nat", four.path, routerRules, place, required: true), six.check,
            load("nat-ipv6", six.path, routerRules, place, required: false),
        ]
    }

    /// What a router with `nat = "masquerade"` loads; see LabPlanner's `NetworkPlanner`.
    package static let routerRules = """
        *nat
        -A POSTROUTING -o wan0 -j MASQUERADE
        COMMIT
        *filter
        -A INPUT -i wan0 -m conntrack --ctstate NEW,INVALID -j DROP
        -A FORWARD -i wan0 -m conntrack --ctstate NEW,INVALID -m conntrack ! --ctstate DNAT -j DROP
        COMMIT

        """

    private static func restore(_ name: String, _ program: String, required: Bool) -> (
        check: DoctorCheck, path: String?
    ) {
        let path: String
        do throws(OperationFailure) {
            path = try ProgramCall(program).findProgram()
        } catch {
            let check = DoctorCheck(
                name, .missing, required: required, "\(program) is not in PATH",
                mend: "apt-get install iptables")
            return (check, nil)
        }
        do throws(OperationFailure) {
            let output = try ProgramCall(path, ["--version"]).run()
            guard output.status.isSuccess else {
                throw OperationFailure("run", path, detail: firstLine(output.error))
            }
            return (
                DoctorCheck(name, .ok, required: required, "\(kind(ofVersion: output.output)), \(path)"), path
            )
        } catch {
            let check = DoctorCheck(
                name, .missing, required: required, "\(path) does not run: \(reason(error))",
                mend: "apt-get install --reinstall iptables")
            return (check, nil)
        }
    }

    /// "1.8.9 (nf_tables)" of "iptables-restore v1.8.9 (nf_tables)"; before 1.8 there was only the legacy kind, not
    /// named.
    package static func kind(ofVersion text: String) -> String {
        let words = firstLine(text).split(separator: " ")
        guard
            let version = words.first(where: { $0.hasPrefix("v") && $0.dropFirst().first?.isNumber == true })
        else { return firstLine(text) }
        let kind = words.last.flatMap { $0.hasPrefix("(") ? String($0) : nil } ?? "(legacy)"
        return "\(version.dropFirst()) \(kind)"
    }

    private static func load(
        _ name: String, _ path: String?, _ rules: String, _ place: DoctorNamespace?, required: Bool
    ) -> DoctorCheck {
        guard let path else {
            return DoctorCheck(
                name, .missing, required: required, "not tried: there is no program to load rules",
                mend: "apt-get install iptables")
        }
        guard let place else { return untried(name, required: required) }
        do throws(OperationFailure) {
            // The legacy kind locks a file for all namespaces, and leaves it: here nobody else can load rules.
            let environment = ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "XTABLES_LOCKFILE": "/dev/null"]
            let output = try ProgramCall(
                path, ["--noflush", "--wait"], environment: environment, network: place.network,
                newSession: true,
                folder: "/"
            ).run(input: Array(rules.utf8))
            guard output.status.isSuccess else {
                let said = output.error.split(separator: "\n").joined(separator: "; ")
                throw OperationFailure(
                    "load", "rules", detail: said.isEmpty ? "status \(output.status.shellStatus)" : said)
            }
            return DoctorCheck(name, .ok, required: required, "loaded MASQUERADE and conntrack rules")
        } catch {
            return DoctorCheck(
                name, .missing, required: required, reason(error),
                mend: kernelMend(
                    module: "-a nf_nat xt_MASQUERADE xt_conntrack",
                    option: "CONFIG_NF_NAT, CONFIG_NETFILTER_XT_TARGET_MASQUERADE"
                        + " and CONFIG_NETFILTER_XT_MATCH_CONNTRACK"))
        }
    }

    private static func firstLine(_ text: String) -> String {
        text.split(separator: "\n").first.map(String.init) ?? ""
    }
}
