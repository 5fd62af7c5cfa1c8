/// The one error shape below the command line: what was tried, on what, where, and what the kernel said.
///
/// Callers match `errno`; the text is for people.
package struct OperationFailure: Error, Hashable, Sendable {
    /// What was tried, as a verb phrase: "create veth".
    package var operation: String
    /// The thing it was tried on: "eth0", "/run/netns/lab.a", "10.0.0.1/24".
    package var object: String
    /// The network namespace it happened in, by its name under /run/netns; nil for the machine's own.
    package var namespace: String?
    /// The errno (a positive number), or 0 where no system call failed (a malformed answer, a deadline).
    package var errno: Int32
    /// The kernel's extended-ack text, or the program's standard error, or what was malformed.
    package var detail: String?
    /// What the user can do about it, where there is something.
    package var mend: String?

    package init(
        _ operation: String, _ object: String, namespace: String? = nil, errno: Int32 = 0,
        detail: String? = nil,
        mend: String? = nil
    ) {
        self.operation = operation
        self.object = object
        self.namespace = namespace
        self.errno = errno
        self.detail = detail
        self.mend = mend
    }
}
