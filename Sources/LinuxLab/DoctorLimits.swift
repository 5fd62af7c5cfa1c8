import CNatlab
import Glibc
import SystemCalls

extension Doctor {
    /// How many hosts of a lab should fit before it is worth a warning.
    package static let modestLab = 32

    /// Whether users without root may make namespaces; natlab itself does not use them.
    static func userNamespaces() -> DoctorCheck {
        userNamespaces(
            most: number(at: "/proc/sys/user/max_user_namespaces"),
            clone: number(at: "/proc/sys/kernel/unprivileged_userns_clone"),
            restricted: number(at: "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"))
    }

    /// From the three sysctls; nil for those that this kernel has not (the second is Debian's, the third Ubuntu's).
    package static func userNamespaces(most: Int?, clone: Int?, restricted: Int?) -> DoctorCheck {
        let name = "user-namespaces"
        let obstacle: (what: String, sysctl: String)? =
            if most == nil {
                ("the kernel has none", "")
            } else if most == 0 {
                ("user.max_user_namespaces is 0", "user.max_user_namespaces=10000")
            } else if clone == 0 {
                ("kernel.unprivileged_userns_clone is 0", "kernel.unprivileged_userns_clone=1")
            } else if restricted ?? 0 != 0 {
                (
                    "kernel.apparmor_restrict_unprivileged_userns is \(restricted ?? 0)",
                    "kernel.apparmor_restrict_unprivileged_userns=0"
                )
            } else {
                nil
            }
        guard let obstacle else {
            return DoctorCheck(name, .ok, "at most \(most ?? 0), also without root (natlab needs none)")
        }
        let mend = obstacle.sysctl.isEmpty ? "" : "; other tools may: `sysctl -w \(obstacle.sysctl)`"
        return DoctorCheck(
            name, .warning, "not without root: \(obstacle.what)",
            mend: "natlab, run as root, needs none\(mend)")
    }

    /// /run/netns: where namespaces are pinned.
    static func namespaceFolder(isRoot: Bool) -> DoctorCheck {
        let (name, folder) = ("netns-folder", NetworkNamespace.directory)
        let place = Files.exists(folder) ? folder : "/run"
        let isWritable = access(place, W_OK) == 0
        let code = errno
        guard isWritable || !isRoot else {
            return DoctorCheck(
                name, .missing, required: true,
                "\(place) is not writable: \(OperationFailure.text(of: code)) [\(code)]",
                mend: "make /run writable")
        }
        guard place == folder else {
            return DoctorCheck(name, .ok, required: true, "not there; `natlab up` makes \(folder)")
        }
        let pinned = ((try? Files.list(folder)) ?? []).count
        let what =
            switch Mounts.isShared(folder) {
            case true?: "a shared mount"
            case false?: "a mount that is not shared; `natlab up` shares it"
            case nil: "a plain folder; `natlab up` makes it a shared mount"
            }
        return DoctorCheck(
            name, .ok, required: true, "\(what); \(pinned) \(pinned == 1 ? "namespace" : "namespaces") pinned"
        )
    }

    /// Each wireguard-go watches its socket by an inotify instance; they are counted per user.
    static func inotifyInstances(kernelHasWireGuard: Bool) -> DoctorCheck {
        let name = "inotify-instances"
        guard let most = number(at: "/proc/sys/fs/inotify/max_user_instances") else {
            return DoctorCheck(
                name, kernelHasWireGuard ? .warning : .missing, "the kernel has no inotify: no wireguard-go",
                mend: "boot a kernel with CONFIG_INOTIFY_USER")
        }
        let instance = inotify_init1(Int32(IN_CLOEXEC))
        let code = errno
        if instance >= 0 { close(instance) }
        return inotify(
            most: most, used: inotifyInUse(), canMake: instance >= 0 || code != EMFILE,
            kernelHasWireGuard: kernelHasWireGuard)
    }

    /// From the limit, what this user has in use, and whether one more could be made.
    package static func inotify(most: Int, used: Int, canMake: Bool, kernelHasWireGuard: Bool) -> DoctorCheck
    {
        let name = "inotify-instances"
        // Counting descriptors counts an instance that two processes share twice: only a try is certain.
        let room = canMake ? max(1, most - used) : 0
        let found =
            "\(most) (fs.inotify.max_user_instances), \(used) in use: room for \(room) userspace \(room == 1 ? "host" : "hosts")"
        guard room < modestLab else { return DoctorCheck(name, .ok, found) }
        let mend = "`sysctl -w fs.inotify.max_user_instances=8192`"
        if kernelHasWireGuard {
            return DoctorCheck(name, .warning, found, mend: mend + ", for userspace hosts")
        }
        return DoctorCheck(name, room == 0 ? .missing : .warning, found, mend: mend)
    }

    /// Of this process' user, as far as its processes can be seen.
    private static func inotifyInUse() -> Int {
        var count = 0
        for entry in (try? Files.list("/proc")) ?? [] where Int32(entry) != nil {
            var status = stat()
            guard stat("/proc/\(entry)", &status) == 0, status.st_uid == geteuid() else { continue }
            for file in (try? Files.list("/proc/\(entry)/fd")) ?? []
            where Links.target(of: "/proc/\(entry)/fd/\(file)") == "anon_inode:inotify" {
                count += 1
            }
        }
        return count
    }

    /// The agent holds sockets of every host.
    static func openFiles() -> DoctorCheck {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else {
            return DoctorCheck(
                "open-files", .warning, "the limit cannot be read: \(OperationFailure.text(of: errno))")
        }
        return openFiles(hard: Int(clamping: limit.rlim_max))
    }

    /// From the hard limit: natlab lifts the soft one to it.
    package static func openFiles(hard: Int) -> DoctorCheck {
        // A raw and a datagram socket a client, and one to its WireGuard; the rest is for everything else.
        let room = max(0, (hard - 64) / 3)
        let amount = hard == Int.max ? "unlimited" : "\(hard)"
        let found = "\(amount) (RLIMIT_NOFILE, hard): room for about \(room) hosts with a rendezvous client"
        return room < modestLab
            ? DoctorCheck(
                "open-files", .warning, found, mend: "raise it: `ulimit -Hn 65536` as root, or limits.conf(5)"
            )
            : DoctorCheck("open-files", .ok, found)
    }
}

/// Symbolic links.
enum Links {
    /// Nil when there is no link, or it may not be read.
    static func target(of path: String) -> String? {
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = readlink(path, &buffer, buffer.count)
        return count < 0
            ? nil : String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

extension Mounts {
    /// Whether the mount at this very path is shared; nil when it is no mount point.
    static func isShared(_ path: String) -> Bool? {
        // The last one lies on top. The optional fields stand between the options and "-" (proc_pid_mountinfo(5)).
        guard let text = try? Files.readText("/proc/thread-self/mountinfo"),
            let line = text.split(separator: "\n").last(where: { line in
                let fields = line.split(separator: " ", maxSplits: 5)
                return fields.count > 5 && fields[4] == path
            })
        else { return nil }
        return line.split(separator: " ").dropFirst(6).prefix { $0 != "-" }.contains {
            $0.hasPrefix("shared:")
        }
    }
}
