/// Datagrams to be sent, in one stretch of memory that `sendmmsg` can take as it is.
///
/// Not Sendable.
package final class DatagramBatch {
    /// Room for each datagram, bytes.
    package static let slotSize = 128

    package private(set) var count = 0
    private var capacity: Int
    private var memory: UnsafeMutableRawPointer
    private var entries: UnsafeMutablePointer<Entry>

    private struct Entry {
        var target: WireAddress
        var local: UInt32
        var length: Int
    }

    package init(capacity: Int = 64) {
        self.capacity = max(capacity, 1)
        memory = UnsafeMutableRawPointer.allocate(byteCount: self.capacity * Self.slotSize, alignment: 16)
        entries = .allocate(capacity: self.capacity)
    }

    deinit {
        memory.deallocate()
        entries.deallocate()
    }

    /// Room for the next datagram; it counts once `commit` says where it goes.
    ///
    /// Invalid after the next call.
    package func reserve() -> UnsafeMutableRawPointer {
        if count == capacity { grow() }
        return memory + count * Self.slotSize
    }

    /// - Parameter local: the own address it must leave from; 0 where the routing table may choose.
    package func commit(length: Int, to target: WireAddress, from local: UInt32 = 0) {
        precondition(length <= Self.slotSize, "a datagram larger than its slot")
        (entries + count).initialize(to: Entry(target: target, local: local, length: length))
        count += 1
    }

    package func target(_ index: Int) -> WireAddress {
        precondition(index < count, "a datagram that is not there")
        return entries[index].target
    }

    /// The own address it must leave from; 0 where the routing table may choose.
    package func local(_ index: Int) -> UInt32 {
        precondition(index < count, "a datagram that is not there")
        return entries[index].local
    }

    /// The bytes; invalid after the next `reserve`.
    package func datagram(_ index: Int) -> UnsafeRawBufferPointer {
        precondition(index < count, "a datagram that is not there")
        return UnsafeRawBufferPointer(start: memory + index * Self.slotSize, count: entries[index].length)
    }

    package func removeAll() { count = 0 }

    private func grow() {
        let larger = UnsafeMutableRawPointer.allocate(byteCount: 2 * capacity * Self.slotSize, alignment: 16)
        larger.copyMemory(from: memory, byteCount: capacity * Self.slotSize)
        memory.deallocate()
        memory = larger
        let longer = UnsafeMutablePointer<Entry>.allocate(capacity: 2 * capacity)
        longer.moveInitialize(from: entries, count: count)
        entries.deallocate()
        entries = longer
        capacity *= 2
    }
}
