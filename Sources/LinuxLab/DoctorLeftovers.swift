import CNatlab
import Glibc
import SystemCalls

/// What earlier labs have left, found by reading only.
struct DoctorLeftovers {
    /// One thing, and the command that takes it away.
    typealias Leftover = (what: String, mend: String)

    let root: LabRoot
    /// With a folder under the root; complete or not.
    private(set) var labs: [LabListing] = []

    init(_ root: LabRoot) {
        self.root = root
        // As `LabRoot.labs`, but nothing is made: no folder, no lock file. Without the root's lock file nobody claims
        // a lab, and a failure to lock is shown by the commands that need to.
        let rootLock = try? Files.open(root.lockFile, O_RDWR)
        if let rootLock { _ = natlab_lock(rootLock.rawValue, true) }
        for name in (try? root.labNames()) ?? [] {
            labs.append(LabListing(lab: name, condition: Self.condition(of: root.state(of: name))))
        }
    }

    private static func condition(of state: LabState) -> LabListing.Condition {
        if let lock = try? Files.open(state.lockFile, O_RDWR),
            natlab_lock(lock.rawValue, false) == -EWOULDBLOCK
        {
            return .busy
        }
        return state.isComplete ? .running : .halfBuilt
    }

    func halfBuilt() -> [Leftover] {
        labs.filter { $0.condition == .halfBuilt }.map { ("lab \($0.lab)", "natlab down --lab \($0.lab)") }
    }

    /// Pins that hold a namespace and are named like a lab's, LAB.NODE, without that lab.
    func namespaces() -> [Leftover] {
        pins { name, hasNamespace in hasNamespace && Self.lab(ofNamespace: name) != nil }
    }

    /// Files under /run/netns that hold no namespace.
    func deadPins() -> [Leftover] { pins { _, hasNamespace in !hasNamespace } }

    private func pins(_ isLeftover: (String, Bool) -> Bool) -> [Leftover] {
        let names = (try? Files.list(NetworkNamespace.directory)) ?? []
        return names.filter { name in
            let namespace = NetworkNamespace(name)
            guard isLeftover(name, namespace.identity() != nil), !belongsToLab(name) else { return false }
            // Asked last: a lab may have come or gone since the list was read.
            return namespace.isPinned && isLeftover(name, namespace.identity() != nil)
        }.map { ("\($0)", "ip netns del \($0)") }
    }

    private func belongsToLab(_ namespace: String) -> Bool {
        Self.lab(ofNamespace: namespace).map { Files.exists(root.state(of: $0).folder) } ?? false
    }

    /// "a" of "a.b" where both are names as natlab has them.
    static func lab(ofNamespace name: String) -> String? {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        func isName(_ part: Substring) -> Bool {
            !part.isEmpty
                && part.utf8.allSatisfy {
                    (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2D
                }
        }
        return parts.count == 2 && parts.allSatisfy(isName) ? String(parts[0]) : nil
    }

    /// wireguard-go of natlab in a namespace of no lab, and agents of no lab.
    func processes() -> [Leftover] {
        let own = NetworkNamespace.current()
        let labNamespaces = Set(
            ((try? Files.list(NetworkNamespace.directory)) ?? []).filter(belongsToLab)
                .compactMap { NetworkNamespace($0).identity() })
        var result: [Leftover] = []
        for entry in (try? Files.list("/proc")) ?? [] {
            guard let pid = Int32(entry), let identity = NetworkNamespace.identity(ofProcess: pid) else {
                continue
            }
            // `up` may have been run in any namespace, so its agent may be in any.
            if let folder = agentFolder(pid) {
                if !Files.exists(folder) { result.append(("agent \(pid) of \(folder)", "kill \(pid)")) }
            } else if identity != own, !labNamespaces.contains(identity), isWireGuardGoOfNatlab(pid) {
                result.append(("wireguard-go \(pid)", "kill \(pid)"))
            }
        }
        return result
    }

    /// The lab folder in the environment of one of this root's agents.
    private func agentFolder(_ pid: Int32) -> String? {
        let mark = root.state(of: "").agentMark
        let prefix = Array("\(mark.name)=\(mark.value)".utf8)
        guard ProcessView.isShared(root, pid: pid),
            let environment = try? Files.read("/proc/\(pid)/environ", limit: 1 << 22),
            let entry = environment.split(separator: 0).first(where: { $0.starts(with: prefix) })
        else { return nil }
        return String(decoding: entry.dropFirst(mark.name.utf8.count + 1), as: UTF8.self)
    }

    /// Told from others, a container's say, by the folder of a lab's host on /run/wireguard.
    private func isWireGuardGoOfNatlab(_ pid: Int32) -> Bool {
        guard let name = try? Files.readText("/proc/\(pid)/comm"), name == "wireguard-go\n",
            let mounts = try? Files.readText("/proc/\(pid)/mountinfo")
        else { return false }
        return mounts.split(separator: "\n").contains { line in
            let fields = line.split(separator: " ", maxSplits: 5)
            return fields.count > 5 && fields[4] == "/run/wireguard" && isHostFolder(String(fields[3]))
        }
    }

    /// ".../natlab/LAB/hosts/HOST/wg" with the root's own name, whatever file system /run is on; with "//deleted"
    /// behind it when the folder is gone (proc_pid_mountinfo(5)).
    func isHostFolder(_ path: String) -> Bool {
        let suffix = "//deleted"
        let parts = (path.hasSuffix(suffix) ? path.dropLast(suffix.count) : path[...]).split(separator: "/")
        return parts.count >= 5 && parts.last == "wg" && parts[parts.count - 3] == "hosts"
            && parts[parts.count - 5] == root.path.split(separator: "/").last
    }
}

extension Doctor {
    static func leftoverChecks(_ root: LabRoot, isRoot: Bool) -> [DoctorCheck] {
        let names = ["leftover-labs", "leftover-namespaces", "leftover-pins", "leftover-processes"]
        guard isRoot else { return names.map { untried($0) } }
        let found = DoctorLeftovers(root)
        let running = found.labs.filter { $0.condition == .running }.count
        let busy = found.labs.filter { $0.condition == .busy }.count
        return [
            leftovers(
                names[0], found.halfBuilt(), what: "half-built labs",
                none: "no half-built lab; \(running) up"
                    + (busy == 0 ? "" : ", \(busy) being built or removed")),
            leftovers(
                names[1], found.namespaces(), what: "named like a lab's, of no lab", none: "none",
                caution: "if they are nobody else's: "),
            leftovers(names[2], found.deadPins(), what: "files without a namespace", none: "none"),
            leftovers(names[3], found.processes(), what: "of no lab", none: "none"),
        ]
    }

    /// One check of what is left of a kind; the first few are named, each with its mend.
    package static func leftovers(
        _ name: String, _ left: [(what: String, mend: String)], what: String, none: String,
        caution: String = ""
    ) -> DoctorCheck {
        guard !left.isEmpty else { return DoctorCheck(name, .ok, none) }
        let shown = left.prefix(5)
        let more = left.count > shown.count ? ", and \(left.count - shown.count) more" : ""
        let mend = shown.map { "`\($0.mend)`" }.joined(separator: ", ") + (more.isEmpty ? "" : ", and so on")
        return DoctorCheck(
            name, .warning, "\(what): " + shown.map(\.what).joined(separator: ", ") + more,
            mend: caution + mend)
    }
}
