import CNatlab
import Glibc
package import RendezvousProtocol
package import SystemCalls

/// A rendezvous server on a UDP socket in an event loop.
///
/// Not Sendable.
///
/// The socket may belong to another network namespace: it is bound there for ever.
package final class ServerDriver {
    package let server: RendezvousServer
    /// Datagrams that the kernel did not take, with the errno of the last.
    package private(set) var sendFailures: UInt64 = 0
    package private(set) var lastSendFailure: Int32 = 0

    private let socket: Descriptor
    private let loop: EventLoop
    private let output = DatagramBatch(capacity: 256)
    private let slots = DatagramSlots(count: 64, size: WireFormat.maximumSize)
    private var outgoing = [natlab_datagram](repeating: natlab_datagram(), count: 64)
    private var sweep: EventLoop.TimerID?

    /// Binds an IPv4 UDP socket to `port` on every address and starts to answer.
    ///
    /// Throws EADDRINUSE when the port is taken.
    package convenience init(
        server: RendezvousServer, socket: consuming Descriptor, port: UInt16, loop: EventLoop
    ) throws(OperationFailure) {
        try Self.bind(socket.rawValue, port)
        try self.init(server: server, boundSocket: socket, loop: loop)
    }

    /// Answers on a socket that is bound already.
    package init(
        server: RendezvousServer, boundSocket socket: consuming Descriptor, loop: EventLoop
    ) throws(OperationFailure) {
        self.server = server
        self.socket = socket
        self.loop = loop
        // A burst of a thousand clients that all start now fits; the kernel's limit may be lower, which is no error.
        var size: Int32 = 4 << 20
        _ = setsockopt(self.socket.rawValue, SOL_SOCKET, SO_RCVBUF, &size, 4)
        _ = setsockopt(self.socket.rawValue, SOL_SOCKET, SO_SNDBUF, &size, 4)
        let file = self.socket.rawValue
        // On a machine with several addresses the routing table would answer from its own favourite, and no client
        // listens to any but the one it asked.
        let status = natlab_report_local_addresses(file)
        guard status == 0 else {
            throw OperationFailure("ask for own addresses", "rendezvous server's socket", errno: -status)
        }
        try loop.watch(file) { [unowned self] _ in receive() }
        scheduleSweep()
    }

    deinit {
        if let sweep { loop.cancel(sweep) }
        loop.unwatch(socket.rawValue)
    }

    /// The port it listens on: the one asked for, or the one the kernel chose for 0.
    package var port: UInt16 { (try? SocketName.own(socket.rawValue))?.port ?? 0 }

    package func snapshot() -> ServerSnapshot { server.snapshot(now: Clock.moment()) }

    private static func bind(_ file: Int32, _ port: UInt16) throws(OperationFailure) {
        var address = SocketName.address(WireAddress(ip: 0, port: port))
        let status = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.bind(file, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard status == 0 else {
            let code = errno
            throw OperationFailure(
                "bind rendezvous server", "UDP port \(port)", errno: code,
                mend: code == EADDRINUSE
                    ? "another program listens there: stop it, or choose another port" : nil)
        }
    }

    private func scheduleSweep() {
        sweep = loop.schedule(at: .now() + .seconds(1)) { [unowned self] in
            server.sweep(now: Clock.moment())
            scheduleSweep()
        }
    }

    /// Takes what has arrived, but not for ever: others of the loop want their turn.
    private func receive() {
        for _ in 0..<16 {
            let count = slots.receive(from: socket.rawValue)
            // Errors of earlier datagrams (ECONNREFUSED and its kin) are reported here, and are nobody's business.
            guard count > 0 else { return }
            let now = Clock.moment()
            for index in 0..<count {
                server.receive(
                    slots.bytes(index), from: slots.source(index), at: slots.local(index), now: now,
                    into: output)
            }
            send()
            if count < slots.count { return }
        }
    }

    private func send() {
        var sent = 0
        while sent < output.count {
            let chunk = min(outgoing.count, output.count - sent)
            for index in 0..<chunk {
                let target = output.target(sent + index)
                outgoing[index] = natlab_datagram(
                    address: target.ip, local: output.local(sent + index), port: target.port,
                    length: UInt16(output.datagram(sent + index).count))
            }
            guard let start = output.datagram(sent).baseAddress else { break }
            let result = natlab_send_datagrams(
                socket.rawValue, start, DatagramBatch.slotSize, outgoing, UInt32(chunk))
            if result < 0 {
                // One that cannot be sent (no route, a full buffer) is lost, as the network might lose it.
                sendFailures += 1
                lastSendFailure = -result
                sent += 1
            } else {
                sent += Int(max(result, 1))
            }
        }
        output.removeAll()
    }
}
