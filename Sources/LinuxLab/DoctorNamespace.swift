import CNatlab
import Glibc
import LabPlanner
import NetlinkWire
import SystemCalls
import WireGuardControl

/// A network namespace without a pin: nothing of it is left however this process ends.
final class DoctorNamespace {
    private let file: Descriptor
    /// By way of /proc/self/fd, for what takes a path.
    let network: NetworkNamespace
    let routes: RouteSocket

    init() throws(OperationFailure) {
        let made = natlab_unnamed_namespace()
        guard made >= 0 else { throw OperationFailure("make", "namespace", errno: -made) }
        let file = Descriptor(adopting: made)
        let network = NetworkNamespace("a namespace to try things in", path: "/proc/self/fd/\(made)")
        routes = try RouteSocket(network)
        self.network = network
        self.file = file
    }

    /// Nil when it works, else the stage and errno.
    func tryPin() -> (stage: UInt32, errno: Int32)? {
        var failure = natlab_failure()
        let result = natlab_try_pin(file.rawValue, &failure)
        return result < 0 ? (UInt32(bitPattern: failure.stage), -result) : nil
    }

    func tryTun() -> (stage: UInt32, errno: Int32)? {
        var failure = natlab_failure()
        let result = natlab_try_tun_in(file.rawValue, "natlab0", &failure)
        return result < 0 ? (UInt32(bitPattern: failure.stage), -result) : nil
    }
}

extension Doctor {
    static func namespaceChecks(_ place: Result<DoctorNamespace, OperationFailure>?) -> [DoctorCheck] {
        let (network, mount) = ("network-namespaces", "mount-namespaces")
        switch place {
        case nil: return [untried(network, required: true), untried(mount, required: true)]
        case .failure(let failure):
            let mend =
                switch failure.errno {
                case EPERM: "give it CAP_SYS_ADMIN; in a container, start that with --privileged"
                case ENOSPC: "raise user.max_net_namespaces, or take other labs down"
                case EINVAL: "boot a kernel with CONFIG_NET_NS"
                default: "see what the kernel says (`dmesg`)"
                }
            return [
                DoctorCheck(network, .missing, required: true, reason(failure), mend: mend),
                DoctorCheck(
                    mount, .warning, required: true, "not tried: \(obstacle)",
                    mend: "mend \(network) first"),
            ]
        case .success(let place):
            let most = number(at: "/proc/sys/user/max_net_namespaces").map { "; at most \($0)" } ?? ""
            return [DoctorCheck(network, .ok, required: true, "made one\(most)"), mountCheck(mount, place)]
        }
    }

    private static func mountCheck(_ name: String, _ place: DoctorNamespace) -> DoctorCheck {
        guard let (stage, errno) = place.tryPin() else {
            return DoctorCheck(name, .ok, required: true, "made one, with a namespace pinned in it")
        }
        let what =
            switch stage {
            case NATLAB_STAGE_PIN.rawValue: "cannot pin a network namespace"
            case NATLAB_STAGE_MOUNTS.rawValue: "cannot mount in a mount namespace"
            default: "cannot make a mount namespace"
            }
        return DoctorCheck(
            name, .missing, required: true, "\(what): \(OperationFailure.text(of: errno)) [\(errno)]",
            mend: "let it mount: in a container, start that with --privileged"
                + " (CAP_SYS_ADMIN, and no AppArmor or SELinux rule against mount)")
    }

    /// The links that every lab is made of.
    static func linkChecks(_ place: DoctorNamespace?) -> [DoctorCheck] {
        let bridge = RouteRequest.makeLink(kind: "bridge", name: "bridge0", index: 103)
        return [
            linkCheck("veth", place, vethPair, mend: kernelMend(module: "veth", option: "CONFIG_VETH")),
            linkCheck("bridge", place, bridge, mend: kernelMend(module: "bridge", option: "CONFIG_BRIDGE")),
        ]
    }

