import FoundationEssentials
import SystemCalls
import TestSupport
import Testing
import WireGuardKeys

/// natpunch_peer.py at work: a server or a client that shares no code with this one.
final class Witness {
    struct Line: Decodable {
        var event: String
        var key: String?
        var target: String?
        var endpoint: String?
        var source: String?
        var found: Bool?
        var payload: Int?
        var type: Int?
    }

    private var process: ChildProcess?
    private let output: String

    static let script = {
        let file = #filePath
        return (file.lastIndex(of: "/").map { String(file[...$0]) } ?? "") + "Witness/natpunch_peer.py"
    }()

    /// Starts it in a namespace; it ends with the test.
    init(_ site: Site, in host: NetworkNamespace, key: PrivateKey, _ arguments: [String]) throws {
        output = "\(site.folder)/\(uniqueName("witness")).json"
        let file = try Files.open(output, 0o1101, mode: 0o600)
        let hex = key.withBytes { Self.hex($0) }
        // The test's own key, made for this run; a real one would never go into an environment.
        let call = ProgramCall(
            "/usr/bin/python3", [Self.script] + arguments,
            environment: ["NATPUNCH_KEY": hex, "PATH": "/usr/bin:/bin"], network: host)
        process = try call.spawn(output: file.rawValue, error: file.rawValue)
        site.cleanup.add("witness") { [self] in try end() }
    }

    func end() throws {
        guard let process = process.take() else { return }
        _ = try process.end(grace: .seconds(2))
    }

    /// What it has said so far; throws with its own words when it has died of an error.
    func lines() throws -> [Line] {
        let text = try Files.readText(output)
        // The last line may be half written.
        let whole = text.lastIndex(of: "\n").map { text[...$0] } ?? ""
        return try whole.split(separator: "\n").map { line in
            do {
                return try JSONDecoder().decode(Line.self, from: Data(line.utf8))
            } catch {
                throw OperationFailure("run witness", Self.script, detail: text)
            }
        }
    }

    /// All of it, for a failure's comment.
    var text: String { (try? Files.readText(output)) ?? "" }

    func has(_ condition: (Line) -> Bool) -> Bool { ((try? lines()) ?? []).contains(where: condition) }

    static func hex(_ bytes: some Sequence<UInt8>) -> String {
        bytes.map { byte in
            let digits = Array("0123456789abcdef")
            return String([digits[Int(byte >> 4)], digits[Int(byte & 15)]])
        }.joined()
    }
}
