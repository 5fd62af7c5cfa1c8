import Glibc

extension OperationFailure: CustomStringConvertible {
    /// One line: "create veth eth0 in lab.a: Operation not supported [95]: Unknown device type".
    package var description: String {
        var text = "\(operation) \(object)"
        if let namespace { text += " in \(namespace)" }
        if errno != 0 { text += ": \(Self.text(of: errno)) [\(errno)]" }
        if let detail { text += ": \(detail)" }
        return text
    }

    /// What strerror(3) says of an errno; glibc's is safe to call from several threads (strerror(3),
    /// "MT-Safe").
    package static func text(of errno: Int32) -> String {
        guard let text = strerror(errno) else { return "Unknown error" }
        return String(cString: text)
    }
}
