import Glibc
package import SystemCalls

/// Runs a real tool as a witness and returns its standard output; throws with its standard error when it
/// fails.
@discardableResult
package func tool(_ program: String, _ arguments: String...) throws(OperationFailure) -> String {
    try tool(program, arguments)
}

/// The same inside a namespace, by way of `ip netns exec`: not by natlab's own means, which are what is
/// tested.
@discardableResult
package func tool(
    in namespace: String, _ program: String, _ arguments: String...
) throws(OperationFailure) -> String {
    try tool("ip", ["netns", "exec", namespace, program] + arguments)
}

@discardableResult
package func tool(_ program: String, _ arguments: [String]) throws(OperationFailure) -> String {
    let output = try ProgramCall(program, arguments).run()
    guard output.status.isSuccess else {
        throw OperationFailure(
            "run tool", ([program] + arguments).joined(separator: " "),
            detail: "status \(output.status.shellStatus): \(output.error)\(output.output)")
    }
    return output.output
}

/// Whether one of three pings is answered within a second each.
package func pings(from namespace: String, to address: String) throws(OperationFailure) -> Bool {
    let output = try ProgramCall(
        "ip", ["netns", "exec", namespace, "ping", "-n", "-c", "3", "-i", "0.2", "-W", "1", address]
    ).run()
    return output.status.isSuccess
}
