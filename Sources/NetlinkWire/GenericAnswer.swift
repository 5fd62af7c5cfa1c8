import CNLGenl
package import SystemCalls

/// One message of a datagram from the kernel; it points into the datagram's bytes.
///
/// Source: linux/netlink.h (nlmsghdr, nlmsgerr, NLMSGERR_ATTR_*); Documentation/userspace-api/netlink/intro.rst.
package struct GenericAnswer {
    package enum Content {
        /// Attributes of a family's message, after its genlmsghdr.
        case attributes(UnsafeRawBufferPointer)
        /// NLMSG_ERROR: 0 acknowledges the request.
        case acknowledgement(errno: Int32, text: String?)
        /// NLMSG_DONE: the end of a dump, with an errno where it failed.
        case done(errno: Int32, text: String?)
        /// NLMSG_NOOP, NLMSG_OVERRUN, and types that are not the family's.
        case other(type: UInt16)
    }
    package let sequence: UInt32
    /// NLM_F_DUMP_INTR: the dumped objects changed meanwhile, the dump may be inconsistent.
    package let interrupted: Bool
    package let content: Content
}

/// Walks over the messages of a datagram; it never reads past the bytes that are there.
package struct GenericAnswerReader {
    private var rest: UnsafeRawBufferPointer.SubSequence
    private let family: UInt16

    /// `family` is the message type whose payload is wanted.
    package init(_ datagram: UnsafeRawBufferPointer, family: UInt16) {
        rest = datagram[...]
        self.family = family
    }

    /// The next message, nil at the end.
    ///
    /// Throws when a length does not fit what is left.
    package mutating func next() throws(OperationFailure) -> GenericAnswer? {
        guard !rest.isEmpty else { return nil }
        let bytes = UnsafeRawBufferPointer(rebasing: rest)
        guard bytes.count >= 16 else { throw .malformedNetlink("\(bytes.count) bytes are no message header") }
        let header = bytes.loadUnaligned(as: nlmsghdr.self)
        let length = Int(header.nlmsg_len)
        guard length >= 16, length <= bytes.count else {
            throw .malformedNetlink("a message claims \(length) bytes of \(bytes.count)")
        }
        rest = rest.dropFirst(min((length + 3) & ~3, bytes.count))
        let payload = UnsafeRawBufferPointer(rebasing: bytes[16..<length])
        return GenericAnswer(
            sequence: header.nlmsg_seq, interrupted: Int32(header.nlmsg_flags) & NLM_F_DUMP_INTR != 0,
            content: try content(header, payload))
    }

    private func content(
        _ header: nlmsghdr, _ payload: UnsafeRawBufferPointer
    ) throws(OperationFailure) -> GenericAnswer.Content {
        let hasText = Int32(header.nlmsg_flags) & NLM_F_ACK_TLVS != 0
        switch Int32(header.nlmsg_type) {
        case NLMSG_ERROR:
            // struct nlmsgerr: the error, then the request's header, then (unless capped) its payload.
            guard payload.count >= 20 else {
                throw .malformedNetlink("an error message of \(payload.count) bytes")
            }
            let capped = Int32(header.nlmsg_flags) & NLM_F_CAPPED != 0
            let request = Int(payload.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
            let tail = capped ? 20 : 4 + ((max(request, 16) + 3) & ~3)
            return .acknowledgement(
                errno: try Self.errno(payload), text: hasText ? Self.text(payload.dropFirst(tail)) : nil)
        case NLMSG_DONE:
            // A dump without an error may end without the error number (its payload is then empty).
            guard !payload.isEmpty else { return .done(errno: 0, text: nil) }
            guard payload.count >= 4 else {
                throw .malformedNetlink("an end of dump of \(payload.count) bytes")
            }
            return .done(
                errno: try Self.errno(payload), text: hasText ? Self.text(payload.dropFirst(4)) : nil)
        case Int32(family):
            guard payload.count >= 4 else {
                throw .malformedNetlink("\(payload.count) bytes are no genlmsghdr")
            }
            return .attributes(UnsafeRawBufferPointer(rebasing: payload[4...]))
        default:
            return .other(type: header.nlmsg_type)
        }
    }

    private static func errno(_ payload: UnsafeRawBufferPointer) throws(OperationFailure) -> Int32 {
        let code = payload.loadUnaligned(as: Int32.self)
        guard code <= 0, code > Int32.min else { throw .malformedNetlink("\(code) is no kernel error") }
        return -code
    }

    /// NLMSGERR_ATTR_MSG, with NLMSGERR_ATTR_OFFS where it is there.
    ///
    /// A torn text is no reason to lose the errno.
    private static func text(_ bytes: UnsafeRawBufferPointer.SubSequence) -> String? {
        var attributes = GenericAttributeReader(UnsafeRawBufferPointer(rebasing: bytes))
        var text: String?
        var offset: UInt32?
        while let attribute = try? attributes.next() {
            switch UInt32(attribute.type) {
            case NLMSGERR_ATTR_MSG.rawValue: text = attribute.string()
            case NLMSGERR_ATTR_OFFS.rawValue: offset = try? attribute.integer()
            default: break
            }
        }
        guard let text, !text.isEmpty else { return nil }
        return offset.map { "\(text) (at byte \($0) of the request)" } ?? text
    }
}
