package import ArgumentParser
import Glibc
import LinuxLab
import PacketCapture
import SystemCalls

/// `natlab capture NODE[:IFACE]...`: the packets of nodes and links of a lab, as pcapng.
package struct CaptureCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "capture",
        abstract: "Captures packets of the lab's nodes and links into one pcapng file.",
        discussion: """
            A node alone means all its interfaces that are up: eth0 and wg0 of a host, wan0 and lan0 of a router, all \
            that crosses a segment. Wireshark, tshark and tcpdump read the file; it has the lab's names in it (tshark \
            -N n). Ends by Ctrl-C, `natlab down` or one of the limits, with a complete file.

              natlab capture alpine1 home-a home-b alpine2 -w lab.pcapng
              natlab capture home-a:wan0 | tshark -N n -i -
            """)

    @OptionGroup var lab: LabOptions

    @Argument(
        help: ArgumentHelp("A host, router or segment, or one interface of it.", valueName: "node[:iface]"))
    var places: [String]

    @Option(
        name: .customShort("w"),
        help: ArgumentHelp(
            "Where to write; `-` is standard output, which is the default where it is no terminal.",
            valueName: "file"))
    var file: String = "-"

    @Option(help: ArgumentHelp("End after so many packets.", valueName: "packets"))
    var count: UInt64?

    @Option(help: ArgumentHelp("End after so many seconds.", valueName: "seconds"))
    var duration: Double?

    @Option(help: ArgumentHelp("Keep at most so many bytes of a packet.", valueName: "bytes"))
    var snaplen = Self.longestPacket

    /// As tcpdump(8) and dumpcap(1) have it.
    private static let longestPacket = 262_144

    package init() {}

    package func validate() throws {
        guard !places.isEmpty else { throw ValidationError("Name at least one node.") }
        guard count != 0 else { throw ValidationError("--count takes packets, at least 1.") }
        guard duration.map({ $0 > 0 && $0 <= 1e9 }) ?? true else {
            throw ValidationError("--duration takes seconds, above 0 and up to 1000000000.")
        }
        guard (1...Self.longestPacket).contains(snaplen) else {
            throw ValidationError("--snaplen takes bytes, 1 to \(Self.longestPacket).")
        }
    }

    package func run() throws {
        guard file != "-" || isatty(STDOUT_FILENO) == 0 else {
            throw CommandFailure(
                .usage,
                """
                a terminal cannot show a capture
                  write it to a file with -w FILE, or read it at once: natlab capture \(places[0]) | tshark -i -
                """)
        }
        let state = try lab.state()
        let plan = try orFailed(.lab) { () throws(OperationFailure) in try state.readPlan() }
        let choice = try CaptureChoice(places, in: plan)
        // Before the output is opened: what does not begin leaves an older file as it was.
        let capture = try orFailed(.lab) { () throws(OperationFailure) in
            try PacketCapture(
                CaptureRequest(
                    points: choice.points, section: choice.section, names: choice.names, snapLength: snaplen,
                    count: count, duration: duration.map { .seconds($0) }))
        }
        let output = try orFailed(.usage) { () throws(OperationFailure) in try open() }
        let summary: CaptureSummary
        do throws(OperationFailure) {
            summary = try capture.run(to: output, name: file == "-" ? "standard output" : file) {
                Terminal.note("capturing \(CaptureText.list(choice.points.map(\.name))); Ctrl-C ends it")
            }
        } catch { throw CommandFailure(error, status: .machine) }
        Terminal.note(CaptureText.line(summary))
        switch summary.end {
        case .asked, .gone: break
        case .readerGone: InheritedSignals.endByBrokenPipe()
        case .failed(let failure): throw CommandFailure(failure, status: .machine)
        }
        guard summary.isWhole else {
            throw CommandFailure(.machine, "the end of the capture is lost: its reader does not read")
        }
    }

    private func open() throws(OperationFailure) -> Descriptor {
        guard file == "-" else {
            return try Files.open(file, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644, operation: "write capture")
        }
        let copy = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)
        guard copy >= 0 else { throw OperationFailure("write capture", "standard output", errno: errno) }
        return Descriptor(adopting: copy)
    }
}

/// What the command says.
enum CaptureText {
    /// "20 packets: alpine1:eth0 12, home-a:wan0 8; none dropped".
    static func line(_ summary: CaptureSummary) -> String {
        let interfaces = summary.interfaces.map { "\($0.name) \($0.packets)" + ($0.isGone ? " (gone)" : "") }
        let dropped = summary.interfaces.filter { $0.dropped > 0 }.map { "\($0.name) \($0.dropped)" }
        return "\(count(summary.interfaces.reduce(0) { $0 + Int(clamping: $1.packets) }, "packet")): "
            + interfaces.joined(separator: ", ") + "; "
            + (dropped.isEmpty ? "none dropped" : "dropped: " + dropped.joined(separator: ", "))
    }

    /// The first few of many.
    static func list(_ names: [String]) -> String {
        let shown = names.prefix(8).joined(separator: ", ")
        return names.count > 8 ? "\(shown) and \(names.count - 8) more" : shown
    }
}
