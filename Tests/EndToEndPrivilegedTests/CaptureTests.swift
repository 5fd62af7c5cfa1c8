import Glibc
import SystemCalls
import TestSupport
import Testing

/// `natlab capture`, with tshark and capinfos as witnesses, on the quickstart template.
///
/// ```
///             hub 203.0.113.10
///   ───────────┴──────────── internet (br0)
///      │ .2              │ .3
///    home-a            home-b        MASQUERADE, both LANs 192.168.1.0/24
///      │                 │
///    alpine1 .2        alpine2 .2    wg0 10.66.66.2 and .3
/// ```
@Suite(.serialized) struct CaptureTests {
    private func withLab(
        _ body: (Natlab, Lab, Cleanup) throws -> Void
    ) throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            let lab = try natlab.writeTemplate("quickstart") {
                $0.replacing("[wireguard.wg0]", with: "[wireguard.wg0]\nbackend = \"userspace\"")
            }
            try lab.up()
            try body(natlab, lab, cleanup)
        }
    }

    /// A capture that has begun.
    private func begin(_ natlab: Natlab, _ lab: Lab, _ cleanup: Cleanup, _ arguments: String...) throws
        -> Background
    {
        let capture = try Background(
            ProgramCall(
                Natlab.binary, ["capture", "--lab", lab.name] + arguments, folder: natlab.folder),
            natlab.folder, cleanup)
        try #require(try capture.waits(for: "Ctrl-C ends it"), "\(capture.error)")
        return capture
    }

    /// Pings of a size that nothing else in the lab has, each of them answered.
    private func ping(_ lab: Lab, from node: String, to address: String, count: Int = 3) throws {
        try tool(
            in: lab.namespace(node), "ping", "-n", "-c", "\(count)", "-i", "0.01", "-W", "5", "-s", "333",
            address)
    }

    /// What tshark reads, a dictionary of the fields for each packet.
    private func packets(_ file: String, _ fields: [String], filter: String = "") throws -> [[String: String]]
    {
        let text = try tool(
            "tshark",
            ["-r", file, "-n", "-T", "fields"] + fields.flatMap { ["-e", $0] }
                + (filter.isEmpty ? [] : ["-Y", filter]))
        return text.split(separator: "\n").map { line in
            let values = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
            return Dictionary(zip(fields, values), uniquingKeysWith: { first, _ in first })
        }
    }

    @Test func onePacketIsSeenBeforeAndAfterTranslation() throws {
        try withLab { natlab, lab, cleanup in
            let before = wallClockNanoseconds()
            let capture = try begin(
                natlab, lab, cleanup, "alpine1", "hub:eth0", "home-a", "home-b", "-w", "all.pcapng")
            try ping(lab, from: "alpine1", to: "203.0.113.10")
            #expect(try capture.stop(SIGINT) == .exited(0))
            let after = wallClockNanoseconds()
            let file = "\(natlab.folder)/all.pcapng"

            let all = try packets(
                file,
                ["frame.interface_name", "ip.src", "ip.dst", "icmp.type", "frame.packet_flags_direction"],
                filter: "icmp && icmp.seq == 1 && frame.len == 375")
            let seen = all.map { fields in
                [fields["frame.interface_name"], fields["ip.src"], fields["ip.dst"], fields["icmp.type"]]
                    .map { $0 ?? "" }.joined(separator: " ")
            }
            // Each once at each place, in the order of its way, and home-b, which it does not cross, never.
            #expect(
                seen == [
                    "alpine1:eth0 192.168.1.2 203.0.113.10 8", "home-a:lan0 192.168.1.2 203.0.113.10 8",
                    "home-a:wan0 203.0.113.2 203.0.113.10 8", "hub:eth0 203.0.113.2 203.0.113.10 8",
                    "hub:eth0 203.0.113.10 203.0.113.2 0", "home-a:wan0 203.0.113.10 203.0.113.2 0",
                    "home-a:lan0 203.0.113.10 192.168.1.2 0", "alpine1:eth0 203.0.113.10 192.168.1.2 0",
                ])
            #expect(
                all.map { ($0["frame.packet_flags_direction"] ?? "").suffix(1) } == [
                    "2", "1", "2", "1", "2", "1", "2", "1",
                ])

            let times = try packets(file, ["frame.time_epoch", "frame.interface_name"])
            #expect(times.count >= 24)
            let stamps = try times.map { try nanoseconds(try #require($0["frame.time_epoch"])) }
            #expect(stamps.allSatisfy { before <= $0 && $0 <= after })
            for name in Set(times.compactMap { $0["frame.interface_name"] }) {
                let own = zip(times, stamps).filter { $0.0["frame.interface_name"] == name }.map(\.1)
                #expect(own == own.sorted(), "\(name)")
            }
        }
    }

    private func nanoseconds(_ text: String) throws -> Int64 {
        let parts = text.split(separator: ".")
        try #require(parts.count == 2 && parts[1].count == 9)
        return try #require(Int64(parts[0] + parts[1]))
    }

    @Test func theFileHasTheLabsNames() throws {
        try withLab { natlab, lab, cleanup in
            let capture = try begin(natlab, lab, cleanup, "alpine1", "home-b", "-w", "names.pcapng")
            try ping(lab, from: "alpine1", to: "203.0.113.10")
            #expect(try capture.stop(SIGTERM) == .exited(0))
            #expect(capture.error.contains("none dropped"))
            let file = "\(natlab.folder)/names.pcapng"
            let about = try tool("capinfos", file)
            for text in [
                "Capture comment:     lab \(lab.name)", "Capture application: natlab ",
                "Capture oper-sys:    Linux ",
                "Capture hardware:    ", "Name = alpine1:eth0",
                "Description = eth0 of host alpine1, on home-a",
                "Name = alpine1:wg0", "Encapsulation = Raw IP", "Name = home-b:wan0", "Name = home-b:lan0",
                "Time precision = nanoseconds (9)", "Number of stat entries = 1",
                "Number of interfaces in file: 4",
            ] { #expect(about.contains(text), "\(text)\n\(about)") }
            // 192.168.1.2 is alpine1's and alpine2's, and both LANs are in the file.
            let shown = try tool("tshark", "-r", file, "-N", "nd", "-Y", "icmp.type == 8 && frame.len == 375")
            #expect(shown.contains("alpine1|alpine2 → hub"), "\(shown)")

            // Of one home alone it is that home's.
            let one = try begin(natlab, lab, cleanup, "alpine1", "-w", "one.pcapng")
            try ping(lab, from: "alpine1", to: "203.0.113.10")
            try ping(lab, from: "alpine1", to: "192.168.1.1", count: 1)
            #expect(try one.stop(SIGINT) == .exited(0))
            let lines = try tool(
                "tshark", "-r", "\(natlab.folder)/one.pcapng", "-N", "nd", "-Y", "icmp.type == 8")
            #expect(lines.contains("alpine1 → hub") && lines.contains("alpine1 → home-a"), "\(lines)")
        }
    }

    @Test func aTunnelShowsWhatIsInside() throws {
        try withLab { natlab, lab, cleanup in
            #expect(try natlab.run("verify", "--lab", lab.name).status == .exited(0))
            let capture = try begin(natlab, lab, cleanup, "alpine1:wg0", "alpine2:wg0", "-w", "wg.pcapng")
            try ping(lab, from: "alpine1", to: "10.66.66.3")
            #expect(try capture.stop(SIGINT) == .exited(0))
            let file = "\(natlab.folder)/wg.pcapng"
            let shown = try packets(
                file, ["frame.interface_name", "ip.src", "ip.dst"],
                filter: "icmp.type == 8 && frame.len == 361"
            )
            #expect(shown.count { $0["frame.interface_name"] == "alpine1:wg0" } == 3)
            #expect(shown.count { $0["frame.interface_name"] == "alpine2:wg0" } == 3)
            #expect(shown.allSatisfy { $0["ip.src"] == "10.66.66.2" && $0["ip.dst"] == "10.66.66.3" })
            #expect(try tool("tshark", "-r", file, "-N", "nd").contains("alpine1.wg0 → alpine2.wg0"))
        }
    }

    @Test func aSegmentShowsEachFrameOnceAndItsPortsTheirOwn() throws {
        try withLab { natlab, lab, cleanup in
            let capture = try begin(
                natlab, lab, cleanup, "internet", "internet:home-b", "internet", "-w", "net.pcapng")
            try ping(lab, from: "alpine1", to: "203.0.113.10")
            try ping(lab, from: "alpine2", to: "203.0.113.10", count: 2)
            #expect(try capture.stop(SIGINT) == .exited(0))
            let shown = try packets(
                "\(natlab.folder)/net.pcapng", ["frame.interface_name", "ip.src"],
                filter: "icmp.type == 8 && frame.len == 375")
            func count(_ interface: String, _ source: String) -> Int {
                shown.count { $0["frame.interface_name"] == interface && $0["ip.src"] == source }
            }
            #expect(count("internet:br0", "203.0.113.2") == 3)
            #expect(count("internet:br0", "203.0.113.3") == 2)
            #expect(count("internet:home-b", "203.0.113.2") == 0)
            #expect(count("internet:home-b", "203.0.113.3") == 2)
        }
    }

    @Test func limitsEndItAndCutPackets() throws {
        try withLab { natlab, lab, cleanup in
            let capture = try begin(
                natlab, lab, cleanup, "home-a:lan0", "--count", "4", "--snaplen", "60", "-w", "few.pcapng")
            try ping(lab, from: "alpine1", to: "203.0.113.10", count: 5)
            #expect(try capture.wait(seconds: 10) == .exited(0))
            #expect(capture.error.contains("4 packets: home-a:lan0 4; none dropped"))
            let few = try packets("\(natlab.folder)/few.pcapng", ["frame.len", "frame.cap_len"])
            #expect(few.count == 4)
            #expect(few.contains { $0["frame.len"] == "375" && $0["frame.cap_len"] == "60" })

            let start = MonotonicTime.now()
            let text = try natlab.succeed(
                "capture", "--lab", lab.name, "hub", "--duration", "0.3", "-w", "short.pcapng")
            #expect(text.isEmpty && MonotonicTime.now() - start >= .milliseconds(300))
            #expect(try tool("capinfos", "\(natlab.folder)/short.pcapng").contains("Name = hub:eth0"))
        }
    }

    @Test func aPipeIsServedAtOnceAndItsReadersEndIsHeeded() throws {
        try withLab { natlab, lab, cleanup in
            // Ends only by tshark's having seen the packets while the capture goes on.
            let script = """
                "$0" capture --lab "$1" alpine1 2>capture.txt | tshark -l -n -i - -c 2 -f '' 2>/dev/null
                echo "${PIPESTATUS[0]} ${PIPESTATUS[1]}"
                """
            let pipe = try Background(
                ProgramCall("bash", ["-c", script, Natlab.binary, lab.name], folder: natlab.folder),
                natlab.folder,
                cleanup)
            let live = try waitUntil(timeout: .seconds(20), pause: .milliseconds(20)) {
                () throws(OperationFailure) in
                _ = try pings(from: lab.namespace("alpine1"), to: "203.0.113.10")
                return pipe.output.contains("141 0")
            }
            #expect(live, "\(pipe.output)")
            #expect((try? Files.readText("\(natlab.folder)/capture.txt"))?.contains("alpine1:eth0") == true)
        }
    }

    @Test func aReaderThatStoppedDoesNotKeepItFromItsEnd() throws {
        try withLab { natlab, lab, cleanup in
            try tool("mkfifo", "\(natlab.folder)/pipe")
            let reader = try Files.open("\(natlab.folder)/pipe", O_RDWR)
            let capture = try begin(natlab, lab, cleanup, "alpine1:eth0", "-w", "pipe")
            // More than a pipe holds.
            try tool(
                in: lab.namespace("alpine1"), "ping", "-n", "-q", "-c", "200", "-i", "0.002", "-s", "1400",
                "203.0.113.10")
            #expect(try capture.stop(SIGINT) == .exited(3))
            #expect(capture.error.contains("its reader does not read"))
            // What waited for it is lost, and so told.
            #expect(capture.error.contains("; dropped: alpine1:eth0 "), "\(capture.error)")
            _ = consume reader
        }
    }

    @Test func aFullDiskLeavesAFileOfWholePackets() throws {
        try withLab { natlab, lab, cleanup in
            let folder = "\(natlab.folder)/small"
            try Files.makeFolder(folder, mode: 0o700)
            try tool("mount", "-t", "tmpfs", "-o", "size=64k", "none", folder)
            cleanup.add("mount \(folder)") { try tool("umount", folder) }
            let capture = try begin(natlab, lab, cleanup, "alpine1:eth0", "-w", "small/full.pcapng")
            try tool(
                in: lab.namespace("alpine1"), "ping", "-n", "-q", "-c", "100", "-i", "0.002", "-s", "1400",
                "203.0.113.10")
            #expect(try capture.wait(seconds: 10) == .exited(3))
            #expect(capture.error.contains("write capture small/full.pcapng: No space left on device"))
            let whole = try packets("\(folder)/full.pcapng", ["frame.len"])
            #expect(whole.count > 20 && whole.count < 100)
            #expect(try !tool("capinfos", "\(folder)/full.pcapng").contains("cut short"))
        }
    }

    @Test func downEndsItWithAWholeFile() throws {
        try withLab { natlab, lab, cleanup in
            // Every node: without the capture's own doing all of their namespaces would go on to live.
            let capture = try begin(
                natlab, lab, cleanup, "alpine1", "alpine2", "hub", "home-a", "home-b", "internet", "-w",
                "d.pcapng")
            try ping(lab, from: "alpine1", to: "203.0.113.10")
            try natlab.succeed("down", "--lab", lab.name)
            #expect(try capture.wait(seconds: 10) == .exited(0))
            #expect(capture.error.contains("alpine1:eth0") && capture.error.contains("(gone)"))
            let file = "\(natlab.folder)/d.pcapng"
            #expect(
                try packets(file, ["frame.len"], filter: "icmp.type == 8 && frame.len == 375").count == 15)
            #expect(try tool("capinfos", file).contains("Number of interfaces in file: 11"))
        }
    }

    @Test func anInterfaceThatVanishesDoesNotEndTheOthers() throws {
        try withLab { natlab, lab, cleanup in
            let capture = try begin(natlab, lab, cleanup, "alpine1", "-w", "v.pcapng")
            try tool(in: lab.namespace("alpine1"), "ip", "link", "del", "wg0")
            // Down is not gone.
            try tool(in: lab.namespace("alpine1"), "ip", "link", "set", "eth0", "down")
            try tool(in: lab.namespace("alpine1"), "ip", "link", "set", "eth0", "up")
            try tool(in: lab.namespace("alpine1"), "ip", "route", "replace", "default", "via", "192.168.1.1")
            try ping(lab, from: "alpine1", to: "203.0.113.10")
            #expect(try capture.stop(SIGINT) == .exited(0))
            #expect(capture.error.contains("alpine1:wg0 0 (gone)"), "\(capture.error)")
            #expect(!capture.error.contains("eth0 0") && !capture.error.contains("eth0 (gone)"))
            #expect(
                try packets(
                    "\(natlab.folder)/v.pcapng", ["frame.len"], filter: "icmp.type == 8 && frame.len == 375"
                )
                .count == 3)
        }
    }

    @Test func theLastInterfacesEndIsItsEnd() throws {
        try withLab { natlab, lab, cleanup in
            let capture = try begin(natlab, lab, cleanup, "alpine1:wg0", "-w", "w.pcapng")
            try tool(in: lab.namespace("alpine1"), "ip", "link", "del", "wg0")
            #expect(try capture.wait(seconds: 10) == .exited(0))
            #expect(capture.error.contains("0 packets: alpine1:wg0 0 (gone)"), "\(capture.error)")
            #expect(
                try tool("capinfos", "\(natlab.folder)/w.pcapng").contains("Number of stat entries = 1"))
        }
    }

    @Test func wrongWordsAreToldWithThoseThereAre() throws {
        try withLab { natlab, lab, _ in
            try natlab.write("old.pcapng", "kept")
            func refused(_ arguments: [String], _ words: [String]) throws {
                let output = try ProgramCall(
                    Natlab.binary, ["capture", "--lab", lab.name] + arguments + ["-w", "old.pcapng"],
                    folder: natlab.folder
                ).run()
                #expect(output.status == .exited(2), "\(output.error)")
                for text in words { #expect(output.error.contains(text), "\(output.error)") }
            }
            // Both at once.
            try refused(
                ["alpin1", "home-a:wan1"],
                [
                    "no node 'alpin1'; did you mean 'alpine1'? it has: internet, home-a, home-b, hub, alpine1, alpine2",
                    "node 'home-a' has no interface 'wan1'; did you mean 'wan0'? it has: lo, ",
                ])
            try refused(["alpine1:"], ["node 'alpine1' has no interface ''"])
            try refused(["alpine1", "--count", "0"], ["--count takes packets"])
            try refused(["alpine1", "--duration", "nan"], ["--duration takes seconds"])
            try refused(["alpine1", "--snaplen", "0"], ["--snaplen takes bytes"])
            #expect(try Files.readText("\(natlab.folder)/old.pcapng") == "kept")
            let nowhere = try natlab.run("capture", "--lab", lab.name, "hub", "-w", "missing/x.pcapng")
            #expect(nowhere.status == .exited(2) && nowhere.error.contains("No such file"))
            let noLab = try natlab.run("capture", "--lab", "no-such-lab", "hub", "-w", "x.pcapng")
            #expect(noLab.status == .exited(4))
            // script(1) has it write to a terminal.
            let shown = try ProgramCall(
                "script", ["-qec", "\(Natlab.binary) capture --lab \(lab.name) hub", "/dev/null"]
            ).run()
            #expect(shown.status == .exited(2))
            #expect((shown.output + shown.error).contains("a terminal cannot show a capture"))
        }
    }
}
