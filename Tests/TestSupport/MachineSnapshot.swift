import Glibc
package import SystemCalls
package import Testing

/// What is on the machine that a lab may leave behind.
package struct MachineSnapshot: Hashable {
    package var namespaces: Set<String>
    package var mounts: Set<String>
    /// In /run/natlab.
    package var labs: Set<String>
    /// "PID NAME" of processes outside of the machine's own network namespace.
    package var foreignProcesses: Set<String>
    /// Of this process.
    package var descriptors: Set<String>

    /// Looks at the machine; `containing` keeps only names with this text, where other tests run beside.
    package static func take(containing part: String = "") throws(OperationFailure) -> MachineSnapshot {
        let own = NetworkNamespace.current()
        var processes: Set<String> = []
        for entry in try Files.list("/proc") {
            guard let pid = Int32(entry), let identity = NetworkNamespace.identity(ofProcess: pid),
                identity != own
            else { continue }
            processes.insert(entry)
        }
        let mounts = try Files.readText("/proc/thread-self/mountinfo").split(separator: "\n").compactMap {
            line in
            let fields = line.split(separator: " ", maxSplits: 5)
            return fields.count > 4 ? String(fields[4]) : nil
        }
        func kept(_ names: some Sequence<String>) -> Set<String> {
            Set(names.filter { part.isEmpty || $0.contains(part) })
        }
        return MachineSnapshot(
            namespaces: kept(try Files.list(NetworkNamespace.directory)), mounts: kept(mounts),
            labs: kept(try Files.list("/run/natlab")), foreignProcesses: processes,
            descriptors: Set(try Files.list("/proc/self/fd")))
    }

    /// Fails the test when something of this name is on the machine.
    package static func expectNothing(
        named part: String, sourceLocation: SourceLocation = #_sourceLocation
    ) throws(OperationFailure) {
        let now = try take(containing: part)
        #expect(now.namespaces.isEmpty, sourceLocation: sourceLocation)
        #expect(now.mounts.isEmpty, sourceLocation: sourceLocation)
        #expect(now.labs.isEmpty, sourceLocation: sourceLocation)
        let processes = try processes(mentioning: part)
        #expect(processes.isEmpty, sourceLocation: sourceLocation)
    }

    /// "PID COMMAND" of processes whose command line or environment has this text, without this one.
    package static func processes(mentioning part: String) throws(OperationFailure) -> [String] {
        let wanted = Array(part.utf8)
        var result: [String] = []
        for entry in try Files.list("/proc") {
            guard let pid = Int32(entry), pid != getpid() else { continue }
            for file in ["cmdline", "environ"] {
                guard let bytes = try? Files.read("/proc/\(entry)/\(file)"),
                    bytes.firstRange(of: wanted) != nil
                else {
                    continue
                }
                result.append("\(entry) \(String(decoding: bytes.prefix(200), as: UTF8.self))")
                break
            }
        }
        return result
    }
}
