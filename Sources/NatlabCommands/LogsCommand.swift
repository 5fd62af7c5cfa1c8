package import ArgumentParser
import FoundationEssentials
import Glibc
import LinuxLab
import SystemCalls

/// `natlab logs [-f]`: what the rendezvous server and the clients saw.
package struct LogsCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "logs", abstract: "Shows what the rendezvous server and the clients saw.")

    @OptionGroup var lab: LabOptions

    @Flag(name: .shortAndLong, help: "Go on with new lines until Ctrl-C or `natlab down`.")
    var follow = false

    @Flag(help: "Print each line as the JSON object it is.")
    var json = false

    package init() {}

    package func run() throws {
        let state = try lab.state()
        let path = "\(state.logsFolder)/agent.log"
        let file: Descriptor
        do throws(OperationFailure) {
            file = try Files.open(path, O_RDONLY)
        } catch {
            guard error.errno == ENOENT else { throw CommandFailure(error) }
            return Terminal.note("lab '\(state.lab)' has no rendezvous, and so no log")
        }
        var rest: [UInt8] = []
        try show(file, &rest)
        guard follow else { return }
        let watch = inotify_init1(Int32(IN_CLOEXEC))
        guard watch >= 0, inotify_add_watch(watch, path, UInt32(IN_MODIFY | IN_DELETE_SELF | IN_ATTRIB)) >= 0
        else {
            throw CommandFailure(
                .machine,
                "cannot follow \(path): \(OperationFailure.text(of: errno))"
                    + (errno == EMFILE ? "\n  raise fs.inotify.max_user_instances" : ""))
        }
        defer { close(watch) }
        var events = [UInt8](repeating: 0, count: 4096)
        while read(watch, &events, events.count) > 0 {
            try show(file, &rest)
            // The file is unlinked by `down`; its last lines have been shown.
            guard Files.exists(path) else { return }
        }
    }

    /// Shows all whole lines from the file's position on; `rest` keeps a torn one.
    private func show(_ file: borrowing Descriptor, _ rest: inout [UInt8]) throws {
        rest += try orFailed { () throws(OperationFailure) in try file.readAll() }
        guard let end = rest.lastIndex(of: 0x0A) else { return }
        let text = String(decoding: rest[..<end], as: UTF8.self)
        rest.removeSubrange(...end)
        for line in text.split(separator: "\n") {
            try Terminal.result(json ? String(line) : Self.readable(line))
        }
    }

    /// One line for people.
    ///
    /// "12:00:01.234  alpine1 wg0  endpoint-set  203.0.113.3:51820  of alpine2"
    static func readable(_ line: Substring) -> String {
        guard let fields = try? JSONDecoder().decode([String: String].self, from: Data(line.utf8)) else {
            return String(line)
        }
        let time = (fields["time"] ?? "").dropFirst(11).prefix(12)
        let who = [fields["host"], fields["interface"]].compactMap { $0 }.joined(separator: " ")
        var text = "\(time)  \(who.isEmpty ? "agent" : who)  \(fields["event"] ?? "")"
        for key in ["peer", "endpoint", "text"] {
            if let value = fields[key], !value.isEmpty { text += "  \(value)" }
        }
        for (key, value) in fields.sorted(by: { $0.key < $1.key })
        where !["time", "host", "interface", "event", "level", "peer", "endpoint", "text"].contains(key) {
            text += "  \(key)=\(value)"
        }
        return text
    }
}
