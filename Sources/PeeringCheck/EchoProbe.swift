import Glibc
package import NetAddress
import SystemCalls

/// A few echoes from one host to another, until the first answer.
package struct EchoProbe: Sendable {
    /// A socket of `EchoSocket.open(in:)`.
    package var socket: Int32
    package var target: IPAddress
    /// Bytes of each packet, its IP header included.
    package var size: Int

    package init(socket: Int32, target: IPAddress, size: Int) {
        self.socket = socket
        self.target = target
        self.size = size
    }

    /// Sends up to `tries` echoes, `interval` apart, and waits as long for the last one's answer.
    ///
    /// - Parameter meanwhile: called after each wait.
    package func run(
        tries: Int, interval: Duration, meanwhile: () -> Void = {}
    ) -> (sent: Int, answered: Int) {
        let (identifier, token) = (
            UInt16.random(in: 1...UInt16.max), (0..<8).map { _ in UInt8.random(in: 0...255) }
        )
        for number in 1...max(tries, 1) {
            let message = EchoMessage(
                isV4: target.isV4, identifier: identifier, sequence: UInt16(number), token: token)
            let headers = (target.isV4 ? 20 : 40) + message.request().count
            let request = message.request(padding: max(0, size - headers))
            // What cannot be sent is not answered either.
            _ = SocketAddress(Endpoint(target, port: 0)).withPointer { address, length in
                request.withUnsafeBytes {
                    sendto(socket, $0.baseAddress, $0.count, Int32(MSG_DONTWAIT), address, length)
                }
            }
            if hasAnswer(identifier, token, until: .now() + interval) {
                meanwhile()
                return (number, 1)
            }
            meanwhile()
        }
        return (tries, 0)
    }

    private func hasAnswer(_ identifier: UInt16, _ token: [UInt8], until deadline: MonotonicTime) -> Bool {
        while true {
            while let arrival = EchoSocket.receive(socket) {
                guard let reply = EchoMessage(reply: arrival.bytes, isV4: target.isV4) else { continue }
                if reply.identifier == identifier, reply.token == token { return true }
            }
            let left = deadline.millisecondsLeft()
            guard left > 0 else { return false }
            var waiting = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
            _ = poll(&waiting, 1, left)
        }
    }
}
