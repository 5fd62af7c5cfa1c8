/// Brings packets that come nearly in the order of their time stamps into that order.
///
/// The kernel stamps a packet before it queues it: two processors can queue in the other order, on one interface too.
struct ReorderWindow {
    struct Entry: Hashable, Sendable {
        /// Nanoseconds since the Unix epoch.
        var time: Int64
        /// Which socket it is from.
        var source: Int
        /// What goes into the file.
        var block: [UInt8]
    }

    /// In order; those before `head` are gone.
    private var entries: [Entry] = []
    private var head = 0
    /// Of all blocks that wait.
    private(set) var byteCount = 0

    var isEmpty: Bool { head == entries.count }

    /// The time of the earliest packet; nil when there is none.
    var earliest: Int64? { isEmpty ? nil : entries[head].time }

    /// The time of the packet in the middle; nil when there is none.
    var middle: Int64? { isEmpty ? nil : entries[(head + entries.count) / 2].time }

    /// Adds a packet, behind those of the same time.
    mutating func insert(_ entry: Entry) {
        var place = entries.count
        while place > head, entries[place - 1].time > entry.time { place -= 1 }
        entries.insert(entry, at: place)
        byteCount += entry.block.count
    }

    /// Takes the earliest packet if it is from before, or from, this time.
    mutating func next(until time: Int64) -> Entry? {
        guard !isEmpty, entries[head].time <= time else { return nil }
        let entry = entries[head]
        // Not kept until its place is reused.
        entries[head].block = []
        head += 1
        byteCount -= entry.block.count
        if head >= 1024 || isEmpty {
            entries.removeFirst(head)
            head = 0
        }
        return entry
    }
}
