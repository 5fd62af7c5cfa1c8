import Synchronization
import SystemCalls
import Testing

@Suite struct ParallelTests {
    @Test(arguments: [0, 1, 3, 100]) func resultsAreInOrderAndNoMoreRunThanMay(limit: Int) {
        let running = Mutex((now: 0, most: 0))
        let results = inParallel(Array(0..<20), limit: limit) { item in
            running.withLock {
                $0.now += 1
                $0.most = max($0.most, $0.now)
            }
            // Long enough for others to begin, where they may.
            _ = try? waitUntil(timeout: .milliseconds(2)) { () throws(OperationFailure) in false }
            running.withLock { $0.now -= 1 }
            return item * 2
        }
        #expect(results == (0..<20).map { $0 * 2 })
        #expect(running.withLock { $0.most } <= max(1, limit))
        #expect(limit < 3 || running.withLock { $0.most } > 1)
    }

    @Test func nothingIsDoneForNothing() { #expect(inParallel([Int](), limit: 4) { $0 } == []) }
}
