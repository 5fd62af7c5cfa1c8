import CNatlab
import Glibc

/// A network namespace pinned under /run/netns, as ip-netns(8) does it.
///
/// No Swift code runs inside: what must happen there, happens in a short-lived C thread.
package struct NetworkNamespace: Hashable, Sendable {
    /// Where ip-netns(8) pins namespaces too.
    package static let directory = "/run/netns"

    package let name: String

    /// The pin.
    package let path: String

    package init(_ name: String) { self.init(name, path: "\(Self.directory)/\(name)") }

    /// One whose file is elsewhere, as /proc/self/fd/N for one that is not pinned: to open, not to make or remove.
    package init(_ name: String, path: String) {
        self.name = name
        self.path = path
    }

    /// Which namespace it is, whatever it is called; compare it with that of a process.
    package struct Identity: Hashable, Sendable {
        package let device: UInt64
        package let inode: UInt64

        package init(device: UInt64, inode: UInt64) {
            self.device = device
            self.inode = inode
        }
    }

    /// The kernel's own number of the namespace that a socket belongs to; nil where the kernel tells none
    /// (before Linux 5.14).
    ///
    /// Unlike an inode of nsfs, which the next namespace of any kind may get, it is never given twice in a boot.
    /// Source: socket(7) does not have it yet; net/core/sock.c, SO_NETNS_COOKIE.
    package static func cookie(ofSocket socket: borrowing Descriptor) -> UInt64? {
        var cookie: UInt64 = 0
        var size = socklen_t(MemoryLayout<UInt64>.size)
        guard getsockopt(socket.rawValue, SOL_SOCKET, netnsCookieOption, &cookie, &size) == 0 else {
            return nil
        }
        return cookie
    }

    /// The same of this namespace; nil also when there is none.
    package func cookie() -> UInt64? {
        guard let socket = try? socket(domain: AF_UNIX, type: Int32(SOCK_DGRAM.rawValue)) else { return nil }
        return Self.cookie(ofSocket: socket)
    }

    /// The same of the namespace that a process is in; nil also when the process is gone.
    package static func cookie(ofProcess pid: Int32) -> UInt64? {
        NetworkNamespace("of process \(pid)", path: "/proc/\(pid)/ns/net").cookie()
    }

    /// The namespace's file, for `setns` and IFLA_NET_NS_FD; ENOENT when there is none.
    package func open() throws(OperationFailure) -> Descriptor {
        let file = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw OperationFailure("open namespace", path, namespace: name, errno: errno) }
        return Descriptor(adopting: file)
    }

    /// Opens a socket that belongs to the namespace (close-on-exec).
    ///
    /// The corresponding C function is `socket`.
    package func socket(
        domain: Int32, type: Int32, protocol number: Int32 = 0
    ) throws(OperationFailure) -> Descriptor {
        let namespace = try open()
        let file = natlab_socket_in(namespace.rawValue, domain, type, number)
        guard file >= 0 else {
            throw OperationFailure(
                "open socket", "domain \(domain), type \(type), protocol \(number)", namespace: name,
                errno: -file)
        }
        return Descriptor(adopting: file)
    }

    /// Opens a netlink socket that belongs to the namespace; `family` is NETLINK_ROUTE or another of
    /// netlink(7).
    package func netlinkSocket(_ family: Int32) throws(OperationFailure) -> Descriptor {
        try socket(domain: AF_NETLINK, type: Int32(SOCK_RAW.rawValue), protocol: family)
    }

    /// A netlink socket in a new namespace that goes with it: for trying what the kernel can do.
    package static func netlinkSocketInNewNamespace(_ family: Int32) throws(OperationFailure) -> Descriptor {
        let file = natlab_socket_in_new_namespace(AF_NETLINK, Int32(SOCK_RAW.rawValue), family)
        guard file >= 0 else {
            throw OperationFailure(
                "make namespace", "to try in", errno: -file, mend: -file == EPERM ? "run it as root" : nil)
        }
        return Descriptor(adopting: file)
    }

    /// A new namespace that is pinned nowhere: it goes with the last descriptor and socket of it.
    package static func unnamed() throws(OperationFailure) -> Descriptor {
        let file = natlab_unnamed_namespace()
        guard file >= 0 else {
            throw OperationFailure(
                "make namespace", "without a name", errno: -file,
                mend: -file == EPERM ? "run it as root" : nil)
        }
        return Descriptor(adopting: file)
    }

    /// Makes the namespace with `lo` up, writes the sysctls in it and opens a NETLINK_ROUTE socket in it.
    ///
    /// All in one thread, which costs little more than the kernel's own work. EEXIST when the name is taken.
    /// When it throws there is no namespace.
    package func make(
        sysctls: [(key: String, value: String)] = []
    ) throws(OperationFailure) -> Descriptor {
        let settings = try Self.pack(sysctls)
        var failure = natlab_failure()
        let result = natlab_make_namespace(path, settings.bytes, sysctls.count, &failure)
        guard result >= 0 else {
            switch UInt32(bitPattern: failure.stage) {
            case NATLAB_STAGE_SETTING.rawValue:
                throw settingFailure(sysctls[Int(failure.setting)], errno: -result)
            case NATLAB_STAGE_LOOPBACK.rawValue:
                throw OperationFailure("bring up", "lo", namespace: name, errno: -result)
            case NATLAB_STAGE_SOCKET.rawValue:
                throw OperationFailure(
                    "open netlink socket", "NETLINK_ROUTE", namespace: name, errno: -result)
            case NATLAB_STAGE_PIN.rawValue:
                throw OperationFailure("pin namespace", path, namespace: name, errno: -result)
            default:
                throw OperationFailure(
                    "make namespace", name, namespace: name, errno: -result,
                    mend: -result == EPERM ? "run it as root" : nil)
            }
        }
        return Descriptor(adopting: result)
    }

    /// Writes under /proc/sys of the namespace, in order, up to the first that fails.
    ///
    /// Keys as sysctl(8) and sysctl.d(5) have them: dots between the parts, a slash for a dot inside a part,
    /// and "-" in front of one that the kernel need not have.
    package func write(sysctls: [(key: String, value: String)]) throws(OperationFailure) {
        let settings = try Self.pack(sysctls)
        let namespace = try open()
        var failed = 0
        let result = natlab_write_settings_in(namespace.rawValue, settings.bytes, sysctls.count, &failed)
        guard result >= 0 else { throw settingFailure(sysctls[failed], errno: -result) }
    }

    /// Takes the pin away; the namespace goes when nothing else holds it.
    ///
    /// Nothing happens when there is no pin.
    package func remove() throws(OperationFailure) {
        let result = natlab_unmount(path)
        // EINVAL: a file without a mount, from a process that was killed between the two.
        guard result >= 0 || result == -EINVAL || result == -ENOENT else {
            throw OperationFailure("unpin namespace", path, namespace: name, errno: -result)
        }
        guard unlink(path) == 0 || errno == ENOENT else {
            throw OperationFailure("remove pin", path, namespace: name, errno: errno)
        }
    }

    package var isPinned: Bool { access(path, F_OK) == 0 }

    /// Which namespace the pin holds; nil when there is no pin, or a file without a namespace.
    package func identity() -> Identity? { Self.identity(at: path) }

    /// The network namespace of a process' main thread; nil when the process is gone (or a zombie) or may not
    /// be seen.
    package static func identity(ofProcess pid: Int32) -> Identity? { identity(at: "/proc/\(pid)/ns/net") }

    /// The namespace of the calling thread.
    package static func current() -> Identity? { identity(at: "/proc/thread-self/ns/net") }

    private static func identity(at path: String) -> Identity? {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        // A pin without its mount is an empty file of another file system.
        guard UInt64(status.st_dev) == nsfsDevice else { return nil }
        return Identity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
    }

    private func settingFailure(_ setting: (key: String, value: String), errno: Int32) -> OperationFailure {
        OperationFailure("set sysctl", "\(setting.key)=\(setting.value)", namespace: name, errno: errno)
    }

    private static func pack(_ sysctls: [(key: String, value: String)]) throws(OperationFailure)
        -> PackedStrings
    {
        try PackedStrings(
            sysctls.flatMap { [path(ofSysctl: $0.key), $0.value] }, for: "set sysctl")
    }

    /// "net.ipv4.ip_forward" is /proc/sys/net/ipv4/ip_forward.
    static func path(ofSysctl key: String) -> String {
        let isOptional = key.hasPrefix("-")
        let name = isOptional ? key.dropFirst() : key[...]
        let path = name.map { (letter: Character) -> Character in
            letter == "." ? "/" : letter == "/" ? "." : letter
        }
        return (isOptional ? "-" : "") + "/proc/sys/" + String(path)
    }
}

/// SO_NETNS_COOKIE of asm-generic/socket.h, which older C libraries leave out.
private let netnsCookieOption: Int32 = 71

/// The file system that all namespaces' files are of (nsfs has one instance).
private let nsfsDevice: UInt64 = {
    var status = stat()
    return stat("/proc/self/ns/net", &status) == 0 ? UInt64(status.st_dev) : .max
}()
