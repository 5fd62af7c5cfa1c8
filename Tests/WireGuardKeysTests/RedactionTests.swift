import SystemCalls
import Testing
import WireGuardKeys

/// No way of printing a value shows a secret.
struct RedactionTests {
    /// A key of recognisable bytes.
    private func key() throws -> PrivateKey {
        try #require([UInt8](repeating: 0xAB, count: 32).withUnsafeBytes { PrivateKey(copying: $0) })
    }

    /// What the bytes would look like: decimal, hexadecimal, base64.
    private func expectRedacted(_ text: String) {
        #expect(text.contains("(redacted)"))
        for trace in ["171", "ab, ", "abab", "0xab", "q6ur", "0x0"] {
            #expect(!text.lowercased().contains(trace))
        }
    }

    private struct Holder {
        var name = "holder"
        var key: PrivateKey
        var preshared: PresharedKey?
        var buffer: SecretBuffer
    }

    @Test func `printing and interpolating`() throws {
        let key = try key()
        expectRedacted("\(key)")
        expectRedacted(String(describing: key))
        expectRedacted(String(reflecting: key))
        var text = ""
        print(key, to: &text)
        expectRedacted(text)
        text = ""
        debugPrint(key, to: &text)
        expectRedacted(text)
    }

    @Test func `dumping and mirrors`() throws {
        let key = try key()
        var text = ""
        dump(key, to: &text)
        expectRedacted(text)
        #expect(Mirror(reflecting: key).children.isEmpty)
        #expect(Mirror(reflecting: key).superclassMirror == nil)
    }

    @Test func `inside arrays, dictionaries, optionals and structures`() throws {
        let key = try key()
        let preshared = try #require(key.withBytes { PresharedKey(copying: $0) })
        let buffer = SecretBuffer(count: 32)
        key.withBytes { buffer.bytes.copyMemory(from: $0) }
        expectRedacted("\([key, key])")
        expectRedacted("\(["key": key])")
        expectRedacted("\(Optional.some(key) as Any)")
        let holder = Holder(key: key, preshared: preshared, buffer: buffer)
        expectRedacted("\(holder)")
        var text = ""
        dump(holder, to: &text)
        expectRedacted(text)
        text = ""
        debugPrint([holder], to: &text)
        expectRedacted(text)
    }

    @Test func `as its superclass and as Any`() throws {
        let key = try key()
        expectRedacted("\(key as SecretBytes)")
        expectRedacted("\(key as Any)")
        expectRedacted("\([key as Any])")
    }
}
