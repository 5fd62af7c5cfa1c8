import FoundationEssentials
package import LabPlanner
package import SystemCalls
package import WireGuardKeys

extension LabState {
    /// A tunnel's public key, as `up` has written it down.
    package func readPublicKey(host: String, interface: String) throws(OperationFailure) -> PublicKey {
        let path = publicKeyFile(host: host, interface: interface)
        let text = try Files.readText(path)
        guard let key = PublicKey(base64: String(text.prefix { $0 != "\n" })) else {
            throw OperationFailure("read public key", path, detail: "not 44 characters of base64")
        }
        return key
    }

    /// The plan the lab was built from.
    package func readPlan() throws(OperationFailure) -> LabPlan {
        try read(LabPlan.self, planFile, "read plan")
    }

    /// What the lab was built as; ENOENT while it is not complete.
    package func readRecord() throws(OperationFailure) -> LabRecord {
        try read(LabRecord.self, recordFile, "read lab record")
    }

    /// Whether the lab is complete, and of this boot: of another one nothing but files can be left.
    var isComplete: Bool {
        guard let record = try? readRecord() else { return false }
        return record.bootID == (try? currentBootID())
    }

    func write(_ plan: LabPlan) throws(OperationFailure) { try write(plan, planFile, "write plan") }

    func write(_ record: LabRecord) throws(OperationFailure) {
        try write(record, recordFile, "write lab record")
    }

    private func read<T: Decodable>(_ type: T.Type, _ path: String, _ operation: String)
        throws(OperationFailure) -> T
    {
        let bytes = try Files.read(path)
        do {
            return try JSONDecoder().decode(type, from: Data(bytes))
        } catch {
            throw OperationFailure(operation, path, detail: "not what natlab writes: \(error)")
        }
    }

    private func write(_ value: some Encodable, _ path: String, _ operation: String) throws(OperationFailure)
    {
        let bytes: [UInt8]
        do {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
            bytes = Array(try encoder.encode(value))
        } catch {
            throw OperationFailure(operation, path, detail: "\(error)")
        }
        try Files.writeAtomically(path, bytes, mode: 0o600)
    }
}

/// This boot's /proc/sys/kernel/random/boot_id.
func currentBootID() throws(OperationFailure) -> String {
    let text = try Files.readText("/proc/sys/kernel/random/boot_id")
    return String(text.prefix { $0 != "\n" })
}
