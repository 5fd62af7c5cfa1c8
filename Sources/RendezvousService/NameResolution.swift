import Glibc
package import NetAddress
package import SystemCalls

/// "HOST:PORT" of a rendezvous server, and the addresses that the name has now.
package struct ServerName: Hashable, Sendable, CustomStringConvertible {
    package var host: String
    package var port: UInt16

    /// Nil unless there is a host and a port from 1 to 65535.
    ///
    /// IPv6 is not in natpunch-go's protocol.
    package init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"), colon > text.startIndex else { return nil }
        let digits = text[text.index(after: colon)...]
        guard digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let port = UInt16(digits), port > 0
        else {
            return nil
        }
        host = String(text[..<colon])
        guard !host.contains(":"), !host.contains("\0") else { return nil }
        self.port = port
    }

    package var description: String { "\(host):\(port)" }

    /// The first IPv4 address of the name.
    ///
    /// May wait for name servers, for many seconds. Throws with getaddrinfo's words.
    package func resolve() throws(OperationFailure) -> Endpoint {
        var hints = addrinfo()
        hints.ai_family = AF_INET
        hints.ai_socktype = Int32(SOCK_DGRAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let status = getaddrinfo(host, String(port), &hints, &list)
        guard status == 0, let first = list else {
            let code = status == EAI_SYSTEM ? errno : 0
            let words = gai_strerror(status).map { String(cString: $0) } ?? "error \(status)"
            throw OperationFailure("resolve server name", host, errno: code, detail: code == 0 ? words : nil)
        }
        defer { freeaddrinfo(first) }
        guard let address = first.pointee.ai_addr, first.pointee.ai_family == AF_INET else {
            throw OperationFailure("resolve server name", host, detail: "it has no IPv4 address")
        }
        let bits = address.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { $0.pointee.sin_addr.s_addr }
        return Endpoint(IPAddress(v4: UInt32(bigEndian: bits)), port: port)
    }
}

/// Resolves a name in a thread of its own and tells an event loop: name servers may be slow, and are so when the network is down.
///
/// Not Sendable; one question at a time.
package final class BackgroundResolver {
    private let name: ServerName
    private let loop: EventLoop
    private let answer: (Result<Endpoint, OperationFailure>) -> Void
    /// Becomes readable when the answer is there; nil while nothing is asked.
    private var waiting: Descriptor?
    private var waitingNumber: Int32 = -1

    private final class Question: @unchecked Sendable {
        // @unchecked: the thread writes `result` before it closes the pipe; the loop reads it after it saw that.
        let name: ServerName
        let pipe: Int32
        var result: Result<Endpoint, OperationFailure>?
        init(name: ServerName, pipe: Int32) {
            self.name = name
            self.pipe = pipe
        }
    }

    package init(
        _ name: ServerName, loop: EventLoop, answer: @escaping (Result<Endpoint, OperationFailure>) -> Void
    ) {
        self.name = name
        self.loop = loop
        self.answer = answer
    }

    deinit { if waiting != nil { loop.unwatch(waitingNumber) } }

    /// Asks, unless a question is still out.
    package func ask() {
        guard waiting == nil else { return }
        do throws(OperationFailure) { try begin() } catch { answer(.failure(error)) }
    }

    private func begin() throws(OperationFailure) {
        var ends: [Int32] = [-1, -1]
        guard Glibc.pipe(&ends) == 0 else { throw OperationFailure("make pipe", "resolver", errno: errno) }
        _ = fcntl(ends[0], F_SETFD, FD_CLOEXEC)
        _ = fcntl(ends[1], F_SETFD, FD_CLOEXEC)
        let question = Question(name: name, pipe: ends[1])
        let readEnd = ends[0]
        waiting = Descriptor(adopting: readEnd)
        waitingNumber = readEnd
        var thread = pthread_t()
        let status = pthread_create(
            &thread, nil,
            { context in
                guard let context else { return nil }
                let question = Unmanaged<Question>.fromOpaque(context).takeRetainedValue()
                do throws(OperationFailure) {
                    question.result = .success(try question.name.resolve())
                } catch { question.result = .failure(error) }
                close(question.pipe)
                return nil
            }, Unmanaged.passRetained(question).toOpaque())
        guard status == 0 else {
            Unmanaged.passUnretained(question).release()
            close(ends[1])
            waiting = nil
            throw OperationFailure("start resolver", name.host, errno: status)
        }
        pthread_detach(thread)
        try loop.watch(readEnd) { [unowned self] _ in
            loop.unwatch(readEnd)
            waiting = nil
            if let result = question.result { answer(result) }
        }
    }
}
