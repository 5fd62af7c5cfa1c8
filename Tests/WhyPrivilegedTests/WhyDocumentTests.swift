import TestSupport
import Testing

/// docs/why.md: what it shows is what natlab prints; NATLAB_WRITE_GOLDENS=1 writes it anew.
@Suite(.serialized) struct WhyDocumentTests {
    @Test func everyBlockIsTrue() throws {
        try withCleanup { cleanup in
            let natlab = try Natlab(cleanup)
            for lab in ["quickstart", "symmetric"] { _ = natlab.adopt(lab) }
            #expect(try ConsoleDocument("docs/why.md", natlab, cleanup).check() >= 4)
        }
    }
}
