/// A name that no other test uses: "PREFIX-a1b2c3".
package func uniqueName(_ prefix: String) -> String {
    let digits = Array("0123456789abcdef")
    return prefix + "-" + String((0..<6).map { _ in digits[Int.random(in: 0..<16)] })
}