    private static let vethPair = RouteRequest.makeVeth(
        VethEnd(name: "veth0", index: 101), VethEnd(name: "veth1", index: 102))

    private static func linkCheck(
        _ name: String, _ place: DoctorNamespace?, _ request: RouteRequest, mend: String
    ) -> DoctorCheck {
        guard let place else { return untried(name, required: true) }
        do throws(OperationFailure) {
            try place.routes.perform(request)
            return DoctorCheck(name, .ok, required: true, "made one")
        } catch {
            return DoctorCheck(name, .missing, required: true, reason(error), mend: mend)
        }
    }

    static func kernelWireGuard(_ place: DoctorNamespace?) -> DoctorCheck {
        let name = "kernel-wireguard"
        let mend =
            kernelMend(module: "wireguard", option: "CONFIG_WIREGUARD")
            + "; not needed where wireguard-go works"
        do throws(OperationFailure) {
            guard try KernelWireGuard.isAvailable() else {
                return DoctorCheck(name, .missing, "no generic-netlink family \"wireguard\"", mend: mend)
            }
            guard let place else {
                return DoctorCheck(
                    name, .ok, "generic-netlink family \"wireguard\"; making one not tried: \(obstacle)")
            }
            try place.routes.perform(.makeLink(kind: "wireguard", name: "wg0", index: 104))
            return DoctorCheck(name, .ok, "made an interface")
        } catch {
            return DoctorCheck(name, .missing, reason(error), mend: mend)
        }
    }

    static func tun(_ place: DoctorNamespace?) -> DoctorCheck {
        let (name, device) = ("tun", "/dev/net/tun")
        guard let place else {
            guard Files.exists(device) else {
                return DoctorCheck(
                    name, .missing, "\(device) is not there", mend: WireGuardGoLog.tunMend(errno: ENOENT))
            }
            return DoctorCheck(name, .warning, "\(device) is there; not tried: \(obstacle)")
        }
        guard let (stage, errno) = place.tryTun() else {
            return DoctorCheck(name, .ok, "\(device) made an interface")
        }
        let what = stage == NATLAB_STAGE_SETTING.rawValue ? "makes no interface" : "cannot be opened"
        return DoctorCheck(
            name, .missing, "\(device) \(what): \(OperationFailure.text(of: errno)) [\(errno)]",
            mend: WireGuardGoLog.tunMend(errno: errno))
    }

    static func nftables(_ place: DoctorNamespace?) -> DoctorCheck {
        let name = "nftables"
        guard let place else { return untried(name) }
        do throws(OperationFailure) {
            try place.network.nft(natRulesToTry)
            return DoctorCheck(name, .ok, "loaded a NAT's rules")
        } catch {
            return DoctorCheck(name, .missing, reason(error), mend: NftablesAbility.mend)
        }
    }

    /// netem and tbf; each on a veth pair that the link checks have made.
    static func queueChecks(_ place: DoctorNamespace?) -> [DoctorCheck] {
        let probes = [
            ("netem", LinkAbilities.netemProbe, "delay, jitter and loss of links"),
            ("tbf", LinkAbilities.tokenBucketProbe, "rate of links"),
        ]
        return probes.enumerated().map { position, probe in
            let (name, discipline, use) = probe
            guard let place else { return untried(name) }
            do throws(OperationFailure) {
                // One end each, so that the second is not put on the first's place.
                try place.routes.perform(
                    .addQueue(discipline, index: 101 + Int32(position), name: "veth\(position)"))
                return DoctorCheck(name, .ok, "added one (\(use))")
            } catch {
                guard error.errno == ENOENT else {
                    return DoctorCheck(
                        name, .missing, "\(reason(error)) (\(use))",
                        mend: "see what the kernel says (`dmesg`)")
                }
                return DoctorCheck(
                    name, .missing, "the kernel has none: no \(use)",
                    mend: kernelMend(module: "sch_\(name)", option: "CONFIG_NET_SCH_\(name.uppercased())"))
            }
        }
    }
}
