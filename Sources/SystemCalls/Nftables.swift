import CNatlab
import Glibc

extension NetworkNamespace {
    /// Runs commands of nft(8) in the namespace, by libnftables in this process, as one transaction; what they print.
    ///
    /// Throws EINVAL with nft's own words where it refuses; then nothing has changed.
    @discardableResult
    package func nft(_ commands: String) throws(OperationFailure) -> String {
        try run(commands, asRules: false, "load nftables rules", "table natlab")
    }

    /// All rules of the namespace, iptables-nft's too, as `nft --handle --stateless --terse list ruleset` prints them:
    /// with handles, without counters' values and sets' elements.
    package func nftRules() throws(OperationFailure) -> String {
        try run("list ruleset", asRules: true, "list", "nftables rules")
    }

    private func run(
        _ commands: String, asRules: Bool, _ operation: String, _ object: String
    ) throws(OperationFailure) -> String {
        let namespace = try open()
        var output: UnsafeMutablePointer<CChar>?
        var messages: UnsafeMutablePointer<CChar>?
        let result = natlab_nft_in(namespace.rawValue, commands, asRules, &output, &messages)
        defer {
            free(output)
            free(messages)
        }
        guard result >= 0 else {
            let said = messages.map { String(cString: $0) } ?? ""
            throw OperationFailure(
                operation, object, namespace: name, errno: -result,
                detail: said.isEmpty ? nil : Self.firstLines(said))
        }
        return output.map { String(cString: $0) } ?? ""
    }

    /// Nft repeats the whole rule below each message; its first lines say what it is.
    private static func firstLines(_ text: String) -> String {
        text.split(separator: "\n").filter { $0.contains("rror") }.prefix(3).joined(separator: "; ")
    }
}
