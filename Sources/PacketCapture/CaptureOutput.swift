import CNatlab
import Glibc
import PcapngFormat
import SystemCalls

/// Where a capture is written: a file at once, a pipe as its reader takes it.
///
/// A pipe is never written to before it has room: a reader that has stopped must not keep the capture from its end.
final class CaptureOutput {
    private let descriptor: Descriptor
    private let name: String
    private let loop: EventLoop
    /// Whether it can be waited for; a regular file cannot (epoll_ctl(2), EPERM).
    private var isPipe = false
    private var pending: [UInt8] = []
    private var written = 0

    /// `changed` is called when a pipe has taken something, or its reader is gone.
    init(
        _ descriptor: consuming Descriptor, name: String, loop: EventLoop, changed: @escaping () -> Void
    ) throws(OperationFailure) {
        self.descriptor = descriptor
        self.name = name
        self.loop = loop
        do throws(OperationFailure) {
            // Interest in nothing: an error, as of a reader that went away, is reported all the same.
            try loop.watch(self.descriptor.rawValue, for: []) { _ in changed() }
            isPipe = true
        } catch {
            guard error.errno == EPERM else { throw error }
        }
    }

    var isBlocked: Bool { !pending.isEmpty }

    /// Writes these blocks, or keeps them until the pipe has room.
    func write(_ bytes: [UInt8]) throws(OperationFailure) {
        if pending.isEmpty { pending = bytes } else { pending += bytes }
        try flush()
    }

    /// Writes what can be written now.
    ///
    /// Throws EPIPE when the reader is gone. When it throws, a regular file ends with a whole block.
    func flush() throws(OperationFailure) {
        while written < pending.count {
            if isPipe { guard try hasRoom() else { break } }
            let rest = pending.count - written
            let count = pending.withUnsafeBytes { bytes in
                bytes.baseAddress.map {
                    Glibc.write(descriptor.rawValue, $0 + written, isPipe ? min(rest, pipeRoom) : rest)
                } ?? 0
            }
            let code = errno
            if count >= 0 { written += count } else if code != EINTR { throw failure(code) }
        }
        if written == pending.count {
            pending = []
            written = 0
        }
        guard isPipe else { return }
        try loop.setInterest(isBlocked ? .writable : [], of: descriptor.rawValue)
    }

    /// Whether the reader of a pipe has gone away; throws EPIPE then.
    func check() throws(OperationFailure) { if isPipe { _ = try hasRoom() } }

    private func hasRoom() throws(OperationFailure) -> Bool {
        var wanted = pollfd(fd: descriptor.rawValue, events: Int16(POLLOUT), revents: 0)
        _ = poll(&wanted, 1, 0)
        guard wanted.revents & Int16(POLLERR | POLLHUP | POLLNVAL) == 0 else { throw failure(EPIPE) }
        return wanted.revents & Int16(POLLOUT) != 0
    }

    private func failure(_ code: Int32) -> OperationFailure {
        if !isPipe {
            let torn = written - PcapngBuffer.wholeBlocks(of: pending, within: written)
            let end = lseek(descriptor.rawValue, 0, SEEK_CUR)
            // Best effort: a device has no end to move.
            if torn > 0, end >= torn { _ = ftruncate(descriptor.rawValue, end - torn) }
        }
        return OperationFailure("write capture", name, errno: code)
    }
}

/// PIPE_BUF: so much does not block where poll(2) says that there is room (pipe(7)).
private let pipeRoom = 4096
