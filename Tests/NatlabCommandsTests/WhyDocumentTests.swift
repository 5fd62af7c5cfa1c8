import PeeringDiagnosis
import SystemCalls
import Testing

/// docs/why.md names every cause, in the order in which one explains the other.
@Suite struct WhyDocumentTests {
    @Test func theTableHasEveryCauseInOrder() throws {
        let checkout = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3)
            .joined(separator: "/")
        let rows = try Files.readText("\(checkout)/docs/why.md").split(separator: "\n").compactMap {
            $0.prefixMatch(of: #/\| `([a-z-]+)` \|/#).map { String($0.1) }
        }
        #expect(rows == Cause.allCases.map(\.rawValue))
    }
}
