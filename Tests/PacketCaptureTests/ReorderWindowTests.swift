import Testing

@testable import PacketCapture

@Suite struct ReorderWindowTests {
    private func entry(_ time: Int64, _ source: Int = 0) -> ReorderWindow.Entry {
        .init(time: time, source: source, block: [UInt8](repeating: 0, count: 8))
    }

    private func all(_ window: inout ReorderWindow, until time: Int64 = .max) -> [Int64] {
        var times: [Int64] = []
        while let entry = window.next(until: time) { times.append(entry.time) }
        return times
    }

    @Test func `what came late is put in its place`() {
        var window = ReorderWindow()
        for time in [10, 30, 20, 40, 15] as [Int64] { window.insert(entry(time)) }
        #expect(window.byteCount == 40 && window.earliest == 10 && window.middle == 20)
        #expect(all(&window, until: 20) == [10, 15, 20])
        #expect(window.byteCount == 16 && !window.isEmpty)
        // Later than what has gone already: nothing can be done for it.
        window.insert(entry(5))
        #expect(all(&window) == [5, 30, 40])
        #expect(window.isEmpty && window.byteCount == 0 && window.earliest == nil && window.middle == nil)
    }

    @Test func `packets of one time stay in the order they came in`() {
        var window = ReorderWindow()
        for source in 0..<4 { window.insert(entry(7, source)) }
        window.insert(entry(6, 9))
        var sources: [Int] = []
        while let entry = window.next(until: 7) { sources.append(entry.source) }
        #expect(sources == [9, 0, 1, 2, 3])
    }

    @Test func `many packets that step back a little come out sorted, and nothing is kept`() {
        var window = ReorderWindow()
        var generator = SystemRandomNumberGenerator()
        var written: [Int64] = []
        var given: [Int64] = []
        for number in 0..<20_000 as Range<Int64> {
            let time = number * 10 + Int64.random(in: -500...500, using: &generator)
            given.append(time)
            window.insert(entry(time))
            while let entry = window.next(until: number * 10 - 1000) { written.append(entry.time) }
            #expect(window.byteCount <= 8 * 200)
        }
        written += all(&window)
        #expect(written == given.sorted())
    }
}
