package import SystemCalls

/// One netlink attribute of an answer; it points into the answer's bytes.
package struct GenericAttribute {
    /// NLA_TYPE_MASK applied: without NLA_F_NESTED and NLA_F_NET_BYTEORDER.
    package let type: UInt16
    package let value: UnsafeRawBufferPointer

    /// The value as an integer of exactly its width, host byte order.
    package func integer<I: FixedWidthInteger>(_ width: I.Type = I.self) throws(OperationFailure) -> I {
        guard value.count == I.bitWidth / 8 else {
            throw .malformedNetlink("attribute \(type) has \(value.count) bytes instead of \(I.bitWidth / 8)")
        }
        return value.loadUnaligned(as: I.self)
    }

    /// The text before the first NUL.
    package func string() -> String {
        String(decoding: value.prefix { $0 != 0 }, as: UTF8.self)
    }

    /// The attributes inside a nest.
    package var nested: GenericAttributeReader { GenericAttributeReader(value) }
}

/// Walks over a row of attributes; it never reads past the bytes that are there.
///
/// Source: linux/netlink.h, struct nlattr; attributes start at multiples of 4.
package struct GenericAttributeReader {
    private var rest: UnsafeRawBufferPointer.SubSequence

    package init(_ bytes: UnsafeRawBufferPointer) { rest = bytes[...] }

    /// The next attribute, nil at the end.
    ///
    /// Throws when a length does not fit what is left.
    package mutating func next() throws(OperationFailure) -> GenericAttribute? {
        guard !rest.isEmpty else { return nil }
        let bytes = UnsafeRawBufferPointer(rebasing: rest)
        guard bytes.count >= 4 else {
            throw .malformedNetlink("\(bytes.count) bytes left over after an attribute")
        }
        let length = Int(bytes.loadUnaligned(as: UInt16.self))
        let type = bytes.loadUnaligned(fromByteOffset: 2, as: UInt16.self) & 0x3FFF
        guard length >= 4, length <= bytes.count else {
            throw .malformedNetlink("attribute \(type) claims \(length) bytes of \(bytes.count)")
        }
        // The last attribute of a row may come without its padding.
        rest = rest.dropFirst(min((length + 3) & ~3, bytes.count))
        return GenericAttribute(type: type, value: UnsafeRawBufferPointer(rebasing: bytes[4..<length]))
    }
}

extension OperationFailure {
    /// An answer that does not keep to its format; errno is 0.
    package static func malformedNetlink(_ detail: String) -> OperationFailure {
        OperationFailure("read", "netlink answer", detail: detail)
    }
}
