import Glibc
import SystemCalls

extension Files {
    /// Writes a result into what `path` is: a device, a pipe or a link stays what it is.
    static func writeResult(_ text: String, to path: String, operation: String) throws(OperationFailure) {
        let file = try open(path, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644, operation: operation)
        do throws(OperationFailure) { try file.writeAll(Array(text.utf8)) } catch {
            throw OperationFailure(operation, path, errno: error.errno)
        }
    }
}
