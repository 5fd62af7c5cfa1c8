import FoundationEssentials
import Glibc
import SystemCalls
import TestSupport
import Testing

/// Clients that start later than the agent; as `natlab matrix` has them, by the plan.
@Suite(.serialized) struct StartOrderTests {
    private struct Status: Decodable {
        struct Tunnel: Decodable {
            struct Peer: Decodable { var client: String? }
            var host: String
            var client: String?
            var peers: [Peer]
        }
        struct Rendezvous: Decodable { var registered: Int? }
        var wireguard: [Tunnel]
        var rendezvous: Rendezvous?
    }

    @Test func aClientStartsWithItsDelayAndIsWellUntilThen() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("quickstart")
            try lab.up()
            let folder = "/run/natlab/\(lab.name)", mark = "NATLAB_AGENT_OF=\(folder)"
            let agents = try Files.list("/proc").compactMap { Int32($0) }.filter { pid in
                let environment = (try? Files.read("/proc/\(pid)/environ")) ?? []
                return environment.split(separator: 0).contains { $0.elementsEqual(mark.utf8) }
            }
            try #require(agents.count == 1)
            try ProcessHandle(pid: agents[0]).signal(SIGTERM)
            #expect(try waitUntil(timeout: .seconds(10), pause: .milliseconds(5)) { !isRunning(agents[0]) })

            let plan = "\(folder)/plan.json"
            let text = try Files.readText(plan)
            let client = "{\"host\":\"alpine2\",\"interface\":\"wg0\""
            try #require(text.contains("\(client)}"))
            try Files.writeAtomically(
                plan, Array(text.replacing("\(client)}", with: "\(client),\"start_delay_ms\":3000}").utf8),
                mode: 0o600)
            let start = MonotonicTime.now()
            try startAgent(natlab, lab, folder, cleanup)
            #expect(MonotonicTime.now() - start < .seconds(3), "nobody waits for it")

            func status() throws -> Status { try natlab.json(Status.self, "status", "--lab", lab.name) }
            let others = try waitUntil(timeout: .seconds(10), pause: .milliseconds(20)) {
                (try? status())?.rendezvous?.registered == 2
            }
            #expect(others && MonotonicTime.now() - start < .seconds(3))
            let tunnel = try #require(try status().wireguard.first { $0.host == "alpine2" })
            #expect(tunnel.client == "starts 3000 ms after the lab's agent")
            #expect(tunnel.peers.count == 2 && tunnel.peers.allSatisfy { $0.client == tunnel.client })
            let verdicts = try natlab.json(Verdicts.self, "verify", "--lab", lab.name)
            #expect(verdicts.ok && verdicts.problems.isEmpty)

            let all = try waitUntil(timeout: .seconds(10), pause: .milliseconds(20)) {
                (try? status())?.rendezvous?.registered == 3
            }
            #expect(all && MonotonicTime.now() - start >= .seconds(3))
            #expect(
                try status().wireguard.first { $0.host == "alpine2" }?.client?.hasPrefix("registered") == true
            )
        }
    }

    /// Starts an agent as `up` does, and waits until it serves; `down` knows it by its environment.
    private func startAgent(_ natlab: Natlab, _ lab: Lab, _ folder: String, _ cleanup: Cleanup) throws {
        var ends: [Int32] = [-1, -1]
        try #require(
            socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0)
        let reading = Descriptor(adopting: ends[0]), writing = Descriptor(adopting: ends[1])
        var call = ProgramCall(
            Natlab.binary, ["__agent", "/run/natlab", lab.name], newSession: true, folder: "/")
        call.environment = ["NATLAB_AGENT_OF": folder, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"]
        let child = try call.spawn(extra: [writing.rawValue])
        cleanup.add("agent of \(lab.name)") { [pid = child.pid] in
            if isRunning(pid) { try ProcessHandle(pid: pid).signal(SIGKILL) }
        }
        _ = consume writing
        var byte: UInt8 = 0
        try #require(read(reading.rawValue, &byte, 1) == 1, "it ended before it served")
        _ = consume child
    }
}
