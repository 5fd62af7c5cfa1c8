import Glibc
import SystemCalls

/// One thing that natlab needs or can use, and whether this machine has it.
package struct DoctorCheck: Hashable, Sendable, Encodable {
    package enum State: String, Sendable, Encodable {
        case ok, missing
        /// It works, or could not be tried, with something to know or to mend.
        case warning
    }

    /// Lower case, with dashes: "kernel-wireguard".
    package var name: String
    package var state: State
    /// Whether natlab cannot work without it.
    package var required: Bool
    /// Versions, numbers, the kernel's words.
    package var found: String
    /// What the user can do; nil where there is nothing to do.
    package var mend: String?

    package init(_ name: String, _ state: State, required: Bool = false, _ found: String, mend: String? = nil)
    {
        self.name = name
        self.state = state
        self.required = required
        self.found = found
        self.mend = mend
    }

    private enum CodingKeys: CodingKey { case name, state, required, found, mend }

    /// `mend` is always there, as null where there is none.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(name, forKey: .name)
        try container.encode(state, forKey: .state)
        try container.encode(required, forKey: .required)
        try container.encode(found, forKey: .found)
        try container.encode(mend, forKey: .mend)
    }
}

/// What this machine can and cannot do for natlab.
package struct DoctorReport: Hashable, Sendable, Encodable {
    /// Nothing required is missing.
    package var ok: Bool
    package var checks: [DoctorCheck]

    package init(_ checks: [DoctorCheck]) {
        self.checks = checks
        ok = !checks.contains { $0.required && $0.state == .missing }
    }

    package func check(_ name: String) -> DoctorCheck? { checks.first { $0.name == name } }
}

/// Looks at the machine by trying things out, in a network namespace that is pinned nowhere and goes with this process.
///
/// Leaves nothing behind but kernel modules that the kernel itself loaded on being asked.
package enum Doctor {
    /// Never throws: what fails is a finding.
    package static func examine(_ root: LabRoot = LabRoot()) -> DoctorReport {
        let isRoot = geteuid() == 0
        var checks = [rootCheck(isRoot)]
        let place = isRoot ? Result { () throws(OperationFailure) in try DoctorNamespace() } : nil
        checks += namespaceChecks(place)
        checks.append(userNamespaces())
        checks.append(namespaceFolder(isRoot: isRoot))
        let inside = place.flatMap { try? $0.get() }
        checks += linkChecks(inside)
        let wireGuard = (
            kernel: kernelWireGuard(inside), program: wireGuardGo(), tun: tun(inside)
        )
        let inotify = inotifyInstances(kernelHasWireGuard: wireGuard.kernel.state == .ok)
        checks += [wireGuard.kernel, wireGuard.program, wireGuard.tun]
        checks.append(
            backend(
                kernel: wireGuard.kernel, program: wireGuard.program, tun: wireGuard.tun, inotify: inotify))
        checks += firewallChecks(inside)
        checks.append(nftables(inside))
        checks += queueChecks(inside)
        checks += [inotify, openFiles()]
        checks += leftoverChecks(root, isRoot: isRoot)
        return DoctorReport(checks)
    }

    static func rootCheck(_ isRoot: Bool) -> DoctorCheck {
        isRoot
            ? DoctorCheck("root", .ok, required: true, "running as root")
            : DoctorCheck(
                "root", .missing, required: true, "running as user \(geteuid())",
                mend: "run natlab as root: `sudo natlab doctor`")
    }

    /// The WireGuard that `backend = "auto"` takes; one of the two is enough.
    package static func backend(
        kernel: DoctorCheck, program: DoctorCheck, tun: DoctorCheck, inotify: DoctorCheck
    ) -> DoctorCheck {
        let name = "wireguard-backend"
        let userspace = [program, tun, inotify].filter { $0.state == .missing }
        if kernel.state == .ok {
            let both = userspace.isEmpty && tun.state == .ok ? "; userspace too" : ""
            return DoctorCheck(name, .ok, required: true, "kernel\(both)")
        }
        guard userspace.isEmpty else {
            let reasons = ([kernel] + userspace).map(\.name).joined(separator: ", ")
            return DoctorCheck(
                name, .missing, required: true, "none (missing: \(reasons))",
                mend: "mend one of the two ways: the kernel's WireGuard, or wireguard-go with /dev/net/tun")
        }
        guard tun.state == .ok else {
            return DoctorCheck(
                name, .warning, required: true,
                "not known: what userspace WireGuard needs could not be tried",
                mend: tun.mend)
        }
        return DoctorCheck(name, .ok, required: true, "userspace (wireguard-go)")
    }

    /// The finding for what cannot be tried; the mend is that of "root" or "network-namespaces".
    static func untried(_ name: String, required: Bool = false) -> DoctorCheck {
        DoctorCheck(name, .warning, required: required, "not tried: \(obstacle)")
    }

    static var obstacle: String { geteuid() == 0 ? "there are no network namespaces" : "needs root" }

    /// How to get a part of the kernel that is a module elsewhere.
    static func kernelMend(module: String, option: String) -> String {
        Files.exists("/proc/modules")
            ? "`modprobe \(module)`; if there is none, install the distribution's package of further kernel modules"
                + " or boot a kernel with \(option)"
            : "boot a kernel with \(option): this one loads no modules"
    }

    /// The kernel's words: "Operation not permitted [1]: Unknown device type".
    static func reason(_ failure: OperationFailure) -> String {
        var parts: [String] = []
        if failure.errno != 0 {
            parts.append("\(OperationFailure.text(of: failure.errno)) [\(failure.errno)]")
        }
        if let detail = failure.detail { parts.append(detail) }
        return parts.isEmpty ? failure.description : parts.joined(separator: ": ")
    }

    /// A small file of /proc as a number; nil where it is missing or none.
    static func number(at path: String) -> Int? {
        guard let text = try? Files.readText(path, limit: 4096) else { return nil }
        return Int(text.prefix { $0.isNumber })
    }
}
