import CMNL
import CNLGenl  // Either of the two owns the Linux headers, depending on which was loaded first.
import Glibc

/// One rtnetlink request: the message, and what to call it in an error.
package struct RouteRequest: Sendable {
    /// As in `OperationFailure`.
    package var operation: String
    package var object: String
    /// RTM_*.
    var type: Int
    /// NLM_F_* besides NLM_F_REQUEST and NLM_F_ACK.
    var flags: Int32
    /// The fixed part: `ifinfomsg`, `ifaddrmsg`, `rtmsg` or `fib_rule_hdr`, in the machine's byte order.
    var header: [UInt8]
    var attributes: @Sendable (inout RouteAttributeWriter) -> Void

    init(
        _ operation: String, _ object: String, type: Int, flags: Int32 = 0, header: some BitwiseCopyable,
        attributes: @escaping @Sendable (inout RouteAttributeWriter) -> Void = { _ in }
    ) {
        self.operation = operation
        self.object = object
        self.type = type
        self.flags = flags
        self.header = withUnsafeBytes(of: header) { Array($0) }
        self.attributes = attributes
    }
}

/// Appends attributes to a message; inside `nest` to the attribute that is open.
///
/// Values are in the machine's byte order but for addresses. What does not fit is noted, and the message then
/// refused.
struct RouteAttributeWriter {
    fileprivate let message: UnsafeMutablePointer<nlmsghdr>
    /// Bytes from the message's start to the end of the buffer.
    fileprivate let room: Int
    fileprivate var overflowed = false

    mutating func put(_ type: Int, bytes: [UInt8]) {
        let fits = bytes.withUnsafeBytes {
            mnl_attr_put_check(message, room, UInt16(truncatingIfNeeded: type), $0.count, $0.baseAddress)
        }
        if !fits { overflowed = true }
    }

    mutating func put(_ type: Int, _ value: UInt8) { put(type, bytes: [value]) }

    mutating func put(_ type: Int, _ value: UInt32) {
        put(type, bytes: withUnsafeBytes(of: value) { Array($0) })
    }

    /// A struct or a wider number.
    mutating func put(_ type: Int, structure value: some BitwiseCopyable) {
        put(type, bytes: withUnsafeBytes(of: value) { Array($0) })
    }

    /// With its NUL.
    mutating func put(_ type: Int, _ text: String) { put(type, bytes: Array(text.utf8) + [0]) }

    /// Without its NUL, as iproute2 writes the kinds of links.
    mutating func put(_ type: Int, unterminated text: String) { put(type, bytes: Array(text.utf8)) }

    mutating func nest(_ type: Int, _ body: (inout RouteAttributeWriter) -> Void) {
        guard let attribute = mnl_attr_nest_start_check(message, room, UInt16(truncatingIfNeeded: type))
        else {
            overflowed = true
            return
        }
        body(&self)
        mnl_attr_nest_end(message, attribute)
    }

    /// A fixed struct in front of the attributes of a nest: VETH_INFO_PEER holds an `ifinfomsg`.
    mutating func structure(_ value: some BitwiseCopyable) {
        withUnsafeBytes(of: value) { source in
            guard Int(message.pointee.nlmsg_len) + source.count + 4 <= room else {
                overflowed = true
                return
            }
            mnl_nlmsg_put_extra_header(message, source.count)?.copyMemory(
                from: source.baseAddress ?? UnsafeRawPointer(message), byteCount: source.count)
        }
    }
}

/// Messages one after the other, to be sent in one go.
package struct RouteMessageBuffer: ~Copyable {
    private let storage: UnsafeMutableRawBufferPointer
    private var used = 0
    private var last = 0
    /// So much may hold old bytes, also of a message that did not fit.
    private var dirty = 0

    package init(capacity: Int = 32_768) {
        storage = .allocate(byteCount: capacity, alignment: 16)
        storage.initializeMemory(as: UInt8.self, repeating: 0)
    }

    deinit { storage.deallocate() }

    package var isEmpty: Bool { used == 0 }

    package var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: storage[..<used]) }

    package mutating func removeAll() {
        // Load-bearing, not defensive: libmnl 1.0.4 leaves what is there as padding between attributes.
        UnsafeMutableRawBufferPointer(rebasing: storage[..<dirty]).initializeMemory(
            as: UInt8.self, repeating: 0)
        used = 0
        dirty = 0
    }

    /// Appends a message; false when it does not fit any more, and then nothing is changed.
    package mutating func append(_ request: RouteRequest, flags: Int32, sequence: UInt32) -> Bool {
        let room = storage.count - used
        // 16 bytes for the header, and alignment.
        guard room >= 32 + request.header.count, let start = storage.baseAddress,
            let message = mnl_nlmsg_put_header(start + used)
        else { return false }
        message.pointee.nlmsg_type = UInt16(truncatingIfNeeded: request.type)
        message.pointee.nlmsg_flags = UInt16(truncatingIfNeeded: NLM_F_REQUEST | request.flags | flags)
        message.pointee.nlmsg_seq = sequence
        var writer = RouteAttributeWriter(message: message, room: room)
        request.header.withUnsafeBytes { header in
            guard let source = header.baseAddress else { return }
            mnl_nlmsg_put_extra_header(message, header.count)?.copyMemory(
                from: source, byteCount: header.count)
        }
        request.attributes(&writer)
        dirty = min(storage.count, max(dirty, used + ((Int(message.pointee.nlmsg_len) + 3) & ~3)))
        guard !writer.overflowed else { return false }
        // Each message begins on a multiple of four (NLMSG_ALIGN).
        let length = (Int(message.pointee.nlmsg_len) + 3) & ~3
        guard length <= room else { return false }
        last = used
        used += length
        return true
    }

    /// Asks for an acknowledgement of the message appended last.
    package mutating func acknowledgeLast() {
        guard used > 0 else { return }
        let flags = storage.loadUnaligned(fromByteOffset: last + 6, as: UInt16.self)
        storage.storeBytes(of: flags | UInt16(NLM_F_ACK), toByteOffset: last + 6, as: UInt16.self)
    }
}
