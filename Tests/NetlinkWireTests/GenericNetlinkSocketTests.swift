import CNLGenl
import Glibc
import NetlinkWire
import SystemCalls
import Testing

/// Against the running kernel's generic netlink controller; needs no root.
@Suite struct GenericNetlinkSocketTests {
    @Test func theControllersOwnFamilyIsFound() throws {
        #expect(try GenericNetlinkSocket().family(named: "nlctrl") == 16)
    }

    @Test func aFamilyThatIsNotThereIsNil() throws {
        let socket = try GenericNetlinkSocket()
        #expect(try socket.family(named: "natlab-none") == nil)
        // The socket goes on after the error.
        #expect(try socket.family(named: "nlctrl") == 16)
    }

    @Test func anAdoptedSocketWorks() throws {
        let file = socket(AF_NETLINK, Int32(SOCK_RAW.rawValue), NETLINK_GENERIC)
        #expect(try GenericNetlinkSocket(adopting: file, namespace: "here").family(named: "nlctrl") == 16)
    }

    @Test func aSocketOfAnotherKindIsRefusedAndClosed() throws {
        let file = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        #expect(throws: OperationFailure.self) { try GenericNetlinkSocket(adopting: file, namespace: "here") }
        #expect(throws: OperationFailure.self) { try GenericNetlinkSocket(adopting: -1) }
    }

    @Test func aDumpHandsOutEveryFamily() throws {
        let request = GenericMessage(command: UInt8(CTRL_CMD_GETFAMILY), version: 1)
        var names: [String] = []
        try GenericNetlinkSocket().dump(request, family: 16, operation: "list", object: "families") {
            payload throws(OperationFailure) in
            var reader = GenericAttributeReader(payload)
            while let attribute = try reader.next() {
                if attribute.type == UInt16(CTRL_ATTR_FAMILY_NAME) { names.append(attribute.string()) }
            }
        }
        #expect(names.contains("nlctrl"))
        #expect(Set(names).count == names.count)
    }

    @Test func anErrorCarriesErrnoAndTheKernelsText() throws {
        // A family name of 16 bytes breaks the controller's policy, which the kernel explains in words.
        let error = #expect(throws: OperationFailure.self) {
            _ = try GenericNetlinkSocket().family(named: "a-name-that-is-too-long")
        }
        #expect([EINVAL, ERANGE].contains(error?.errno))
        #expect(error?.detail?.contains("ttribute") == true, "\(String(describing: error))")
        #expect(error?.operation == "look up generic netlink family")
        #expect(error?.object == "a-name-that-is-too-long")
    }

    @Test func aRequestTheKernelDoesNotKnowFails() throws {
        let request = GenericMessage(command: 200, version: 1)
        let error = #expect(throws: OperationFailure.self) {
            try GenericNetlinkSocket().request(request, family: 16, operation: "ask", object: "nothing")
        }
        #expect(error?.errno == EOPNOTSUPP)
    }

    @Test(
        arguments: [
            (NLE_SUCCESS, 0), (NLE_AGAIN, EAGAIN), (NLE_PERM, EPERM), (NLE_NODEV, ENODEV),
            (NLE_NOMEM, ENOMEM),
            (NLE_OBJ_NOTFOUND, ENOENT), (NLE_DUMP_INTR, EINTR), (NLE_BUSY, EBUSY), (9999, EIO),
        ] as [(Int32, Int32)])
    func libnlsCodesAreNotErrnos(_ code: Int32, _ expected: Int32) {
        #expect(errnoOfLibnl(code) == expected)
        #expect(errnoOfLibnl(-code) == expected)
    }
}
