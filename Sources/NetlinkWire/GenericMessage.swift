import CNLGenl

/// A generic netlink request: nlmsghdr (16 bytes), genlmsghdr (4 bytes), attributes, all in host byte order.
///
/// The nlmsghdr stays zero until the socket stamps it; so the bytes of a message depend on its content alone. The
/// memory is wiped with the message. Source: linux/netlink.h, linux/genetlink.h.
package final class GenericMessage {
    /// nlmsghdr and genlmsghdr together, in bytes.
    package static let headerLength = 20

    private let bytes: WipedBytes

    /// A message without attributes; `capacity` bytes are set aside for all of it.
    package init(command: UInt8, version: UInt8, capacity: Int = 256) {
        bytes = WipedBytes(capacity: capacity)
        bytes.append([UInt8](repeating: 0, count: 16))
        bytes.append([command, version, 0, 0])
    }

    /// The whole length in bytes, headers included; always a multiple of 4.
    package var count: Int { bytes.count }

    /// What an attribute with a value of so many bytes takes: 4 for its header, rounded up to 4 (NLA_ALIGN).
    package static func attributeLength(_ valueLength: Int) -> Int { (4 + valueLength + 3) & ~3 }

    package func put(_ type: UInt16, raw value: UnsafeRawBufferPointer) {
        precondition(value.count <= 0xFFFF - 4, "an attribute's length has 16 bits")
        putHeader(type, length: 4 + value.count)
        bytes.append(raw: value)
        while bytes.count % 4 != 0 { bytes.append(0) }
    }

    package func put(_ type: UInt16, _ value: [UInt8]) {
        value.withUnsafeBytes { put(type, raw: $0) }
    }

    /// NLA_U8, NLA_U16, NLA_U32, by the width of the integer.
    package func put(_ type: UInt16, _ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value) { put(type, raw: $0) }
    }

    /// NLA_NUL_STRING.
    package func put(_ type: UInt16, string value: String) {
        put(type, Array(value.utf8) + [0])
    }

    /// Opens a nest (with NLA_F_NESTED); hand the result to `endNest`.
    package func beginNest(_ type: UInt16) -> Int {
        let start = bytes.count
        putHeader(type | UInt16(1 << 15), length: 4)
        return start
    }

    /// Closes the nest that `beginNest` opened: its length covers all that came since.
    package func endNest(_ start: Int) {
        let length = bytes.count - start
        precondition((4...0xFFFF).contains(length), "an attribute's length has 16 bits")
        withUnsafeBytes(of: UInt16(length)) { bytes.overwrite(at: start, with: $0) }
    }

    /// Fills the nlmsghdr in: total length, family id as type, NLM_F_*, sequence number, port id.
    package func stamp(type: UInt16, flags: UInt16, sequence: UInt32, port: UInt32) {
        let header = nlmsghdr(
            nlmsg_len: UInt32(bytes.count), nlmsg_type: type, nlmsg_flags: flags, nlmsg_seq: sequence,
            nlmsg_pid: port)
        withUnsafeBytes(of: header) { bytes.overwrite(at: 0, with: $0) }
    }

    /// Lends the message's bytes; they must not outlive the call.
    package func withBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
        try bytes.withBytes(body)
    }

    private func putHeader(_ type: UInt16, length: Int) {
        withUnsafeBytes(of: UInt16(length)) { bytes.append(raw: $0) }
        withUnsafeBytes(of: type) { bytes.append(raw: $0) }
    }
}

extension GenericMessage: CustomStringConvertible, CustomReflectable {
    package var description: String { "(generic netlink message of \(count) bytes)" }
    package var customMirror: Mirror { Mirror(self, children: [], displayStyle: .class) }
}
