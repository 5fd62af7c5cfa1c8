import Glibc

extension OperationFailure {
    /// What the user can do about a failure that is the machine's and no defect of natlab: something is full, a limit
    /// is reached, something is not allowed; nil for all others.
    package var machineMend: String? {
        switch errno {
        case ENOSPC where operation == "make namespace":
            "raise the limit of network namespaces: sysctl -w user.max_net_namespaces=NUMBER"
        case ENOSPC where isAboutFile: "free some space on the file system of \(object)"
        case ENOSPC: "a limit of the kernel is reached: see sysctl user and the kernel's log"
        case EDQUOT: "free some space: the disk quota is used up"
        case EROFS: "make the file system of \(object) writable"
        case EMFILE: "raise the limit of open files: ulimit -n"
        case ENFILE: "raise the machine's limit of open files: sysctl -w fs.file-max=NUMBER"
        case ENOMEM: "free some memory, or raise the memory limit of natlab's control group"
        case EACCES, EPERM:
            geteuid() == 0
                ? "root may not do this here: a container without the capabilities, or a security module, forbids it"
                : "run it as root"
        default: nil
        }
    }

    private var isAboutFile: Bool { object.hasPrefix("/") || operation.hasPrefix("write") }
}
