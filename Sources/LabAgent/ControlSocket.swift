import Glibc
import SystemCalls

/// The agent's UNIX socket: whoever connects gets one document, then the connection is closed.
///
/// A reader that does not read holds up nobody: what it has not taken waits for it, and only so many may wait.
final class ControlSocket {
    private static let mostReaders = 64

    private let listening: Descriptor
    private let loop: EventLoop
    private let document: () -> [UInt8]
    private var readers: [Int32: (connection: Connection, rest: ArraySlice<UInt8>)] = [:]

    /// In a box, as dictionaries hold no values that cannot be copied.
    private final class Connection {
        let descriptor: Descriptor
        init(_ descriptor: consuming Descriptor) { self.descriptor = descriptor }
    }

    init(_ path: String, loop: EventLoop, document: @escaping () -> [UInt8]) throws(OperationFailure) {
        self.loop = loop
        self.document = document
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let file = socket(AF_UNIX, kind, 0)
        guard file >= 0 else { throw OperationFailure("open control socket", path, errno: errno) }
        listening = Descriptor(adopting: file)
        try Files.remove(path)
        try UnixAddress(path).withPointer { (address, length) throws(OperationFailure) in
            guard bind(file, address, length) == 0, listen(file, 16) == 0 else {
                throw OperationFailure("listen on control socket", path, errno: errno)
            }
        }
        try loop.watch(file) { [unowned self] _ in accept() }
    }

    deinit {
        loop.unwatch(listening.rawValue)
        for reader in readers.keys { loop.unwatch(reader) }
    }

    private func accept() {
        let file = Glibc.accept(listening.rawValue, nil, nil)
        guard file >= 0 else {
            // Out of descriptors or memory: the reader still waits, and would wake the loop again at once.
            if errno != EAGAIN, errno != EINTR, errno != ECONNABORTED { pause() }
            return
        }
        let connection = Connection(Descriptor(adopting: file))
        guard readers.count < Self.mostReaders else { return }
        _ = fcntl(file, F_SETFL, fcntl(file, F_GETFL) | O_NONBLOCK)
        _ = fcntl(file, F_SETFD, FD_CLOEXEC)
        readers[file] = (connection, document()[...])
        do throws(OperationFailure) {
            try loop.watch(file, for: .writable) { [unowned self] _ in serve(file) }
            serve(file)
        } catch { readers[file] = nil }
    }

    /// Looks away from waiting readers for a moment.
    private func pause() {
        loop.unwatch(listening.rawValue)
        loop.schedule(at: .now() + .milliseconds(100)) { [weak self] in
            guard let self else { return }
            do throws(OperationFailure) {
                try self.loop.watch(self.listening.rawValue) { [unowned self] _ in self.accept() }
            } catch { self.pause() }
        }
    }

    private func serve(_ file: Int32) {
        guard var rest = readers[file]?.rest else { return }
        while !rest.isEmpty {
            // MSG_NOSIGNAL: a reader that went away is told by EPIPE.
            let count = rest.withUnsafeBytes { send(file, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
            if count > 0 {
                rest = rest.dropFirst(count)
            } else if count < 0, errno == EINTR {
                continue
            } else if count < 0, errno == EAGAIN {
                readers[file]?.rest = rest
                return
            } else {
                break
            }
        }
        loop.unwatch(file)
        readers[file] = nil
    }
}
