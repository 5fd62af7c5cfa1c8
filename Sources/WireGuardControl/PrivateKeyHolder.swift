import CNLGenl
import NetlinkWire
package import SystemCalls
package import WireGuardKeys

/// A way to an interface that also gives its private key: for a rendezvous client, whose key is the interface's own.
package protocol PrivateKeyHolder: WireGuardTransport {
    /// Nil while no key is set.
    func readPrivateKey() throws(OperationFailure) -> PrivateKey?
}

extension UserspaceWireGuard: PrivateKeyHolder {
    package func readPrivateKey() throws(OperationFailure) -> PrivateKey? {
        let operation = "read WireGuard's private key"
        let answer = try exchange(UAPIRequest.get(), operation)
        do throws(OperationFailure) {
            return try answer.withBytes { (bytes) throws(OperationFailure) -> PrivateKey? in
                var rest = bytes[...]
                var number = 0
                while let end = rest.firstIndex(of: UInt8(ascii: "\n")), end > rest.startIndex {
                    number += 1
                    let line = try UAPILine(UnsafeRawBufferPointer(rebasing: rest[..<end]), number: number)
                    rest = rest[(end + 1)...]
                    // The interface's own lines come before those of its peers.
                    if line.key == "public_key" { break }
                    if line.key == "private_key" { return try line.key32().withBytes { privateKey($0) } }
                }
                return nil
            }
        } catch { throw explained(error, operation) }
    }
}

extension KernelWireGuard: PrivateKeyHolder {
    package func readPrivateKey() throws(OperationFailure) -> PrivateKey? {
        let request = try KernelGetMessages.request(interface: interface)
        var key: PrivateKey?
        try socket.dump(request, family: family, operation: "read WireGuard's private key", object: interface)
        {
            payload throws(OperationFailure) in
            var reader = GenericAttributeReader(payload)
            while let attribute = try reader.next() {
                if UInt32(attribute.type) == WGDEVICE_A_PRIVATE_KEY.rawValue {
                    key = privateKey(attribute.value)
                }
            }
        }
        return key
    }
}

/// All zeros stand for no key.
private func privateKey(_ bytes: UnsafeRawBufferPointer) -> PrivateKey? {
    bytes.allSatisfy { $0 == 0 } ? nil : PrivateKey(copying: bytes)
}
