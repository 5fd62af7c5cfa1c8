import Glibc
import NetlinkWire
import SystemCalls

/// One connection to a UAPI socket: sends a request, collects the answer, all before one deadline.
struct UAPIConnection: ~Copyable {
    /// What a whole answer may be long at most; 200 peers with 10 allowed IPs each are 0.2 MB.
    static let longestAnswer = 64 << 20

    private let file: Descriptor
    private let path: String
    private let deadline: MonotonicTime

    /// Connects.
    ///
    /// ENOENT: no socket there; ECONNREFUSED: nobody listens any more; ETIMEDOUT: the deadline passed.
    init(path: String, deadline: MonotonicTime) throws(OperationFailure) {
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let raw = socket(AF_UNIX, type, 0)
        let code = errno
        guard raw >= 0 else { throw OperationFailure("open socket for", path, errno: code) }
        let file = Descriptor(adopting: raw)
        try UnixSocketAddress(path: path).connect(file.rawValue, until: deadline)
        self.file = file
        self.path = path
        self.deadline = deadline
    }

    /// Sends all of a request.
    ///
    /// EPIPE or ECONNRESET: the other side is gone.
    borrowing func send(_ request: WipedBytes) throws(OperationFailure) {
        try request.withBytes { (bytes) throws(OperationFailure) in
            var rest = bytes[...]
            while !rest.isEmpty {
                let part = UnsafeRawBufferPointer(rebasing: rest)
                let sent = Glibc.send(file.rawValue, part.baseAddress, part.count, Int32(MSG_NOSIGNAL))
                let code = errno
                if sent >= 0 {
                    rest = rest.dropFirst(sent)
                } else if code == EAGAIN {
                    try wait(for: POLLOUT, "write to")
                } else if code != EINTR {
                    throw OperationFailure("write to", path, errno: code)
                }
            }
        }
    }

    /// Collects up to the empty line that ends an answer, in wiped memory: an answer carries the private key.
    borrowing func receive() throws(OperationFailure) -> WipedBytes {
        let answer = WipedBytes(capacity: 16 << 10)
        while !answer.withBytes({ UAPIAnswer.isComplete($0) }) {
            guard answer.count < Self.longestAnswer else {
                throw OperationFailure("read from", path, errno: EMSGSIZE, detail: "the answer does not end")
            }
            var code: Int32 = 0
            var count = 0
            _ = answer.append(atMost: 16 << 10) { room in
                count = Glibc.recv(file.rawValue, room.baseAddress, room.count, 0)
                code = errno
                return max(count, 0)
            }
            if count == 0 {
                throw OperationFailure(
                    "read from", path, errno: ECONNRESET,
                    detail: "the program hung up after \(answer.count) bytes")
            } else if count < 0, code == EAGAIN {
                try wait(for: POLLIN, "read from")
            } else if count < 0, code != EINTR {
                throw OperationFailure("read from", path, errno: code)
            }
        }
        return answer
    }

    private borrowing func wait(for event: Int32, _ operation: String) throws(OperationFailure) {
        var entry = pollfd(fd: file.rawValue, events: Int16(event), revents: 0)
        while true {
            let count = poll(&entry, 1, deadline.millisecondsLeft())
            let code = errno
            if count > 0 { return }
            guard count == 0 || code == EINTR else { throw OperationFailure(operation, path, errno: code) }
            if MonotonicTime.now() >= deadline {
                throw OperationFailure(
                    operation, path, errno: ETIMEDOUT, detail: "the program does not answer")
            }
        }
    }
}

/// The address of a UNIX socket, however long its path is.
///
/// sun_path takes 107 bytes and a NUL (unix(7)). A longer path is reached through its folder's descriptor:
/// /proc/self/fd/N/NAME is short, whatever N stands for.
private struct UnixSocketAddress: ~Copyable {
    private let path: String
    private let address: sockaddr_un
    private let folder: Descriptor?

    init(path: String) throws(OperationFailure) {
        self.path = path
        if let address = Self.address(path) {
            self.address = address
            folder = nil
            return
        }
        guard let slash = path.lastIndex(of: "/") else { throw Self.tooLong(path) }
        // O_PATH would do, but is not visible here without _GNU_SOURCE; reading is what root may do anyway.
        let folder = try Files.open(String(path[...slash]), O_RDONLY | O_DIRECTORY, operation: "open folder")
        let short = "/proc/self/fd/\(folder.rawValue)/\(path[path.index(after: slash)...])"
        guard let address = Self.address(short) else { throw Self.tooLong(path) }
        self.address = address
        self.folder = consume folder
    }

    borrowing func connect(_ file: Int32, until deadline: MonotonicTime) throws(OperationFailure) {
        while true {
            let status = withUnsafePointer(to: address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    Glibc.connect(file, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
                }
            }
            let code = errno
            if status == 0 { return }
            switch code {
            case EINTR: continue
            case EAGAIN:
                // The listener's queue is full (unix(7)); there is nothing to poll for, so try again shortly.
                guard MonotonicTime.now() < deadline else {
                    throw OperationFailure(
                        "connect to", path, errno: ETIMEDOUT, detail: "the program does not answer")
                }
                _ = poll(nil, 0, 2)
            default: throw OperationFailure("connect to", path, errno: code)
            }
        }
    }

    private static func address(_ path: String) -> sockaddr_un? {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let fits = withUnsafeMutableBytes(of: &address.sun_path) { target in
            guard path.utf8.count < target.count, !path.utf8.contains(0) else { return false }
            target.copyBytes(from: path.utf8)
            return true
        }
        return fits ? address : nil
    }

    private static func tooLong(_ path: String) -> OperationFailure {
        OperationFailure("connect to", path, errno: ENAMETOOLONG)
    }
}
