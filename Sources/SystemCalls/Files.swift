import CNatlab
import Glibc

/// Small files and folders, with their modes given at creation, never afterwards.
package enum Files {
    /// The whole file, at most `limit` bytes (EFBIG beyond).
    package static func read(_ path: String, limit: Int = 64 << 20) throws(OperationFailure) -> [UInt8] {
        let file = try open(path, O_RDONLY, operation: "read file")
        do throws(OperationFailure) {
            return try file.readAll(limit: limit)
        } catch {
            throw OperationFailure("read file", path, errno: error.errno)
        }
    }

    /// The whole file as text; bytes that are not UTF-8 become U+FFFD.
    package static func readText(_ path: String, limit: Int = 64 << 20) throws(OperationFailure) -> String {
        String(decoding: try read(path, limit: limit), as: UTF8.self)
    }

    /// Replaces the file in one go: a reader sees the old contents or the new, also when the machine's
    /// process is killed.
    package static func writeAtomically(
        _ path: String, _ bytes: [UInt8], mode: UInt32
    ) throws(OperationFailure) {
        try bytes.withUnsafeBufferPointer { buffer throws(OperationFailure) in
            try writeAtomically(path, copying: UnsafeRawBufferPointer(buffer), mode: mode)
        }
    }

    /// The same for bytes that must not be copied about: keys.
    package static func writeAtomically(
        _ path: String, copying bytes: UnsafeRawBufferPointer, mode: UInt32
    ) throws(OperationFailure) {
        let temporary = "\(path).\(getpid()).new"
        _ = unlink(temporary)
        do throws(OperationFailure) {
            let file = try open(temporary, O_WRONLY | O_CREAT | O_EXCL, mode: mode, operation: "write file")
            try file.writeAll(bytes)
            guard rename(temporary, path) == 0 else {
                throw OperationFailure("write file", path, errno: errno)
            }
        } catch {
            _ = unlink(temporary)
            throw OperationFailure("write file", path, errno: error.errno)
        }
    }

    /// Opens a file, close-on-exec.
    ///
    /// The corresponding C function is `open`.
    package static func open(
        _ path: String, _ flags: Int32, mode: UInt32 = 0, operation: String = "open file"
    ) throws(OperationFailure) -> Descriptor {
        while true {
            let file = Glibc.open(path, flags | O_CLOEXEC, mode)
            if file >= 0 { return Descriptor(adopting: file) }
            let code = errno
            guard code == EINTR else { throw OperationFailure(operation, path, errno: code) }
        }
    }

    /// Makes a folder; whether it was not there before.
    @discardableResult
    package static func makeFolder(_ path: String, mode: UInt32) throws(OperationFailure) -> Bool {
        if mkdir(path, mode) == 0 { return true }
        let code = errno
        guard code == EEXIST else { throw OperationFailure("make folder", path, errno: code) }
        return false
    }

    package static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    /// Whether this is a folder, and no link to one.
    package static func isFolder(_ path: String) -> Bool {
        var status = stat()
        return lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    /// Names in a folder, sorted, without "." and ".."; none when there is no such folder.
    package static func list(_ path: String) throws(OperationFailure) -> [String] {
        guard let stream = opendir(path) else {
            let code = errno
            if code == ENOENT { return [] }
            throw OperationFailure("list folder", path, errno: code)
        }
        defer { closedir(stream) }
        return names(in: stream).sorted()
    }

    /// Removes a file; nothing happens when there is none.
    package static func remove(_ path: String) throws(OperationFailure) {
        guard unlink(path) == 0 || errno == ENOENT else {
            throw OperationFailure("remove file", path, errno: errno)
        }
    }

    /// Removes a folder that is empty; whether it did (not when it is missing or in use).
    @discardableResult
    package static func removeEmptyFolder(_ path: String) -> Bool { rmdir(path) == 0 }

    /// Removes a folder and all in it, without following links or crossing into a mount (EBUSY).
    package static func removeTree(_ path: String) throws(OperationFailure) {
        try removeEntry(AT_FDCWD, path, shown: path)
    }

    private static func removeEntry(_ folder: Int32, _ name: String, shown: String) throws(OperationFailure) {
        if unlinkat(folder, name, 0) == 0 { return }
        let code = errno
        if code == ENOENT { return }
        guard code == EISDIR || code == EPERM else { throw OperationFailure("remove", shown, errno: code) }
        let opened = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard opened >= 0 else { throw OperationFailure("remove", shown, errno: errno) }
        // closedir closes the descriptor too.
        guard let stream = fdopendir(opened) else {
            let code = errno
            _ = close(opened)
            throw OperationFailure("remove", shown, errno: code)
        }
        defer { closedir(stream) }
        for entry in names(in: stream) { try removeEntry(opened, entry, shown: "\(shown)/\(entry)") }
        guard unlinkat(folder, name, AT_REMOVEDIR) == 0 || errno == ENOENT else {
            throw OperationFailure("remove", shown, errno: errno)
        }
    }

    private static func names(in stream: OpaquePointer) -> [String] {
        var result: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { result.append(name) }
        }
        return result
    }

    /// Locks a file against other processes for as long as the descriptor is open; nil when another has it
    /// and `wait` is false.
    ///
    /// The corresponding C function is `flock`.
    package static func lock(_ path: String, wait: Bool, mode: UInt32 = 0o600) throws(OperationFailure)
        -> Descriptor?
    {
        let file = try open(path, O_RDWR | O_CREAT, mode: mode, operation: "lock")
        let result = natlab_lock(file.rawValue, wait)
        if result == -EWOULDBLOCK { return nil }
        guard result >= 0 else { throw OperationFailure("lock", path, errno: -result) }
        return file
    }
}
