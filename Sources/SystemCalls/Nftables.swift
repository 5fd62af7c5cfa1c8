import CNatlab
import Glibc

extension NetworkNamespace {
    /// Runs commands of nft(8) in the namespace, by libnftables in this process, as one transaction; what they print.
    ///
    /// Throws EINVAL with nft's own words where it refuses; then nothing has changed.
    @discardableResult
    package func nft(_ commands: String) throws(OperationFailure) -> String {
        let namespace = try open()
        var output: UnsafeMutablePointer<CChar>?
        var messages: UnsafeMutablePointer<CChar>?
        let result = natlab_nft_in(namespace.rawValue, commands, &output, &messages)
        defer {
            free(output)
            free(messages)
        }
        guard result >= 0 else {
            let said = messages.map { String(cString: $0) } ?? ""
            throw OperationFailure(
                "load nftables rules", "table natlab", namespace: name, errno: -result,
                detail: said.isEmpty ? nil : Self.firstLines(said))
        }
        return output.map { String(cString: $0) } ?? ""
    }

    /// Nft repeats the whole rule below each message; its first lines say what it is.
    private static func firstLines(_ text: String) -> String {
        text.split(separator: "\n").filter { $0.contains("rror") }.prefix(3).joined(separator: "; ")
    }
}
