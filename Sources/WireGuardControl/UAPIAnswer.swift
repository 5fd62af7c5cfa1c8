import NetAddress
import NetlinkWire
package import SystemCalls
import WireGuardKeys

/// Answers of WireGuard's cross-platform userspace protocol.
///
/// Nothing here traps, whatever the bytes: a torn or malformed answer throws with errno 0 and the line's number,
/// never with its content, which may be a key. Source: https://www.wireguard.com/xplatform/.
package enum UAPIAnswer {
    /// Whether the empty line that ends an answer has come.
    package static func isComplete(_ bytes: UnsafeRawBufferPointer) -> Bool {
        bytes.suffix(2).elementsEqual([newline, newline])
    }

    /// Reads the answer to `get=1`.
    ///
    /// Throws the answer's errno where that is not 0.
    package static func device(
        _ bytes: UnsafeRawBufferPointer, interface: String
    ) throws(OperationFailure) -> WireGuardDevice {
        var parser = DeviceParser(interface: interface)
        try eachLine(bytes) { (line) throws(OperationFailure) in try parser.take(line) }
        return try parser.finish()
    }

    /// Reads the answer to `set=1`.
    ///
    /// Throws the answer's errno where that is not 0.
    package static func acknowledgement(_ bytes: UnsafeRawBufferPointer) throws(OperationFailure) {
        try eachLine(bytes) { _ throws(OperationFailure) in }
    }

    private static let newline = UInt8(ascii: "\n")

    /// Checks the frame (lines, the errno line last, an empty line) and hands out the lines before the errno line.
    private static func eachLine(
        _ bytes: UnsafeRawBufferPointer, _ body: (UAPILine) throws(OperationFailure) -> Void
    ) throws(OperationFailure) {
        guard isComplete(bytes) else { throw torn(bytes) }
        var status: Int32?
        var number = 0
        var rest = bytes.dropLast(1)
        while let end = rest.firstIndex(of: newline) {
            number += 1
            let line = try UAPILine(UnsafeRawBufferPointer(rebasing: rest[..<end]), number: number)
            rest = rest[rest.index(after: end)...]
            guard status == nil else { throw line.malformed("comes after the errno line") }
            if line.key == "errno" {
                let code: Int32 = try line.integer()
                // The protocol says errno=N; wireguard-go sends the number negated.
                status = code == .min ? .max : abs(code)
            } else {
                try body(line)
            }
        }
        guard let status else { throw torn(bytes) }
        guard status == 0 else {
            throw OperationFailure(
                "exchange", "WireGuard's socket", errno: status, detail: "refused by the program")
        }
    }

    private static func torn(_ bytes: UnsafeRawBufferPointer) -> OperationFailure {
        OperationFailure("read", "WireGuard's answer", detail: "it ends early, after \(bytes.count) bytes")
    }
}

/// One `key=value` line.
struct UAPILine {
    let key: String
    let value: UnsafeRawBufferPointer
    let number: Int

    init(_ bytes: UnsafeRawBufferPointer, number: Int) throws(OperationFailure) {
        guard let equals = bytes.firstIndex(of: UInt8(ascii: "=")), equals > 0 else {
            throw OperationFailure("read", "WireGuard's answer", detail: "line \(number) is not key=value")
        }
        key = String(decoding: bytes[..<equals], as: UTF8.self)
        value = UnsafeRawBufferPointer(rebasing: bytes[(equals + 1)...])
        self.number = number
    }

    /// The value as text; not for keys.
    var text: String { String(decoding: value, as: UTF8.self) }

    /// A decimal number, without sign unless the type has one.
    func integer<I: FixedWidthInteger>() throws(OperationFailure) -> I {
        // Swift would also read "+1", which is not the protocol's.
        guard value.first != UInt8(ascii: "+"), let number = I(text) else {
            throw malformed("is not a number in range")
        }
        return number
    }

    /// Exactly 32 bytes in hex, into wiped memory.
    func key32() throws(OperationFailure) -> WipedBytes {
        guard value.count == 64 else { throw malformed("is not a key of 64 hex digits") }
        let bytes = WipedBytes(capacity: 64)
        for index in stride(from: 0, to: 64, by: 2) {
            guard let high = Self.digit(value[index]), let low = Self.digit(value[index + 1]) else {
                throw malformed("is not a key of 64 hex digits")
            }
            bytes.append(high << 4 | low)
        }
        return bytes
    }

    func malformed(_ detail: String) -> OperationFailure {
        OperationFailure("read", "WireGuard's answer", detail: "line \(number) (\(shownKey)) \(detail)")
    }

