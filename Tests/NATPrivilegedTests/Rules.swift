import FoundationEssentials
import SystemCalls
import TestSupport
import Testing

/// A plan's steps, as far as they load rules: `natlab plan --format json`.
private struct Plan: Decodable {
    struct Step: Decodable {
        struct Effect: Decodable {
            var effect: String
            var namespace: String?
            var text: String?
        }
        var effect: Effect
    }
    var steps: [Step]
}

/// A router's rules, taken away and given back with the real tools.
struct RouterRules {
    let lab: Lab
    let router: String

    private func run(_ program: String, _ arguments: [String], input: String = "") throws {
        let output = try ProgramCall("ip", ["netns", "exec", lab.namespace(router), program] + arguments)
            .run(input: Array(input.utf8))
        try #require(output.status.isSuccess, "\(program) \(arguments): \(output.error)")
    }

    /// Deletes the only nftables rule in the chain that has the text in it.
    func delete(_ text: String, in chain: String) throws {
        let listing = try tool(
            in: lab.namespace(router), "nft", "-a", "list", "chain", "ip", "natlab", chain)
        let rules = listing.split(separator: "\n").filter { $0.contains(text) && !$0.contains("chain ") }
        try #require(rules.count == 1, "'\(text)' in \(chain) of \(router): \(listing)")
        let handle = try #require(rules.first?.split(separator: " ").last)
        try run("nft", ["delete", "rule", "ip", "natlab", chain, "handle", String(handle)])
    }

    /// `iptables -D`, with the rule as iptables-restore has it.
    func delete(iptables rule: String, from table: String) throws {
        try run("iptables", ["-t", table, "-D"] + rule.split(separator: " ").map(String.init))
    }

    /// Takes all rules out and loads those of the plan.
    func reload() throws {
        let output = try lab.natlab.succeed("plan", "--format", "json", lab.file)
        let plan = try JSONDecoder().decode(Plan.self, from: Data(output.utf8))
        let loads = plan.steps.map(\.effect).filter {
            $0.namespace == lab.namespace(router) && $0.effect.hasPrefix("load-")
        }
        try #require(loads.count == 1)
        for load in loads {
            let text = try #require(load.text)
            if load.effect == "load-nftables" {
                try run("nft", ["delete", "table", "ip", "natlab"])
                try run("nft", ["-f", "-"], input: text)
            } else {
                for table in ["nat", "filter"] { try run("iptables", ["-t", table, "-F"]) }
                try run("iptables-restore", ["--noflush"], input: text)
            }
        }
    }
}
