import Glibc
import SystemCalls

/// Processes that live in a lab: their network namespace is one of its, or they are its agent or its wireguard-go.
struct LabProcesses {
    private let pinned: Set<NetworkNamespace.Identity>
    private let made: [NetworkNamespace.Identity: Set<UInt64>]
    private let marks: [[UInt8]]
    private let root: LabRoot

    /// `pinned` are the namespaces that the lab's pins hold, `made` those that `up` has noted, whether pinned or not.
    ///
    /// An inode of nsfs goes to the next namespace as soon as the former one is gone, so one of `made` counts
    /// only together with its cookie, which is never given again in a boot (and `made` is of this boot). One that is
    /// `kept`, pinned under a name that is not the lab's, is left alone: somebody wants it to outlive the lab.
    init(
        pinned: Set<NetworkNamespace.Identity>, made: [MadeNamespace],
        kept: Set<NetworkNamespace.Identity> = [], of state: LabState
    ) {
        // Never the machine's own, whatever a damaged pin may hold.
        let own = NetworkNamespace.current()
        self.pinned = own.map { pinned.subtracting([$0]) } ?? pinned
        var cookies: [NetworkNamespace.Identity: Set<UInt64>] = [:]
        for namespace in made where namespace.identity != own && !kept.contains(namespace.identity) {
            cookies[namespace.identity, default: []].insert(namespace.cookie)
        }
        self.made = cookies
        marks = [state.agentMark, state.wireGuardMark].map { Array("\($0.name)=\($0.value)".utf8) }
        root = state.root
    }

    /// One that was found, held so that no other process with its pid is meant later.
    final class Found {
        let handle: ProcessHandle
        let name: String
        init(_ handle: consuming ProcessHandle, name: String) {
            self.handle = handle
            self.name = name
        }
    }

    /// All of them, by pid.
    func find() throws(OperationFailure) -> [Found] {
        var result: [Found] = []
        for entry in try Files.list("/proc") {
            guard let pid = Int32(entry), belongs(pid) else { continue }
            do throws(OperationFailure) {
                let handle = try ProcessHandle(pid: pid)
                // Asked again with the handle open: the first answer may have been of a process that has
                // ended since.
                guard belongs(pid) else { continue }
                result.append(Found(handle, name: Self.name(pid)))
            } catch {
                guard error.errno == ESRCH else { throw error }
            }
        }
        return result.sorted { $0.handle.pid < $1.handle.pid }
    }

    /// Ends all of them, also those that they start meanwhile; "NAME (PID)" of each, and what could not be
    /// done.
    func end(grace: Duration) -> (ended: [String], problems: [OperationFailure]) {
        var ended: [String] = []
        var problems: [OperationFailure] = []
        // What forks faster than this is not ended by signals at all.
        for round in 0..<10 {
            do throws(OperationFailure) {
                let found = try find()
                if found.isEmpty { return (ended, problems) }
                ended += try end(found, grace: round == 0 ? grace : .zero)
            } catch {
                problems.append(error)
                return (ended, problems)
            }
        }
        problems.append(OperationFailure("end processes of", "the lab", detail: "new ones keep appearing"))
        return (ended, problems)
    }

    private func end(_ processes: [Found], grace: Duration) throws(OperationFailure) -> [String] {
        if grace > .zero { for process in processes { try process.handle.signal(SIGTERM) } }
        let deadline = MonotonicTime.now() + grace
        var late: [Found] = []
        for process in processes where !process.handle.waitForEnd(until: deadline) { late.append(process) }
        for process in late { try process.handle.signal(SIGKILL) }
        let last = MonotonicTime.now() + .seconds(5)
        for process in late where !process.handle.waitForEnd(until: last) {
            throw OperationFailure(
                "end process", "\(process.name) (\(process.handle.pid))", errno: ETIMEDOUT,
                detail: "SIGKILL did not end it")
        }
        return processes.map { "\($0.name) (\($0.handle.pid))" }
    }

    private func belongs(_ pid: Int32) -> Bool {
        guard pid != getpid(), let identity = NetworkNamespace.identity(ofProcess: pid) else { return false }
        if pinned.contains(identity) { return true }
        if let cookies = made[identity], let cookie = NetworkNamespace.cookie(ofProcess: pid),
            cookies.contains(cookie)
        {
            return true
        }
        // The agent lives in the namespace that `up` was run in, which may be any.
        guard let environment = try? Files.read("/proc/\(pid)/environ", limit: 1 << 22) else { return false }
        let isMarked = environment.split(separator: 0).contains { entry in
            marks.contains { entry.elementsEqual($0) }
        }
        return isMarked && ProcessView.isShared(root, pid: pid)
    }

    private static func name(_ pid: Int32) -> String {
        let text = (try? Files.readText("/proc/\(pid)/comm")) ?? ""
        return String(text.prefix { $0 != "\n" })
    }
}

/// What a process means by a path.
enum ProcessView {
    /// Whether the folder that the root is in, /run, is the same for the process: in a container it is another, with
    /// labs of its own under the same names.
    static func isShared(_ root: LabRoot, pid: Int32) -> Bool {
        let end = root.path.lastIndex(of: "/") ?? root.path.startIndex
        let parent = root.path[..<end].isEmpty ? "/" : String(root.path[..<end])
        var mine = stat()
        var theirs = stat()
        return stat(parent, &mine) == 0 && stat("/proc/\(pid)/root\(parent)", &theirs) == 0
            && mine.st_dev == theirs.st_dev && mine.st_ino == theirs.st_ino
    }
}
