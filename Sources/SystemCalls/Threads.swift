import CNatlab
import Glibc
import Synchronization

/// Calls `body` for each item, at most `limit` at a time, each call on a plain thread; the results in the
/// items' order.
///
/// For bodies that wait: they would hold up a pool's other work. No signal is delivered to these threads.
/// Where no more threads can be had, fewer do the work, at the least the caller's.
package func inParallel<Item: Sendable, Result: Sendable>(
    _ items: [Item], limit: Int, _ body: @escaping @Sendable (Item) -> Result
) -> [Result] {
    let work = ParallelWork(items, body)
    var all = sigset_t(), former = sigset_t()
    sigfillset(&all)
    pthread_sigmask(SIG_SETMASK, &all, &former)
    var threads: [pthread_t] = []
    for _ in 0..<max(0, min(limit, items.count) - 1) {
        var thread = pthread_t()
        let status = pthread_create(
            &thread, nil,
            { context in
                guard let context else { return nil }
                Unmanaged<AnyParallelWork>.fromOpaque(context).takeUnretainedValue().run()
                return nil
            }, Unmanaged.passUnretained(work as AnyParallelWork).toOpaque())
        guard status == 0 else { break }
        threads.append(thread)
    }
    pthread_sigmask(SIG_SETMASK, &former, nil)
    work.run()
    for thread in threads { pthread_join(thread, nil) }
    return withExtendedLifetime(work) { work.results }
}

/// What a thread's context is: a C function cannot be generic.
private class AnyParallelWork {
    func run() {}
}

private final class ParallelWork<Item: Sendable, Result: Sendable>: AnyParallelWork {
    private let items: [Item]
    private let body: @Sendable (Item) -> Result
    private let state = Mutex((next: 0, results: [(Int, Result)]()))

    init(_ items: [Item], _ body: @escaping @Sendable (Item) -> Result) {
        self.items = items
        self.body = body
    }

    override func run() {
        while let index = take() {
            let result = body(items[index])
            state.withLock { $0.results.append((index, result)) }
        }
    }

    private func take() -> Int? {
        state.withLock { state in
            guard state.next < items.count else { return nil }
            defer { state.next += 1 }
            return state.next
        }
    }

    var results: [Result] {
        state.withLock { state in state.results.sorted { $0.0 < $1.0 }.map { $0.1 } }
    }
}
