import CNatlab
import Glibc

/// An open file descriptor and the duty to close it.
package struct Descriptor: ~Copyable, Sendable {
    /// For system calls that borrow it.
    package let rawValue: Int32

    /// Takes over a descriptor that nothing else closes.
    package init(adopting rawValue: Int32) { self.rawValue = rawValue }

    deinit { _ = Glibc.close(rawValue) }

    /// Gives the duty to close it to the caller.
    package consuming func take() -> Int32 {
        let value = rawValue
        discard self
        return value
    }

    /// Opens /dev/null where standard input, output or error is closed, so that no file that is opened later
    /// becomes one of them.
    ///
    /// The wrong way round, so that using them goes on to fail: a result that nobody gets is no success.
    package static func occupyStandardOnes() {
        for number in STDIN_FILENO...STDERR_FILENO where fcntl(number, F_GETFD) < 0 && errno == EBADF {
            // The lowest free number is this one.
            _ = Glibc.open("/dev/null", number == STDIN_FILENO ? O_WRONLY : O_RDONLY)
        }
    }

    /// A second descriptor for the same open file.
    ///
    /// The corresponding C call is `fcntl` with `F_DUPFD_CLOEXEC`.
    package borrowing func duplicate() throws(OperationFailure) -> Descriptor {
        let copy = fcntl(rawValue, F_DUPFD_CLOEXEC, 3)
        guard copy >= 0 else { throw OperationFailure("duplicate descriptor", "\(rawValue)", errno: errno) }
        return Descriptor(adopting: copy)
    }

    /// Writes all the bytes, however many calls that takes.
    package borrowing func writeAll(_ bytes: UnsafeRawBufferPointer) throws(OperationFailure) {
        try Self.writeAll(bytes, to: rawValue)
    }

    private static func writeAll(_ bytes: UnsafeRawBufferPointer, to rawValue: Int32) throws(OperationFailure)
    {
        var written = 0
        while written < bytes.count, let start = bytes.baseAddress {
            let count = Glibc.write(rawValue, start + written, bytes.count - written)
            if count < 0 {
                let code = errno
                if code == EINTR { continue }
                throw OperationFailure("write to descriptor", "\(rawValue)", errno: code)
            }
            written += count
        }
    }

    package borrowing func writeAll(_ bytes: [UInt8]) throws(OperationFailure) {
        let raw = rawValue
        try bytes.withUnsafeBufferPointer { buffer throws(OperationFailure) in
            try Descriptor.writeAll(UnsafeRawBufferPointer(buffer), to: raw)
        }
    }

    /// Reads from the present position to the end, at most `limit` bytes (EFBIG beyond).
    package borrowing func readAll(limit: Int = 64 << 20) throws(OperationFailure) -> [UInt8] {
        var result: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 16_384)
        while true {
            let count = Glibc.read(rawValue, &buffer, buffer.count)
            if count < 0 {
                let code = errno
                if code == EINTR { continue }
                throw OperationFailure("read from descriptor", "\(rawValue)", errno: code)
            }
            if count == 0 { return result }
            result += buffer[..<count]
            guard result.count <= limit else {
                throw OperationFailure("read from descriptor", "\(rawValue)", errno: EFBIG)
            }
        }
    }

    /// An unnamed file in memory; `name` shows in /proc only.
    ///
    /// The corresponding C call is `memfd_create`.
    package static func memoryFile(_ name: String, holding bytes: [UInt8] = []) throws(OperationFailure)
        -> Descriptor
    {
        let file = natlab_memory_file(name)
        guard file >= 0 else { throw OperationFailure("make memory file", name, errno: -file) }
        let descriptor = Descriptor(adopting: file)
        try descriptor.writeAll(bytes)
        try descriptor.rewind()
        return descriptor
    }

    /// Back to the start of the file.
    ///
    /// The corresponding C function is `lseek`.
    package borrowing func rewind() throws(OperationFailure) {
        guard lseek(rawValue, 0, SEEK_SET) == 0 else {
            throw OperationFailure("rewind descriptor", "\(rawValue)", errno: errno)
        }
    }
}
