import Glibc
import SystemCalls
import Testing
import WireGuardControl

/// A socket that plays wireguard-go, in a temporary folder that goes with it.
private final class FakeProgram: @unchecked Sendable {
    // @unchecked: the thread reads what init wrote and writes only `requests`, which is read after joining it.
    let path: String
    private let top: String
    private var listener: Int32
    private let answers: [[UInt8]]
    private var requests: [String] = []
    private var thread: pthread_t?

    /// Listens; accepts one connection for each answer, reads a request, sends the answer and hangs up.
    init(depth: Int = 0, answers: [String] = []) throws {
        top = "/tmp/natlab-test-\(String(UInt64.random(in: 0 ... .max), radix: 36))"
        try Files.makeFolder(top, mode: 0o700)
        var folder = top
        for _ in 0..<depth {
            folder += "/" + String(repeating: "x", count: 60)
            try Files.makeFolder(folder, mode: 0o700)
        }
        path = "\(folder)/wg0.sock"
        self.answers = answers.map { Array($0.utf8) }
        listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        let directory = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        defer { close(directory) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) {
            $0.copyBytes(from: "/proc/self/fd/\(directory)/wg0.sock".utf8)
        }
        let bound = withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard bound == 0, listen(listener, 0) == 0 else {
            throw OperationFailure("listen on", path, errno: errno)
        }
        guard !answers.isEmpty else { return }
        var thread = pthread_t()
        let status = pthread_create(
            &thread, nil,
            { argument in
                if let argument { Unmanaged<FakeProgram>.fromOpaque(argument).takeUnretainedValue().serve() }
                return nil
            }, Unmanaged.passUnretained(self).toOpaque())
        guard status == 0 else { throw OperationFailure("start thread for", path, errno: status) }
        self.thread = thread
    }

    /// What was asked; ends the program.
    func finish() throws -> [String] {
        if let thread { pthread_join(thread, nil) }
        thread = nil
        return requests
    }

    func stopListening() {
        close(listener)
        listener = -1
    }

    deinit {
        // A serving thread whose client never came would wait for ever.
        shutdown(listener, Int32(SHUT_RDWR))
        if let thread { pthread_join(thread, nil) }
        if listener >= 0 { close(listener) }
        try? Files.removeTree(top)
    }

    private func serve() {
        for answer in answers {
            let client = accept(listener, nil, nil)
            guard client >= 0 else { return }
            defer { close(client) }
            var request: [UInt8] = []
            var buffer = [UInt8](repeating: 0, count: 4096)
            while !request.suffix(2).elementsEqual([10, 10]) {
                let count = read(client, &buffer, buffer.count)
                guard count > 0 else { return }
                request += buffer[..<count]
            }
            requests.append(String(decoding: request, as: UTF8.self))
            // In two parts, so that the reader has to put an answer together.
            for part in [answer.prefix(answer.count / 2), answer.suffix(from: answer.count / 2)] {
                _ = Array(part).withUnsafeBytes {
                    send(client, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
                }
            }
        }
    }
}

@Suite struct UserspaceWireGuardTests {
    private func failure(_ body: () throws(OperationFailure) -> Void) -> OperationFailure? {
        #expect(throws: OperationFailure.self) { () throws in try body() }
    }

    @Test func readAndApplyTalkToTheSocket() throws {
        let program = try FakeProgram(answers: ["listen_port=7\nerrno=0\n\n", "errno=0\n\n"])
        let transport = UserspaceWireGuard(interface: "wg0", path: program.path)
        #expect(try transport.read().listenPort == 7)
        try transport.apply(WireGuardChange(listenPort: 9))
        #expect(try program.finish() == ["get=1\n\n", "set=1\nlisten_port=9\n\n"])
    }

    @Test func aPathLongerThanASocketAddressIsReached() throws {
        let program = try FakeProgram(depth: 4, answers: ["listen_port=7\nerrno=0\n\n"])
        #expect(program.path.utf8.count > 250)
        #expect(try UserspaceWireGuard(interface: "wg0", path: program.path).read().listenPort == 7)
    }

    @Test func whatTheProgramRefusesHasItsErrno() throws {
        let program = try FakeProgram(answers: ["errno=-98\n\n"])
        let transport = UserspaceWireGuard(interface: "wg0", path: program.path, namespace: "lab.a")
        let error = failure { () throws(OperationFailure) in
            try transport.apply(WireGuardChange(listenPort: 9))
        }
        #expect(error?.errno == EADDRINUSE)
        #expect(error?.operation == "configure WireGuard")
        #expect(error?.object == "wg0")
        #expect(error?.namespace == "lab.a")
    }

    @Test func noSocketMeansNotRunning() {
        for path in [
            "/tmp/natlab-test-none/wg0.sock", "/tmp/" + String(repeating: "y", count: 200) + "/wg0.sock",
        ] {
            let transport = UserspaceWireGuard(interface: "wg0", path: path)
            let error = failure { () throws(OperationFailure) in _ = try transport.read() }
            #expect(error?.errno == ENOENT)
            #expect(error?.detail?.contains("wireguard-go of wg0 is not running") == true)
            #expect(error?.mend != nil)
        }
    }

    @Test func aSocketNobodyListensOnMeansNotRunning() throws {
        let program = try FakeProgram()
        program.stopListening()
        let transport = UserspaceWireGuard(interface: "wg0", path: program.path)
        let error = failure { () throws(OperationFailure) in try transport.apply(WireGuardChange()) }
        #expect(error?.errno == ECONNREFUSED)
        #expect(error?.detail?.contains("wireguard-go of wg0 is not running") == true)
        #expect(error?.mend != nil)
    }

    @Test func aProgramThatHangsUpIsToldApart() throws {
        let program = try FakeProgram(answers: ["", "listen_port=7\n", "listen_port=7\nerrno=0\n"])
        let transport = UserspaceWireGuard(interface: "wg0", path: program.path)
        for _ in 0..<3 {
            let error = failure { () throws(OperationFailure) in _ = try transport.read() }
            #expect(error?.errno == ECONNRESET)
            #expect(error?.detail?.contains("ended during the request") == true)
        }
    }

    /// Connected by the kernel, accepted by nobody; then the queue is full and even connecting has to wait.
    @Test func aStuckProgramMeetsTheDeadline() throws {
        let program = try FakeProgram()
        let transport = UserspaceWireGuard(interface: "wg0", path: program.path, timeout: .milliseconds(60))
        for _ in 0..<4 {
            let start = MonotonicTime.now()
            let error = failure { () throws(OperationFailure) in _ = try transport.read() }
            #expect(error?.errno == ETIMEDOUT)
            #expect(MonotonicTime.now() - start >= .milliseconds(60))
        }
    }

    @Test func aFormatErrorNamesTheInterface() throws {
        let program = try FakeProgram(answers: ["listen_port=x\nerrno=0\n\n"])
        let error = failure { () throws(OperationFailure) in
            _ = try UserspaceWireGuard(interface: "wg0", path: program.path).read()
        }
        #expect(error?.errno == 0)
        #expect(error?.object == "wg0")
        #expect(error?.detail?.contains("line 1 (listen_port)") == true)
    }
}

@Suite struct KernelAvailabilityTests {
    /// The witness is sysfs, which lists built-in and loaded modules; asking loads the module where there is one.
    @Test func availabilityIsWhatSysfsSays() throws {
        let available = try KernelWireGuard.isAvailable()
        #expect(available == Files.exists("/sys/module/wireguard"))
    }
}
