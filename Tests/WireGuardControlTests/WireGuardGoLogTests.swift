import Glibc
import Testing
import WireGuardControl

/// The texts are what wireguard-go 0.0.20220316 wrote when each cause was brought about.
@Suite struct WireGuardGoLogTests {
    @Test(arguments: [
        ("Failed to listen on uapi socket: too many open files", EMFILE, "fs.inotify.max_user_instances"),
        (
            "Failed to create TUN device: CreateTUN(\"wg0\") failed; /dev/net/tun does not exist", ENOENT,
            "modprobe tun"
        ),
        ("Failed to create TUN device: operation not permitted", EPERM, "root"),
        ("Failed to create TUN device: device or resource busy", EEXIST, "natlab down"),
        ("Failed to create TUN device: invalid argument", EEXIST, "natlab down"),
        ("UAPI listen error: mkdir /var/run/wireguard: read-only file system", EROFS, "/run"),
    ])
    func knownCausesHaveTheirMend(_ text: String, _ errno: Int32, _ mend: String) {
        let cause = WireGuardGoLog.explain("ERROR: (wg0) 2026/11/22 12:36:17 \(text)\n")
        #expect(cause.errno == errno)
        #expect(cause.mend?.contains(mend) == true)
    }

    @Test func whatIsNotKnownIsNotGuessed() {
        let cause = WireGuardGoLog.explain("panic: runtime error: index out of range")
        #expect(cause.errno == 0 && cause.mend == nil)
    }

    @Test func theTailIsShort() {
        #expect(WireGuardGoLog.tail("") == "")
        #expect(WireGuardGoLog.tail("a\n\nb\nc\nd\n") == "b; c; d")
        let long = String(repeating: "x", count: 5000)
        #expect(WireGuardGoLog.tail("\(long)\n\(long)\n").utf8.count == 602)
    }
}
