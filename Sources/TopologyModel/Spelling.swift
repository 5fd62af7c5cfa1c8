/// Finds the name that was probably meant.
package struct Spelling {
    /// Distance computations cost the product of the lengths; a file of a thousand wrong names among a thousand right
    /// ones must not cost seconds, so past this many steps there are no suggestions any more.
    private var budget = 4_000_000

    package init() {}

    /// The candidate nearest to the word, when it is near enough to be a slip; the first of equals.
    package mutating func nearest(to word: String, among candidates: some Sequence<String>) -> String? {
        let word = Array(word.utf8)
        guard (1...40).contains(word.count) else { return nil }
        var best: (name: String, distance: Int)?
        for candidate in candidates {
            let other = Array(candidate.utf8)
            let longest = max(word.count, other.count)
            let limit = longest == 1 ? 0 : max(1, longest / 3)
            guard abs(other.count - word.count) <= limit, other != word else { continue }
            budget -= word.count * other.count
            guard budget > 0 else { break }
            let distance = Self.distance(word, other)
            if distance <= limit, distance < best?.distance ?? .max { best = (candidate, distance) }
        }
        return best?.name
    }

    /// Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment).
    static func distance(_ a: [UInt8], _ b: [UInt8]) -> Int {
        var beforeLast = [Int](repeating: 0, count: b.count + 1)
        var last = Array(0...b.count)
        for i in a.indices {
            var row = [i + 1]
            row.reserveCapacity(b.count + 1)
            for j in b.indices {
                var cost = min(last[j + 1] + 1, row[j] + 1, last[j] + (a[i] == b[j] ? 0 : 1))
                if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] {
                    cost = min(cost, beforeLast[j - 1] + 1)
                }
                row.append(cost)
            }
            (beforeLast, last) = (last, row)
        }
        return last[b.count]
    }
}
