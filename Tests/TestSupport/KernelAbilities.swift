import Glibc
import SystemCalls

/// What the running kernel can do, found out by other means than natlab's.
package enum KernelAbilities {
    package static let hasNetem = hasQueue("netem", "delay", "1ms")

    /// Why tests that need it are skipped.
    package static let noNetem = "this kernel has no netem (sch_netem); Debian's has: scripts/kernel-vm"

    /// Whether the kernel is Linux of this version or later.
    package static func isAtLeast(_ major: Int, _ minor: Int) -> Bool {
        var name = utsname()
        guard uname(&name) == 0 else { return false }
        let release = withUnsafeBytes(of: name.release) { String(decoding: $0, as: UTF8.self) }
        let numbers = release.split { !$0.isNumber }.prefix(2).compactMap { Int($0) }
        return !numbers.lexicographicallyPrecedes([major, minor])
    }

    private static func hasQueue(_ kind: String, _ options: String...) -> Bool {
        let name = uniqueName("natlab-probe")
        guard (try? tool("ip", "netns", "add", name)) != nil else { return false }
        defer { _ = try? tool("ip", "netns", "del", name) }
        return (try? tool("tc", ["-n", name, "qdisc", "add", "dev", "lo", "root", kind] + options)) != nil
    }
}
