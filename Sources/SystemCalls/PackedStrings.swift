import Glibc

/// Strings one after the other, each with its NUL, as CNatlab takes lists of them.
struct PackedStrings {
    let bytes: [CChar]
    let count: Int

    /// Throws EINVAL for a string with a NUL in it: C would see only its beginning.
    init(_ strings: some Collection<String>, for operation: String) throws(OperationFailure) {
        var bytes: [CChar] = []
        for string in strings {
            guard !string.utf8.contains(0) else {
                throw OperationFailure(operation, string, errno: EINVAL, detail: "a NUL inside a string")
            }
            bytes.append(contentsOf: string.utf8.lazy.map { CChar(bitPattern: $0) })
            bytes.append(0)
        }
        // Never empty, so that it has an address.
        bytes.append(0)
        self.bytes = bytes
        count = strings.count
    }
}
