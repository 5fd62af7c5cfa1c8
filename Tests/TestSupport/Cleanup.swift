package import SystemCalls
import Testing

/// Undoes what a test made, the last first, also when the test fails.
package final class Cleanup {
    private var actions: [(String, () throws -> Void)] = []

    /// Registers what undoes the thing that was, or is about to be, made.
    package func add(_ what: String, _ action: @escaping () throws -> Void) { actions.append((what, action)) }

    /// A namespace of this name with `lo` up, removed at the end.
    package func namespace(_ name: String) throws(OperationFailure) -> NetworkNamespace {
        let namespace = NetworkNamespace(name)
        try prepareNamespaceFolder()
        _ = try namespace.make()
        add("namespace \(name)") { try namespace.remove() }
        return namespace
    }

    /// A folder under /tmp, removed with all in it at the end.
    package func folder() throws(OperationFailure) -> String {
        let path = "/tmp/\(uniqueName("natlab-test"))"
        try Files.makeFolder(path, mode: 0o700)
        add("folder \(path)") { try Files.removeTree(path) }
        return path
    }

    fileprivate func run() {
        for (what, action) in actions.reversed() {
            do { try action() } catch { Issue.record("cleaning up \(what): \(error)") }
        }
        actions = []
    }
}

/// Runs a test's body and then undoes what it registered.
package func withCleanup<R>(_ body: (Cleanup) throws -> R) rethrows -> R {
    let cleanup = Cleanup()
    defer { cleanup.run() }
    return try body(cleanup)
}

/// The same for a body that waits.
package func withCleanup<R>(_ body: (Cleanup) async throws -> R) async rethrows -> R {
    let cleanup = Cleanup()
    defer { cleanup.run() }
    return try await body(cleanup)
}

/// Makes /run/netns the shared mount that ip-netns(8) makes, by letting that program do it.
package func prepareNamespaceFolder() throws(OperationFailure) {
    let name = uniqueName("natlab-prepare")
    try tool("ip", "netns", "add", name)
    try tool("ip", "netns", "del", name)
}
