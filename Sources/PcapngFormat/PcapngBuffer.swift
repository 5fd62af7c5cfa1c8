import NetAddress

/// Blocks of a pcapng file, one after the other, to be taken and written somewhere.
///
/// Little-endian on every machine; a reader learns that from the section header. Source: draft-ietf-opsawg-pcapng.
package struct PcapngBuffer: Sendable {
    package private(set) var bytes: [UInt8] = []

    /// `capacity` is how many bytes are expected.
    package init(capacity: Int = 0) { bytes.reserveCapacity(capacity) }

    /// Gives out the blocks.
    package mutating func take() -> [UInt8] {
        defer { bytes = [] }
        return bytes
    }

    // MARK: Blocks

    /// Adds blocks that were taken from another buffer.
    package mutating func append(blocks: [UInt8]) { bytes += blocks }

    /// Begins a section of unknown length; the interfaces count from 0 again.
    package mutating func append(_ section: Pcapng.Section) {
        block(0x0A0D_0D0A) { buffer in
            buffer.append32(0x1A2B_3C4D)  // the byte order magic
            buffer.append16(1)  // version 1.0
            buffer.append16(0)
            buffer.append64(.max)  // the section's length: not said
            buffer.option(1, text: section.comment)
            buffer.option(2, text: section.hardware)
            buffer.option(3, text: section.system)
            buffer.option(4, text: section.application)
            buffer.endOptions()
        }
    }

    /// Adds an interface to the section.
    package mutating func append(_ interface: Pcapng.Interface) {
        block(1) { buffer in
            buffer.append16(interface.linkType.rawValue)
            buffer.append16(0)
            buffer.append32(interface.snapLength)
            buffer.option(2, text: interface.name)
            buffer.option(3, text: interface.description)
            for prefix in interface.addresses {
                let address = prefix.address.bytes
                if prefix.address.isV4 {
                    buffer.option(4, address + Self.mask(prefix.length))
                } else {
                    buffer.option(5, address + [UInt8(prefix.length)])
                }
            }
            buffer.option(9, [9])  // if_tsresol: 10^-9 s
            buffer.endOptions()
        }
    }

    /// Adds names; an address that is there several times has several names.
    package mutating func append(_ names: [Pcapng.Name]) {
        guard !names.isEmpty else { return }
        block(4) { buffer in
            for one in names {
                let value = one.address.bytes + Array(one.name.utf8) + [0]
                buffer.option(one.address.isV4 ? 1 : 2, value)  // nrb_record_ipv4, nrb_record_ipv6
            }
            buffer.endOptions()  // nrb_record_end
        }
    }

    /// Adds a packet, or as much of it as is kept.
    package mutating func append(_ packet: Pcapng.PacketHeader, _ data: UnsafeRawBufferPointer) {
        block(6) { buffer in
            buffer.append32(packet.interface)
            buffer.appendTime(packet.time)
            buffer.append32(UInt32(truncatingIfNeeded: data.count))
            buffer.append32(packet.originalLength)
            buffer.bytes.append(contentsOf: data)
            buffer.pad()
            buffer.option(2, packet.flags.bits)  // epb_flags
            buffer.endOptions()
        }
    }

    package mutating func append(_ statistics: Pcapng.Statistics) {
        block(5) { buffer in
            buffer.append32(statistics.interface)
            buffer.appendTime(statistics.end)
            buffer.option(2, time: statistics.start)
            buffer.option(3, time: statistics.end)
            buffer.option(4, statistics.received)
            buffer.option(5, statistics.dropped)
            buffer.option(8, statistics.delivered)
            buffer.endOptions()
        }
    }

    /// The end of the last of these blocks that ends within the first `limit` bytes.
    package static func wholeBlocks(of bytes: [UInt8], within limit: Int) -> Int {
        var end = 0
        while end + 8 <= bytes.count {
            let length = bytes[(end + 4)..<(end + 8)].reversed().reduce(0) { $0 << 8 | Int($1) }
            guard length > 0, end + length <= limit else { break }
            end += length
        }
        return end
    }

    // MARK: Parts

    /// A block of this type: its length stands before and behind its body.
    private mutating func block(_ type: UInt32, _ body: (inout PcapngBuffer) -> Void) {
        let start = bytes.count
        append32(type)
        append32(0)
        body(&self)
        let length = UInt32(truncatingIfNeeded: bytes.count + 4 - start)
        append32(length)
        for index in 0..<4 { bytes[start + 4 + index] = UInt8(truncatingIfNeeded: length >> (8 * index)) }
    }

    /// Options, and the records of names, have one shape: type, length without padding, value, padding.
    private mutating func option(_ code: UInt16, _ value: [UInt8]) {
        append16(code)
        append16(UInt16(truncatingIfNeeded: value.count))
        bytes += value
        pad()
    }

    private mutating func option(_ code: UInt16, text: String) {
        guard !text.isEmpty else { return }
        option(code, Self.cut(text))
    }

    private mutating func option(_ code: UInt16, _ value: some FixedWidthInteger) {
        append16(code)
        append16(UInt16(value.bitWidth / 8))
        append(value)
    }

    private mutating func option(_ code: UInt16, time: UInt64) {
        append16(code)
        append16(8)
        appendTime(time)
    }

    private mutating func endOptions() { append32(0) }

    /// As much as an option's 16 bits of length hold, in whole characters.
    private static func cut(_ text: String) -> [UInt8] {
        var text = text[...]
        while text.utf8.count > Int(UInt16.max) { text = text.dropLast(max(1, text.count / 16)) }
        return Array(text.utf8)
    }

    /// An IPv4 network's mask.
    private static func mask(_ length: Int) -> [UInt8] {
        let bits = length == 0 ? 0 : UInt32.max << UInt32(32 - length)
        return (0..<4).map { UInt8(truncatingIfNeeded: bits >> UInt32(24 - 8 * $0)) }
    }

    /// To a multiple of 32 bits; blocks begin at one.
    private mutating func pad() { while bytes.count % 4 != 0 { bytes.append(0) } }

    /// The upper half first, whatever the byte order (4.3).
    private mutating func appendTime(_ time: UInt64) {
        append32(UInt32(truncatingIfNeeded: time >> 32))
        append32(UInt32(truncatingIfNeeded: time))
    }

    private mutating func append16(_ value: UInt16) { append(value) }
    private mutating func append32(_ value: UInt32) { append(value) }
    private mutating func append64(_ value: UInt64) { append(value) }

    private mutating func append(_ value: some FixedWidthInteger) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }
}
