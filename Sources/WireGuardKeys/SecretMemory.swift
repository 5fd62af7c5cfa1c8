import CSodium

/// A writable stretch of locked, guarded memory for secrets that change, wiped when it is freed.
///
/// Not Sendable: one owner writes it. Source: libsodium, "Secure memory".
package final class SecretBuffer {
    package let bytes: UnsafeMutableRawBufferPointer

    /// `count` zero bytes, at least one.
    package init(count: Int) {
        precondition(sodium_init() >= 0, "libsodium could not be initialised")
        guard count > 0, let memory = sodium_malloc(count) else {
            preconditionFailure("no memory for a secret")
        }
        sodium_memzero(memory, count)
        bytes = UnsafeMutableRawBufferPointer(start: memory, count: count)
    }

    deinit { sodium_free(bytes.baseAddress) }

    /// The bytes from `offset` on; the buffer must outlive what is done with them.
    package func pointer(_ offset: Int = 0) -> UnsafeMutableRawPointer {
        guard let start = bytes.baseAddress, offset >= 0, offset < bytes.count else {
            preconditionFailure("an offset outside the secret")
        }
        return start + offset
    }

    /// Zeroes all of it, in a way that the optimiser keeps.
    package func wipe() { sodium_memzero(bytes.baseAddress, bytes.count) }
}

extension SecretBuffer: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    package var description: String { "(redacted)" }
    package var debugDescription: String { "(redacted)" }
    package var customMirror: Mirror {
        Mirror(self, children: [], displayStyle: .class, ancestorRepresentation: .suppressed)
    }
}

/// Many secrets of one size in few locked chunks: what a server with a hundred thousand sessions needs.
///
/// A secret of its own in `sodium_malloc` takes four pages; here it takes its size.
package final class SecretSlab {
    /// The number of a slot; valid until it is released.
    package typealias Slot = Int32

    private let slotSize: Int
    private let slotsPerChunk: Int
    private var chunks: [SecretBuffer] = []
    private var free: [Slot] = []

    package init(slotSize: Int, slotsPerChunk: Int = 512) {
        self.slotSize = slotSize
        self.slotsPerChunk = slotsPerChunk
    }

    /// A slot of zeros.
    package func take() -> Slot {
        if let slot = free.popLast() { return slot }
        let first = chunks.count * slotsPerChunk
        chunks.append(SecretBuffer(count: slotSize * slotsPerChunk))
        // Last first, so that slots are handed out in order of address.
        for number in stride(from: first + slotsPerChunk - 1, to: first, by: -1) { free.append(Slot(number)) }
        return Slot(first)
    }

    /// Wipes the slot and gives it back.
    package func release(_ slot: Slot) {
        sodium_memzero(pointer(slot), slotSize)
        free.append(slot)
    }

    /// The slot's bytes; they must not be used after its release.
    package func pointer(_ slot: Slot) -> UnsafeMutableRawPointer {
        chunks[Int(slot) / slotsPerChunk].pointer(Int(slot) % slotsPerChunk * slotSize)
    }
}
