import SystemCalls
import TestSupport
import Testing

/// ```
///        hub 203.0.113.10 (rendezvous)
///         │
///   ──────┴────────────── internet
///      │             │
///    carrier       home         MASQUERADE
///      ┊ 40 ms, 5 %  │
///    phone         laptop
/// ```
@Suite(.serialized) struct MobileLabTests {
    @Test(.enabled(if: KernelAbilities.hasNetem, "\(KernelAbilities.noNetem)"))
    func peersOverADelayAndLoss() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("mobile")
            try lab.up()
            // A lost WireGuard handshake is tried again after 5 s.
            let verdicts = try natlab.json(Verdicts.self, "verify", "--lab", lab.name, "--timeout", "60")
            #expect(verdicts.ok && verdicts.problems.isEmpty)
            #expect(verdicts.pairs.count == 3)
            for pair in verdicts.pairs {
                #expect(pair.observed == "direct" && pair.ok)
                let time = try #require(pair.rtt_ms)
                // 2 x (40 ± 5) ms and the machine's own time.
                if [pair.from, pair.to].contains("phone") { #expect(time > 70) } else { #expect(time < 70) }
            }
            let pair = try #require(verdicts.pair("phone", "laptop"))
            #expect([pair.endpoint_owner, pair.return_endpoint_owner] == ["home", "carrier"])
            let shown = try natlab.succeed("status", "--lab", lab.name)
            #expect(shown.contains("delay 40ms, jitter 5ms, loss 5%, rate 20mbit"))
            let down = try natlab.succeed("down", "--lab", lab.name)
            #expect(down.contains("nothing is left"))
        }
    }

    @Test(.disabled(if: KernelAbilities.hasNetem, "this kernel has netem"))
    func withoutNetemTheLackIsNamed() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("mobile")
            let refused = try natlab.run("up", lab.file)
            #expect(refused.status == .exited(3))
            #expect(refused.error.contains("phone") && refused.error.contains("sch_netem"))
            #expect(
                refused.error.contains("modprobe sch_netem") && refused.error.contains("only `rate` works"))
            try MachineSnapshot.expectNothing(named: lab.name)
        }
    }

    /// The same with a rate alone goes up on every kernel.
    @Test func rateAlonePeersEverywhere() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("mobile") {
                $0.replacing("delay = \"40ms\", jitter = \"5ms\", loss = \"5%\", ", with: "")
            }
            try lab.up()
            #expect(try natlab.run("verify", "--lab", lab.name).status == .exited(0))
            let shown = try tool("tc", "-n", lab.namespace("carrier"), "qdisc", "show", "dev", "lan0")
            #expect(shown.contains("qdisc tbf 1: root") && shown.contains("rate 20Mbit"))
            #expect(
                try natlab.succeed("status", "--lab", lab.name, "--json").contains(
                    "\"rate_bit_per_s\" : 20000000"))
        }
    }
}
