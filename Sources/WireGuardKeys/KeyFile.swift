import Glibc
package import SystemCalls

/// Private keys in files: one line of WireGuard's base64, as `wg genkey` writes it.
package enum KeyFile {
    /// What was read, and whether others than the owner may read the file too.
    package struct Reading<Key> {
        package var key: Key
        /// The text for a warning; nil where nobody else can read the file.
        ///
        /// As wg(8) does, the key is used all the same.
        package var warning: String?
    }

    /// Reads a private key.
    ///
    /// Throws with the errno of open or read, or with errno 0 where the file holds no key or is no regular file; it
    /// never waits, for a writer of a FIFO, say.
    package static func readPrivateKey(_ path: String) throws(OperationFailure) -> Reading<PrivateKey> {
        try read(path, "read private key", maker: "wg genkey") { PrivateKey(base64: $0) }
    }

    /// Reads a preshared key; throws as `readPrivateKey` does.
    package static func readPresharedKey(_ path: String) throws(OperationFailure) -> Reading<PresharedKey> {
        try read(path, "read preshared key", maker: "wg genpsk") { PresharedKey(base64: $0) }
    }

    /// Writes a key and a newline to a new file that only its owner can read (mode 0600).
    ///
    /// Throws EEXIST where there is one.
    package static func write(_ key: SecretBytes, to path: String) throws(OperationFailure) {
        let fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard fd >= 0 else { throw OperationFailure("create key file", path, errno: errno) }
        defer { close(fd) }
        // The umask can only take bits away; a default ACL could add some.
        guard fchmod(fd, 0o600) == 0 else { throw OperationFailure("protect key file", path, errno: errno) }
        let line = SecretBuffer(count: 45)
        key.withBase64 { line.bytes.copyMemory(from: $0) }
        line.bytes[44] = 0x0A
        try writeAll(fd, UnsafeRawBufferPointer(line.bytes), path)
    }

    private static func writeAll(_ fd: Int32, _ bytes: UnsafeRawBufferPointer, _ path: String)
        throws(OperationFailure)
    {
        var offset = 0
        while offset < bytes.count {
            let count = Glibc.write(fd, bytes.baseAddress.map { $0 + offset }, bytes.count - offset)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw OperationFailure("write key file", path, errno: errno) }
            offset += count
        }
    }

    private static func read<Key>(
        _ path: String, _ operation: String, maker: String, _ parse: (UnsafeRawBufferPointer) -> Key?
    ) throws(OperationFailure) -> Reading<Key> {
        let fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
        guard fd >= 0 else { throw OperationFailure(operation, path, errno: errno) }
        defer { close(fd) }
        var status = stat()
        guard fstat(fd, &status) == 0 else { throw OperationFailure(operation, path, errno: errno) }
        let mend = "make a key with: (umask 077; \(maker) > \(path))"
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw OperationFailure(operation, path, detail: "it is not a regular file", mend: mend)
        }
        // A key, a line end and one byte to notice that there is more.
        let buffer = SecretBuffer(count: 48)
        var count = 0
        while count < buffer.bytes.count {
            let got = Glibc.read(fd, buffer.pointer(count), buffer.bytes.count - count)
            if got < 0, errno == EINTR { continue }
            guard got >= 0 else { throw OperationFailure(operation, path, errno: errno) }
            if got == 0 { break }
            count += got
        }
        guard let key = parse(UnsafeRawBufferPointer(rebasing: buffer.bytes[..<count])) else {
            throw OperationFailure(
                operation, path, detail: "the file is not one line of 44 base64 characters",
                mend: mend)
        }
        var reading = Reading(key: key, warning: nil)
        if status.st_mode & 0o077 != 0 {
            let mode = String(status.st_mode & 0o777, radix: 8)
            reading.warning =
                "\(path) can be used by others than its owner (mode 0\(mode)); protect it with: chmod 600 \(path)"
        }
        return reading
    }
}
