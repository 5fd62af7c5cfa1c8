import Glibc
import SystemCalls
import TestSupport
import Testing

extension Privileged {
    @Suite struct NamespaceTests {
        @Test func isPinnedWithLoopbackUpAndItsSettings() throws {
            try prepareNamespaceFolder()
            try withCleanup { cleanup in
                let namespace = NetworkNamespace(uniqueName("t"))
                cleanup.add("namespace") { try namespace.remove() }
                _ = try namespace.make(sysctls: [
                    ("net.ipv4.ip_forward", "1"), ("net.ipv6.conf.lo.hop_limit", "33"),
                ])
                #expect(try tool("ip", "netns", "list").contains(namespace.name))
                #expect(try tool("ip", "-n", namespace.name, "link", "show", "lo").contains("LOOPBACK,UP"))
                #expect(try tool(in: namespace.name, "sysctl", "-n", "net.ipv4.ip_forward") == "1\n")
                #expect(try tool(in: namespace.name, "sysctl", "-n", "net.ipv6.conf.lo.hop_limit") == "33\n")
                #expect(namespace.identity() != nil)
                #expect(namespace.identity() != NetworkNamespace.current())
                try namespace.remove()
                #expect(!namespace.isPinned)
                #expect(namespace.identity() == nil)
                try MachineSnapshot.expectNothing(named: namespace.name)
            }
        }

        @Test func wrongSettingIsNamedAndLeavesNothing() throws {
            try prepareNamespaceFolder()
            let namespace = NetworkNamespace(uniqueName("t"))
            let failure = #expect(throws: OperationFailure.self) {
                _ = try namespace.make(sysctls: [("net.ipv4.ip_forward", "1"), ("net.ipv4.no_such", "1")])
            }
            #expect(failure?.errno == ENOENT)
            #expect(failure?.object == "net.ipv4.no_such=1")
            #expect(failure?.namespace == namespace.name)
            try MachineSnapshot.expectNothing(named: namespace.name)
        }

        @Test func optionalSettingMayBeMissing() throws {
            try prepareNamespaceFolder()
            try withCleanup { cleanup in
                let namespace = NetworkNamespace(uniqueName("t"))
                cleanup.add("namespace") { try namespace.remove() }
                _ = try namespace.make(sysctls: [("-net.ipv4.no_such", "1"), ("-net.ipv4.ip_forward", "1")])
                #expect(try tool(in: namespace.name, "sysctl", "-n", "net.ipv4.ip_forward") == "1\n")
                let failure = #expect(throws: OperationFailure.self) {
                    try namespace.write(sysctls: [("-net.ipv4.ip_forward", "many")])
                }
                #expect(failure?.errno == EINVAL)
            }
        }

        @Test func takenNameIsRefusedAndKept() throws {
            try withCleanup { cleanup in
                let namespace = try cleanup.namespace(uniqueName("t"))
                let before = namespace.identity()
                let failure = #expect(throws: OperationFailure.self) { _ = try namespace.make() }
                #expect(failure?.errno == EEXIST)
                #expect(namespace.identity() == before)
            }
        }

        @Test func settingsOfAnotherNamespaceLeaveOursAlone() throws {
            try withCleanup { cleanup in
                let namespace = try cleanup.namespace(uniqueName("t"))
                let mine = try Files.readText("/proc/sys/net/ipv4/ip_default_ttl")
                try namespace.write(sysctls: [("net.ipv4.ip_default_ttl", "77")])
                #expect(try tool(in: namespace.name, "sysctl", "-n", "net.ipv4.ip_default_ttl") == "77\n")
                #expect(try Files.readText("/proc/sys/net/ipv4/ip_default_ttl") == mine)
            }
        }

        @Test func socketBelongsToItsNamespace() throws {
            try withCleanup { cleanup in
                let namespace = try cleanup.namespace(uniqueName("t"))
                let socket = try namespace.socket(domain: AF_INET, type: Int32(SOCK_DGRAM.rawValue))
                // In the new namespace 127.0.0.1 is the only address, and no port is in use.
                let here = NetworkNamespace.current()
                var address = sockaddr_in()
                address.sin_family = sa_family_t(AF_INET)
                address.sin_port = UInt16(40_999).bigEndian
                address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
                let bound = withUnsafePointer(to: &address) {
                    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                        bind(socket.rawValue, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                    }
                }
                #expect(bound == 0)
                #expect(try tool(in: namespace.name, "cat", "/proc/net/udp").contains("0100007F:A027"))
                #expect(NetworkNamespace.current() == here)
            }
        }

        @Test func noDescriptorIsLeaked() throws {
            try withCleanup { cleanup in
                let namespace = try cleanup.namespace(uniqueName("t"))
                func use() throws {
                    _ = try namespace.socket(domain: AF_INET, type: Int32(SOCK_DGRAM.rawValue))
                    try namespace.write(sysctls: [("net.ipv4.ip_default_ttl", "65")])
                    _ = try? namespace.make()
                    _ = try ProgramCall("true", network: namespace).run()
                    _ = try? ProgramCall("/no/such/program", network: namespace).run()
                }
                try use()
                let before = try MachineSnapshot.take().descriptors
                for _ in 0..<5 { try use() }
                #expect(try MachineSnapshot.take().descriptors == before)
            }
        }
    }
}
