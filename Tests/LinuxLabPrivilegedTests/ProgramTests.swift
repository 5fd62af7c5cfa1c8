import Glibc
import SystemCalls
import TestSupport
import Testing

extension Privileged {
    @Suite struct ProgramTests {
        @Test func inputOutputAndStatus() throws {
            let big = [UInt8](repeating: 65, count: 1 << 20)
            let output = try ProgramCall("sh", ["-c", "cat; echo wrong >&2; exit 3"]).run(input: big)
            #expect(output.output.utf8.count == big.count)
            #expect(output.error == "wrong\n")
            #expect(output.status == .exited(3))
            #expect(try ProgramCall("sh", ["-c", "kill -9 $$"]).run().status == .killed(SIGKILL))
        }

        @Test func runsInItsNamespace() throws {
            try withCleanup { cleanup in
                let namespace = try cleanup.namespace(uniqueName("t"))
                let output = try ProgramCall(
                    "stat", ["-L", "-c", "%i", "/proc/self/ns/net"], network: namespace
                ).run()
                #expect(output.output == "\(try #require(namespace.identity()).inode)\n")
            }
        }

        @Test func missingProgramNamespaceOrFolderIsNamed() throws {
            let program = #expect(throws: OperationFailure.self) {
                _ = try ProgramCall("no-such-program").run()
            }
            #expect(program?.errno == ENOENT)
            let path = #expect(throws: OperationFailure.self) {
                _ = try ProgramCall("/no/such/program").run()
            }
            #expect(path?.errno == ENOENT)
            #expect(path?.operation == "run program")
            let namespace = #expect(throws: OperationFailure.self) {
                _ = try ProgramCall("true", network: NetworkNamespace("no.such")).run()
            }
            #expect(namespace?.operation == "open namespace")
            let folder = #expect(throws: OperationFailure.self) {
                _ = try ProgramCall("true", folder: "/no/such/folder").run()
            }
            #expect(folder?.operation == "change folder for program")
            let nul = #expect(throws: OperationFailure.self) { _ = try ProgramCall("true", ["a\0b"]).run() }
            #expect(nul?.errno == EINVAL)
        }

        @Test func environmentSessionAndFolder() throws {
            let output = try ProgramCall(
                "/bin/sh", ["-c", "echo $X; pwd; cut -d' ' -f6 /proc/$$/stat; echo $$"],
                environment: ["X": "y z"],
                newSession: true, folder: "/usr"
            ).run()
            let lines = output.output.split(separator: "\n")
            #expect(lines.prefix(2) == ["y z", "/usr"])
            #expect(lines.count == 4 && lines[2] == lines[3])
        }

        @Test func inheritsNothingButWhatItIsGiven() throws {
            // Not close-on-exec, as a careless library may open one.
            let careless = open("/dev/null", O_RDONLY)
            defer { close(careless) }
            let given = try Descriptor.memoryFile("given", holding: Array("passed on".utf8))
            let output = try Descriptor.memoryFile("output")
            let child = try ProgramCall("/bin/sh", ["-c", "cat <&3; exec ls -x /proc/self/fd"]).spawn(
                output: output.rawValue, extra: [given.rawValue])
            #expect(try child.wait().isSuccess)
            try output.rewind()
            let text = String(decoding: try output.readAll(), as: UTF8.self)
            // 4 is the folder that ls reads.
            #expect(text == "passed on0  1  2  3  4\n")
        }

        @Test func signalsStartAtTheirDefaults() throws {
            signal(SIGPIPE, SIG_IGN)
            var blocked = sigset_t()
            sigemptyset(&blocked)
            sigaddset(&blocked, SIGTERM)
            var before = sigset_t()
            pthread_sigmask(SIG_BLOCK, &blocked, &before)
            defer {
                pthread_sigmask(SIG_SETMASK, &before, nil)
                signal(SIGPIPE, SIG_DFL)
            }
            let status = try ProgramCall("cat", ["/proc/self/status"]).run().output
            #expect(status.contains("SigBlk:\t0000000000000000"))
            #expect(status.contains("SigIgn:\t0000000000000000"))
        }

        @Test func wireGuardFolderIsItsOwn() throws {
            try withCleanup { cleanup in
                let namespace = try cleanup.namespace(uniqueName("t"))
                let folder = try cleanup.folder()
                if try Files.makeFolder("/run/wireguard", mode: 0o755) {
                    cleanup.add("/run/wireguard") { Files.removeEmptyFolder("/run/wireguard") }
                }
                let name = uniqueName("socket")
                let output = try ProgramCall(
                    "sh", ["-c", "touch /var/run/wireguard/\(name); ls /sys/class/net"], network: namespace,
                    wireGuardFolder: folder, mountsSys: true
                ).run()
                #expect(output.status.isSuccess, "\(output.error)")
                #expect(output.output == "lo\n")
                #expect(Files.exists("\(folder)/\(name)"))
                #expect(!Files.exists("/run/wireguard/\(name)"))
                #expect(try MachineSnapshot.take(containing: folder).mounts.isEmpty)
            }
        }

        @Test func handleMeansOneProcess() throws {
            let child = try ProgramCall("sleep", ["100"]).spawn()
            let handle = try ProcessHandle(pid: child.pid)
            let early = handle.waitForEnd(until: .now())
            let status = try child.end(grace: .seconds(5))
            let reached = try handle.signal(SIGKILL)
            let late = handle.waitForEnd(until: .now())
            #expect(!early && late && !reached)
            #expect(status == .killed(SIGTERM))
        }
    }
}
