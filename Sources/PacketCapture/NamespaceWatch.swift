import CNatlab
import Glibc
import SystemCalls

/// Calls back whenever a namespace's pin is removed.
///
/// A capture's sockets keep their namespaces alive, interfaces and all, so that nothing else would tell of `natlab down`.
final class NamespaceWatch {
    private let descriptor: Descriptor

    init(_ loop: EventLoop, changed: @escaping () -> Void) throws(OperationFailure) {
        let file = inotify_init1(Int32(IN_CLOEXEC) | Int32(IN_NONBLOCK))
        guard file >= 0 else { throw Self.failure(errno) }
        descriptor = Descriptor(adopting: file)
        guard inotify_add_watch(file, NetworkNamespace.directory, UInt32(IN_DELETE | IN_MOVED_FROM)) >= 0
        else {
            throw Self.failure(errno)
        }
        try loop.watch(file) { _ in
            var events = [UInt8](repeating: 0, count: 4096)
            // Which ones it were is found by looking.
            while Glibc.read(file, &events, events.count) > 0 {}
            changed()
        }
    }

    private static func failure(_ code: Int32) -> OperationFailure {
        OperationFailure(
            "watch", NetworkNamespace.directory, errno: code,
            mend: code == EMFILE ? "raise the limit: sysctl -w fs.inotify.max_user_instances=NUMBER" : nil)
    }
}
