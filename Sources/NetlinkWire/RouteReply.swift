import CMNL
import CNLGenl
import Glibc

/// The messages in a datagram from the kernel.
///
/// Lengths are checked before anything is read; a message that lies about its length ends the walk (`isWhole`
/// is then false).
struct RouteReplyWalk {
    private var rest: UnsafeRawBufferPointer
    private(set) var isWhole = true

    init(_ bytes: UnsafeRawBufferPointer) { rest = bytes }

    mutating func next() -> RouteReplyMessage? {
        guard !rest.isEmpty else { return nil }
        guard rest.count >= 16, let length = Optional(Int(rest.loadUnaligned(as: UInt32.self))), length >= 16,
            length <= rest.count
        else {
            isWhole = false
            rest = UnsafeRawBufferPointer(rebasing: rest[..<0])
            return nil
        }
        let message = RouteReplyMessage(bytes: UnsafeRawBufferPointer(rebasing: rest[..<length]))
        rest = UnsafeRawBufferPointer(rebasing: rest[min((length + 3) & ~3, rest.count)...])
        return message
    }
}

/// One message; borrowed from the receive buffer.
struct RouteReplyMessage {
    /// At least a header.
    let bytes: UnsafeRawBufferPointer

    var type: UInt16 { bytes.loadUnaligned(fromByteOffset: 4, as: UInt16.self) }
    var flags: UInt16 { bytes.loadUnaligned(fromByteOffset: 6, as: UInt16.self) }
    var sequence: UInt32 { bytes.loadUnaligned(fromByteOffset: 8, as: UInt32.self) }
    var payload: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: bytes[16...]) }

    /// The fixed part of the payload; nil when the message is shorter.
    func header<T: BitwiseCopyable>(as type: T.Type) -> T? {
        payload.count >= MemoryLayout<T>.size ? payload.loadUnaligned(as: T.self) : nil
    }

    /// The attributes after a fixed part of `count` bytes.
    func attributes(after count: Int) -> RouteAttributeList {
        let offset = min((count + 3) & ~3, payload.count)
        return RouteAttributeList(UnsafeRawBufferPointer(rebasing: payload[offset...]))
    }

    /// What NLMSG_ERROR or NLMSG_DONE says; nil when it is too short to say anything.
    ///
    /// Source: struct nlmsgerr and enum nlmsgerr_attrs of linux/netlink.h.
    var outcome: RouteOutcome? {
        guard let code = header(as: Int32.self) else { return nil }
        var outcome = RouteOutcome(errno: code < 0 ? -code : 0)
        guard flags & UInt16(NLM_F_ACK_TLVS) != 0 else { return outcome }
        var fixed = 4
        if type == UInt16(NLMSG_ERROR) {
            fixed = 20
            // Without NLM_F_CAPPED the whole request follows, not just its header.
            if flags & UInt16(NLM_F_CAPPED) == 0, payload.count >= 8 {
                fixed = 4 + Int(payload.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
            }
        }
        for attribute in attributes(after: fixed) {
            switch UInt32(attribute.type) {
            case UInt32(NLMSGERR_ATTR_MSG.rawValue): outcome.message = attribute.text
            case UInt32(NLMSGERR_ATTR_OFFS.rawValue): outcome.offset = attribute.unsigned32
            case UInt32(NLMSGERR_ATTR_MISS_TYPE.rawValue): outcome.missing = attribute.unsigned32
            default: break
            }
        }
        return outcome
    }
}

/// The kernel's verdict on a request.
struct RouteOutcome: Hashable {
    /// Positive; 0 for success.
    var errno: Int32
    /// The extended acknowledgement's text.
    var message: String?
    /// Where in the request the attribute is that the kernel did not like, in bytes.
    var offset: UInt32?
    /// The type of an attribute that the kernel missed.
    var missing: UInt32?

    /// For `OperationFailure.detail`.
    var detail: String? {
        var parts: [String] = []
        if let message { parts.append(message) }
        if let offset { parts.append("attribute at byte \(offset)") }
        if let missing { parts.append("attribute \(missing) is missing") }
        return parts.isEmpty ? nil : parts.joined(separator: ", ")
    }
}

/// Attributes one after the other.
struct RouteAttributeList: Sequence, IteratorProtocol {
    private var rest: UnsafeRawBufferPointer

    init(_ bytes: UnsafeRawBufferPointer) { rest = bytes }

    mutating func next() -> RouteAttribute? {
        guard rest.count >= 4 else { return nil }
        let length = Int(rest.loadUnaligned(as: UInt16.self))
        guard length >= 4, length <= rest.count else { return nil }
        let type = rest.loadUnaligned(fromByteOffset: 2, as: UInt16.self)
        let attribute = RouteAttribute(
            // The top bits say "nested" and "network byte order".
            type: type & attributeTypeMask, payload: UnsafeRawBufferPointer(rebasing: rest[4..<length]))
        rest = UnsafeRawBufferPointer(rebasing: rest[Swift.min((length + 3) & ~3, rest.count)...])
        return attribute
    }
}

/// NLA_TYPE_MASK; the macro does not import.
private let attributeTypeMask: UInt16 = 0x3FFF

/// One attribute; borrowed from the receive buffer.
struct RouteAttribute {
    let type: UInt16
    let payload: UnsafeRawBufferPointer

    var unsigned8: UInt8? { payload.count >= 1 ? payload[0] : nil }
    var unsigned32: UInt32? { payload.count >= 4 ? payload.loadUnaligned(as: UInt32.self) : nil }
    /// Up to the first NUL.
    var text: String { String(decoding: payload.prefix { $0 != 0 }, as: UTF8.self) }
    var nested: RouteAttributeList { RouteAttributeList(payload) }
}
