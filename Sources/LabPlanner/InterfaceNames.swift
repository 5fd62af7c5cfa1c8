/// Gives out interface names within one namespace.
struct InterfaceNames {
    /// IFNAMSIZ - 1 (linux/if.h).
    static let longest = 15

    // `all` and `default` are directories beside the interfaces' under /proc/sys/net/ipv4/conf.
    private var used: Set<String> = ["lo", "all", "default", "br0", "wan0", "lan0"]

    /// The wish itself where it fits and is free; else its beginning and a hash of the whole, always the same for the
    /// same names asked for in the same order.
    mutating func take(_ wish: String) -> String {
        if wish.utf8.count <= Self.longest, used.insert(wish).inserted { return wish }
        var salt: UInt32 = 0
        while true {
            let digits = String(Self.hash(wish, salt: salt) % 1_679_616, radix: 36)  // 36^4
            let tail = "-" + String(repeating: "0", count: 4 - digits.utf8.count) + digits
            let name = String(wish.prefix(Self.longest - tail.utf8.count)) + tail
            if used.insert(name).inserted { return name }
            salt += 1
        }
    }

    /// FNV-1a, 32 bits: Swift's own hash differs from run to run.
    private static func hash(_ text: String, salt: UInt32) -> UInt32 {
        var hash: UInt32 = 2_166_136_261 ^ salt
        for byte in text.utf8 { hash = (hash ^ UInt32(byte)) &* 16_777_619 }
        return hash
    }
}
