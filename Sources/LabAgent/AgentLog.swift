import Glibc
package import Logging
package import SystemCalls

/// Writes the agent's log: one JSON object a line, flushed at once, never an obstacle to the agent's work.
///
/// Keys: time (RFC 3339, UTC), level, event, and the metadata's own. A full disk loses lines, not the agent: what was lost is
/// counted and said as soon as there is room again.
package struct AgentLogHandler: LogHandler {
    package var metadata: Logger.Metadata = [:]
    package var logLevel: Logger.Level = .info
    private let file: AgentLogFile

    package init(_ file: AgentLogFile) { self.file = file }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        let all = metadata.merging(event.metadata ?? [:]) { _, new in new }
        var line = #"{"time":"\#(RFC3339.text(wallClockNanoseconds()))","level":"\#(event.level.rawValue)","#
        line += #""event":\#(JSONText.quoted(event.message.description))"#
        for (key, value) in all.sorted(by: { $0.key < $1.key }) {
            line += ",\(JSONText.quoted(key)):\(JSONText.quoted(value.description))"
        }
        file.append(line + "}\n")
    }
}

/// The open log file of one agent.
package final class AgentLogFile: @unchecked Sendable {
    // @unchecked: the agent is single-threaded, and Logger asks for Sendable.
    private let descriptor: Descriptor
    private var lost = 0
    /// The last line is there only in part.
    private var isTorn = false
    private var size: Int
    /// /run is memory: what comes on top is lost, and said at the end of what is there.
    private static let sizeLimit = 16 << 20

    /// Opens for appending, mode 0600.
    package init(_ path: String) throws(OperationFailure) {
        descriptor = try Files.open(path, O_WRONLY | O_CREAT | O_APPEND, mode: 0o600)
        size = Int(max(0, lseek(descriptor.rawValue, 0, SEEK_END)))
    }

    func append(_ line: String) {
        guard size < Self.sizeLimit else { return }
        var text = isTorn ? "\n" : ""
        if lost > 0 { text += Self.notice("log-lines-lost", #""count":"\#(lost)""#) }
        text += line
        if size + text.utf8.count >= Self.sizeLimit {
            text += Self.notice("log-full", #""text":"nothing more is logged""#)
        }
        let bytes = Array(text.utf8)
        let written = bytes.withUnsafeBytes { write(descriptor.rawValue, $0.baseAddress, $0.count) }
        size += max(0, written)
        if written == bytes.count {
            lost = 0
            isTorn = false
        } else {
            lost += 1
            isTorn = isTorn || written > 0
        }
    }

    private static func notice(_ event: String, _ field: String) -> String {
        #"{"time":"\#(RFC3339.text(wallClockNanoseconds()))","level":"warning","event":"\#(event)",\#(field)}"#
            + "\n"
    }
}

/// Points in time as text (RFC 3339 section 5.6), UTC, milliseconds.
package enum RFC3339 {
    package static func text(_ nanoseconds: Int64) -> String {
        var seconds = time_t(nanoseconds / 1_000_000_000)
        var parts = tm()
        gmtime_r(&seconds, &parts)
        func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
        let milliseconds = nanoseconds / 1_000_000 % 1000
        let fraction =
            milliseconds < 10
            ? "00\(milliseconds)" : milliseconds < 100 ? "0\(milliseconds)" : "\(milliseconds)"
        return "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))T"
            + "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)).\(fraction)Z"
    }
}

/// JSON strings (RFC 8259 section 7).
enum JSONText {
    static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case _ where scalar.value < 0x20:
                let hex = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
