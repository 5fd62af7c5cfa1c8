import Glibc

/// A growing byte buffer for what may hold a key: wiped when it moves to a larger place and when it goes away.
package final class WipedBytes {
    private var memory: UnsafeMutableRawBufferPointer
    /// The bytes written so far.
    package private(set) var count = 0

    package init(capacity: Int) {
        memory = .allocate(byteCount: max(capacity, 64), alignment: 16)
    }

    deinit { Self.release(memory) }

    /// Makes room for so many bytes more.
    package func reserve(_ extra: Int) {
        guard extra > memory.count - count else { return }
        let larger = UnsafeMutableRawBufferPointer.allocate(
            byteCount: max(count + extra, memory.count * 2), alignment: 16)
        larger.copyMemory(from: UnsafeRawBufferPointer(rebasing: memory[..<count]))
        Self.release(memory)
        memory = larger
    }

    package func append(_ byte: UInt8) {
        reserve(1)
        memory[count] = byte
        count += 1
    }

    package func append(_ bytes: some Collection<UInt8>) {
        reserve(bytes.count)
        for byte in bytes {
            memory[count] = byte
            count += 1
        }
    }

    package func append(raw bytes: UnsafeRawBufferPointer) {
        reserve(bytes.count)
        UnsafeMutableRawBufferPointer(rebasing: memory[count..<count + bytes.count]).copyMemory(from: bytes)
        count += bytes.count
    }

    package func append(_ text: StaticString) {
        append(raw: UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    /// Lets `fill` write up to `most` bytes at the end and say how many it wrote.
    package func append<E: Error>(
        atMost most: Int, fill: (UnsafeMutableRawBufferPointer) throws(E) -> Int
    ) throws(E) -> Int {
        reserve(most)
        let written = try fill(UnsafeMutableRawBufferPointer(rebasing: memory[count..<count + most]))
        precondition((0...most).contains(written), "wrote past the room given")
        count += written
        return written
    }

    /// Writes over bytes that are there already.
    package func overwrite(at offset: Int, with bytes: UnsafeRawBufferPointer) {
        precondition(offset >= 0 && offset + bytes.count <= count, "outside the bytes written")
        UnsafeMutableRawBufferPointer(rebasing: memory[offset..<offset + bytes.count]).copyMemory(from: bytes)
    }

    /// Lends the bytes; they must not outlive the call.
    package func withBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
        try body(UnsafeRawBufferPointer(rebasing: memory[..<count]))
    }

    private static func release(_ memory: UnsafeMutableRawBufferPointer) {
        if let start = memory.baseAddress { explicit_bzero(start, memory.count) }
        memory.deallocate()
    }
}

extension WipedBytes: CustomStringConvertible, CustomReflectable {
    package var description: String { "(\(count) bytes)" }
    package var customMirror: Mirror { Mirror(self, children: [], displayStyle: .class) }
}