    /// The key is the other side's text: keep a message short and printable.
    private var shownKey: String {
        key.utf8.count <= 40 && key.utf8.allSatisfy { (0x21...0x7E).contains($0) } ? key : "?"
    }

    private static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}

/// Collects the lines of one answer: those of the interface, then those of each peer after its public_key.
private struct DeviceParser {
    private var device: WireGuardDevice
    private var handshakeSeconds: Int64 = 0
    private var handshakeNanoseconds: Int64 = 0

    init(interface: String) {
        device = WireGuardDevice(
            interface: interface, publicKey: nil, listenPort: 0, firewallMark: 0, peers: [])
    }

    mutating func take(_ line: UAPILine) throws(OperationFailure) {
        switch line.key {
        case "private_key": device.publicKey = try Self.publicKey(of: try line.key32())
        case "listen_port": device.listenPort = try line.integer()
        case "fwmark": device.firewallMark = try line.integer()
        case "public_key":
            try closePeer()
            let key = try line.key32().withBytes { PublicKey(bytes: $0) }
            guard let key else { throw line.malformed("is not a key") }
            device.peers.append(WireGuardPeer(publicKey: key))
        case "preshared_key":
            let isSet = try line.key32().withBytes { bytes in bytes.reduce(0) { $0 | $1 } != 0 }
            try peer(line) { $0.hasPresharedKey = isSet }
        case "endpoint":
            guard let endpoint = Self.endpoint(line.text) else { throw line.malformed("is not an endpoint") }
            try peer(line) { $0.endpoint = endpoint }
        case "allowed_ip":
            guard let prefix = IPPrefix(line.text) else { throw line.malformed("is not a prefix") }
            try peer(line) { $0.allowedIPs.append(prefix) }
        case "persistent_keepalive_interval":
            let seconds: UInt16 = try line.integer()
            try peer(line) { $0.persistentKeepalive = seconds }
        case "rx_bytes":
            let count: UInt64 = try line.integer()
            try peer(line) { $0.receivedBytes = count }
        case "tx_bytes":
            let count: UInt64 = try line.integer()
            try peer(line) { $0.sentBytes = count }
        case "last_handshake_time_sec":
            handshakeSeconds = try line.integer()
            try peer(line) { _ in }
        case "last_handshake_time_nsec":
            handshakeNanoseconds = try line.integer()
            try peer(line) { _ in }
        default:
            // protocol_version, and whatever a later version adds.
            break
        }
    }

    mutating func finish() throws(OperationFailure) -> WireGuardDevice {
        try closePeer()
        return device
    }

    private mutating func peer(_ line: UAPILine, _ body: (inout WireGuardPeer) -> Void)
        throws(OperationFailure)
    {
        guard let last = device.peers.indices.last else {
            throw line.malformed("comes before any public_key")
        }
        body(&device.peers[last])
    }

    /// The handshake time comes in two lines, in either order: join them when the peer's lines are over.
    private mutating func closePeer() throws(OperationFailure) {
        if let last = device.peers.indices.last {
            device.peers[last].lastHandshake = try WallTime.handshake(
                seconds: handshakeSeconds, nanoseconds: handshakeNanoseconds)
        }
        handshakeSeconds = 0
        handshakeNanoseconds = 0
    }

    private static func publicKey(of bytes: WipedBytes) throws(OperationFailure) -> PublicKey? {
        bytes.withBytes { bytes in
            bytes.allSatisfy { $0 == 0 } ? nil : PrivateKey(copying: bytes)?.publicKey
        }
    }

    /// An endpoint; the zone of a link-local one ("[fe80::1%eth0]:51820") is left out.
    private static func endpoint(_ text: String) -> Endpoint? {
        guard let zone = text.firstIndex(of: "%"), let bracket = text.lastIndex(of: "]"), zone < bracket
        else {
            return Endpoint(text)
        }
        return Endpoint(text[..<zone] + text[bracket...])
    }
}

extension WallTime {
    /// A handshake's time as both kinds of WireGuard report it; nil for 0, which means never.
    static func handshake(seconds: Int64, nanoseconds: Int64) throws(OperationFailure) -> WallTime? {
        let (whole, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        guard seconds >= 0, (0..<1_000_000_000).contains(nanoseconds), !overflow, whole <= .max - nanoseconds
        else {
            throw OperationFailure("read", "WireGuard's answer", detail: "a handshake time out of range")
        }
        return whole + nanoseconds == 0 ? nil : WallTime(nanoseconds: whole + nanoseconds)
    }
}
