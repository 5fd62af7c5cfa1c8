import CNatlab
import Glibc
import SystemCalls

/// What natlab shares with other programs outside of its own folder: /run/netns and /run/wireguard.
///
/// Used under the root's lock only.
enum SharedFolders {
    private static let wireGuard = "/run/wireguard"

    /// Makes /run/netns a shared mount on itself as ip-netns(8) does, and /run/wireguard a folder, where they
    /// are not yet.
    ///
    /// Without the mount a later `ip netns add` would put its own over our pins and hide them; and unmounting
    /// a pin would not reach the mount namespaces of programs that live in the lab. What was made is noted
    /// first.
    static func prepare(_ root: LabRoot) throws(OperationFailure) {
        var made = Set(readMade(root))
        func note(_ what: String) throws(OperationFailure) {
            made.insert(what)
            try Files.writeAtomically(
                root.madeFile, Array(made.sorted().joined(separator: "\n").utf8), mode: 0o600)
        }
        if !Files.exists(NetworkNamespace.directory) {
            try note("netns-folder")
            try Files.makeFolder(NetworkNamespace.directory, mode: 0o755)
        }
        // ip-netns(8) locks the folder for the same purpose.
        let folder = try Files.open(NetworkNamespace.directory, O_RDONLY | O_DIRECTORY)
        _ = natlab_lock(folder.rawValue, true)
        var shared = natlab_share_mount(NetworkNamespace.directory)
        if shared == -EINVAL {
            try note("netns-mount")
            let bound = natlab_bind_mount(NetworkNamespace.directory, NetworkNamespace.directory)
            guard bound >= 0 else {
                throw OperationFailure("mount", NetworkNamespace.directory, errno: -bound)
            }
            shared = natlab_share_mount(NetworkNamespace.directory)
        }
        guard shared >= 0 else {
            throw OperationFailure("share mount", NetworkNamespace.directory, errno: -shared)
        }
        if !Files.exists(wireGuard) {
            try note("wireguard-folder")
            try Files.makeFolder(wireGuard, mode: 0o755)
        }
    }

    /// Takes away what `prepare` made, as far as nobody else uses it by now.
    static func release(_ root: LabRoot) throws(OperationFailure) {
        let made = readMade(root)
        if made.contains("netns-mount") || made.contains("netns-folder") { try releaseNamespaceFolder(made) }
        // Fails, rightly, when others have put sockets there.
        if made.contains("wireguard-folder") { Files.removeEmptyFolder(wireGuard) }
        try Files.remove(root.madeFile)
    }

    private static func releaseNamespaceFolder(_ made: [String]) throws(OperationFailure) {
        let names = try Files.list(NetworkNamespace.directory)
        guard names.isEmpty else { return }
        if made.contains("netns-mount") {
            let result = natlab_unmount(NetworkNamespace.directory)
            // EINVAL: it is no mount any more.
            guard result >= 0 || result == -EINVAL || result == -ENOENT else {
                throw OperationFailure("unmount", NetworkNamespace.directory, errno: -result)
            }
        }
        if made.contains("netns-folder") { Files.removeEmptyFolder(NetworkNamespace.directory) }
    }

    private static func readMade(_ root: LabRoot) -> [String] {
        // A missing or unreadable note means that there is nothing to take away.
        guard let text = try? Files.readText(root.madeFile) else { return [] }
        return text.split(separator: "\n").map(String.init)
    }
}
