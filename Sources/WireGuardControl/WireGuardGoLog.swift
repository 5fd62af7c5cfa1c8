import Glibc

/// What wireguard-go's last words mean, and what helps.
///
/// Source: wireguard-go 0.0.20220316, tun/tun_linux.go and ipc/uapi_linux.go; the texts were taken from real failures.
package enum WireGuardGoLog {
    /// The last lines, at most `count`, without empty ones and bounded in length.
    package static func tail(_ text: String, lines count: Int = 3) -> String {
        text.split(whereSeparator: \.isNewline).suffix(count).map { $0.prefix(300) }.joined(separator: "; ")
    }

    /// The errno behind the last words (0: not known) and the mend.
    package static func explain(_ text: String) -> (errno: Int32, mend: String?) {
        if text.contains("too many open files") {
            // The program opens a handful of files itself; what runs out is the user's inotify instances, one each.
            return (
                EMFILE,
                "each wireguard-go needs an inotify instance: `sysctl -w fs.inotify.max_user_instances=8192`"
            )
        }
        if text.contains("/dev/net/tun does not exist") { return (ENOENT, tunMend(errno: ENOENT)) }
        if text.contains("operation not permitted") || text.contains("permission denied") {
            return (EPERM, "run it as root (CAP_NET_ADMIN is needed)")
        }
        let taken = ["TUN device: device or resource busy", "TUN device: invalid argument"]
        if taken.contains(where: { text.contains($0) }) {
            // TUNSETIFF: EBUSY when the interface is another program's, EINVAL when it is no TUN at all.
            return (EEXIST, "an interface of that name is there already: `natlab down` first")
        }
        if text.contains("read-only file system") { return (EROFS, "make /run writable") }
        return (0, nil)
    }

    package static func tunMend(errno: Int32) -> String {
        switch errno {
        case ENOENT, ENODEV, ENXIO:
            "load the TUN driver (`modprobe tun`); in a container, pass /dev/net/tun in"
        case EACCES, EPERM: "run it as root; in a container, allow the device /dev/net/tun (10:200)"
        default: "see that /dev/net/tun can be opened for reading and writing"
        }
    }
}
