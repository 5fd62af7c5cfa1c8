import Glibc
import LabPlanner
import SystemCalls

/// The lab's write-ahead log: a line before each effect, and one after it.
///
/// One line an entry, each written whole by one write(2) with its newline:
///
///     natlab 1 quickstart
///     boot 0e0b1d5c-...
///     do 0 namespace quickstart.internet
///     made quickstart.internet 4:4026532617 31
///     do 1 effect quickstart.internet
///     done 1
///
/// `done 1` stands for all entries up to 1. An entry without it may or may not have happened. A last line
/// without its newline was never finished, so its effect never begun. `made` tells which namespace it has become,
/// by device and inode, and its cookie (see `NetworkNamespace.cookie`): known also when its pin is gone.
final class Journal {
    private let file: Descriptor
    /// Lines that may wait for the next ones: that something is done is worth no system call of its own.
    private var waiting = ""

    /// Begins a new journal.
    init(_ state: LabState) throws(OperationFailure) {
        file = try Files.open(
            state.journalFile, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, mode: 0o600, operation: "make journal"
        )
        try file.writeAll(Array("natlab 1 \(state.lab)\nboot \(try currentBootID())\n".utf8))
    }

    /// Says that the steps are about to happen.
    func begin(_ range: Range<Int>, of steps: [PlanStep]) throws(OperationFailure) {
        var text = waiting
        waiting = ""
        for index in range { text += "do \(index) \(Self.object(of: steps[index]))\n" }
        try file.writeAll(Array(text.utf8))
    }

    /// Says that everything up to this step has happened; written with the next lines, or by `flush`.
    func done(through index: Int) { waiting += "done \(index)\n" }

    /// Says which namespace was made; written with the next lines, as long as its pin is sure to be there.
    func made(_ namespace: NetworkNamespace, cookie: UInt64?) {
        guard let identity = namespace.identity(), let cookie else { return }
        waiting += "made \(namespace.name) \(identity.device):\(identity.inode) \(cookie)\n"
    }

    func flush() throws(OperationFailure) {
        try file.writeAll(Array(waiting.utf8))
        waiting = ""
    }

    private static func object(of step: PlanStep) -> String {
        switch step.inverse {
        case .removeNamespace(let namespace): "namespace \(namespace)"
        case .removeWireGuard(let namespace, let host, let interface):
            "wireguard \(namespace) \(host) \(interface)"
        case .stopAgent: "agent"
        case .goesWith(let namespace): "effect \(namespace)"
        }
    }

    /// What a journal tells.
    struct Account {
        /// The namespaces that were or may have been made, oldest first.
        var namespaces: [String] = []
        /// What they are; none when it was another boot that made them: those are gone, and others may have their
        /// numbers.
        var made: [MadeNamespace] = []
        /// Whether every line is understood and the last one finished.
        var isWhole: Bool
    }

    /// Reads a journal, passing over what is torn or not understood: teardown must not fail on it.
    static func read(_ text: String, of lab: String) -> Account {
        var account = Account(isWhole: text.hasPrefix("natlab 1 \(lab)\n") && text.hasSuffix("\n"))
        let whole = text.hasSuffix("\n") ? text : text.lastIndex(of: "\n").map { String(text[...$0]) } ?? ""
        var isOfThisBoot = false
        for line in whole.split(separator: "\n").dropFirst() {
            let words = line.split(separator: " ")
            switch words.first {
            case "do" where words.count >= 3:
                if words[2] == "namespace", words.count == 4 { account.namespaces.append(String(words[3])) }
            case "boot" where words.count == 2: isOfThisBoot = (try? currentBootID()) == String(words[1])
            case "made" where words.count == 4:
                guard let made = MadeNamespace(words) else {
                    account.isWhole = false
                    continue
                }
                if isOfThisBoot { account.made.append(made) }
            case "done" where words.count == 2: break
            default: account.isWhole = false
            }
        }
        return account
    }
}

/// A namespace that `up` has made, as the kernel knows it.
struct MadeNamespace: Hashable {
    var name: String
    var identity: NetworkNamespace.Identity
    /// Never given twice in a boot, as an inode is.
    var cookie: UInt64

    init(name: String, identity: NetworkNamespace.Identity, cookie: UInt64) {
        self.name = name
        self.identity = identity
        self.cookie = cookie
    }

    /// From the words "made NAME DEVICE:INODE COOKIE".
    fileprivate init?(_ words: [Substring]) {
        let numbers = words[2].split(separator: ":").map { UInt64($0) }
        guard numbers.count == 2, let device = numbers[0], let inode = numbers[1],
            let cookie = UInt64(words[3])
        else { return nil }
        self.init(
            name: String(words[1]), identity: NetworkNamespace.Identity(device: device, inode: inode),
            cookie: cookie)
    }
}
