import NetAddress

/// Puts fragments together again, in whatever order they come.
///
/// Source: RFC 815, without its timer: it lives as long as a measurement, and keeps the last few packets
/// only.
struct Reassembly {
    private struct Key: Hashable {
        let source: IPAddress
        let destination: IPAddress
        let proto: UInt8
        let identification: UInt16

        init(_ packet: IPv4Packet) {
            source = packet.source
            destination = packet.destination
            proto = packet.proto
            identification = packet.identification
        }
    }

    /// Packets that are not whole yet, the oldest first.
    private var pending: [(key: Key, pieces: [IPv4Packet])] = []
    private static let most = 16

    /// Takes a packet or fragment; what is whole now.
    mutating func take(_ packet: IPv4Packet) -> IPv4Packet? {
        guard !packet.isWhole else { return packet }
        let key = Key(packet)
        var pieces: [IPv4Packet] = []
        if let place = pending.firstIndex(where: { $0.key == key }) {
            pieces = pending.remove(at: place).pieces
        }
        pieces.append(packet)
        if let whole = Self.join(pieces) { return whole }
        pending.append((key, pieces))
        if pending.count > Self.most { pending.removeFirst() }
        return nil
    }

    private static func join(_ pieces: [IPv4Packet]) -> IPv4Packet? {
        guard let last = pieces.first(where: { !$0.moreFragments }) else { return nil }
        var payload: [UInt8] = []
        for piece in pieces.sorted(by: { $0.offset < $1.offset }) {
            guard piece.offset <= payload.count else { return nil }
            // What overlaps is the same again: a fragment that was sent twice.
            payload += piece.payload.dropFirst(payload.count - piece.offset)
        }
        guard payload.count >= last.offset + last.payload.count else { return nil }
        var whole = last
        whole.offset = 0
        whole.payload = payload
        return whole
    }
}
