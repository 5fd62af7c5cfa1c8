import LabPlanner
import Testing
import TopologyModel

@testable import LinuxLab
@testable import NatlabCommands

/// The rules of `natlab doctor`, without a look at the machine.
struct DoctorTests {
    private let ok = DoctorCheck("a", .ok, required: true, "there")
    private let needed = DoctorCheck("b", .missing, required: true, "not there", mend: "get it")
    private let limit = DoctorCheck("longer-name", .missing, "none", mend: "load it")
    private let warned = DoctorCheck("d", .warning, required: true, "half")

    // MARK: Exit

    @Test func onlyWhatIsRequiredAndMissingMakesItFail() {
        #expect(DoctorReport([ok]).ok)
        #expect(DoctorReport([ok, limit, warned]).ok)
        #expect(!DoctorReport([ok, needed, limit]).ok)
    }

    private func backend(
        _ kernel: DoctorCheck.State, _ program: DoctorCheck.State, _ tun: DoctorCheck.State,
        inotify: DoctorCheck.State = .ok
    ) -> DoctorCheck {
        Doctor.backend(
            kernel: DoctorCheck("kernel-wireguard", kernel, ""),
            program: DoctorCheck("wireguard-go", program, ""),
            tun: DoctorCheck("tun", tun, ""), inotify: DoctorCheck("inotify-instances", inotify, ""))
    }

    @Test func oneWireGuardIsEnough() {
        #expect(backend(.ok, .missing, .missing).found == "kernel")
        #expect(backend(.ok, .ok, .ok).found == "kernel; userspace too")
        #expect(backend(.ok, .missing, .missing, inotify: .missing).state == .ok)
        #expect(backend(.missing, .ok, .ok).found == "userspace (wireguard-go)")
        #expect(backend(.missing, .ok, .ok, inotify: .warning).state == .ok)
        for check in [
            backend(.missing, .missing, .ok), backend(.missing, .ok, .missing),
            backend(.missing, .ok, .ok, inotify: .missing), backend(.missing, .missing, .warning),
        ] {
            #expect(check.state == .missing && check.required && check.mend != nil)
        }
        #expect(backend(.missing, .missing, .ok).found == "none (missing: kernel-wireguard, wireguard-go)")
        #expect(backend(.missing, .ok, .warning).state == .warning)
    }

    // MARK: Limits

    @Test func inotifySaysHowManyHostsFit() {
        let roomy = Doctor.inotify(most: 128, used: 5, canMake: true, kernelHasWireGuard: false)
        #expect(
            roomy.state == .ok && roomy.found.contains("room for 123 userspace hosts") && roomy.mend == nil)
        let tight = Doctor.inotify(most: 128, used: 120, canMake: true, kernelHasWireGuard: false)
        #expect(tight.state == .warning && tight.found.contains("room for 8 userspace hosts"))
        #expect(tight.mend?.contains("fs.inotify.max_user_instances=8192") == true)
        // Shared instances are counted several times: that one could be made is certain.
        let shared = Doctor.inotify(most: 128, used: 300, canMake: true, kernelHasWireGuard: false)
        #expect(shared.state == .warning && shared.found.contains("room for 1 userspace host"))
        #expect(
            Doctor.inotify(most: 128, used: 60, canMake: false, kernelHasWireGuard: false).state == .missing)
        #expect(
            Doctor.inotify(most: 128, used: 60, canMake: false, kernelHasWireGuard: true).state == .warning)
    }

    @Test func openFilesSayHowManyHostsFit() {
        let usual = Doctor.openFiles(hard: 20_000)
        #expect(usual.state == .ok && usual.found.contains("room for about 6645 hosts"))
        let few = Doctor.openFiles(hard: 100)
        #expect(few.state == .warning && few.found.contains("about 12 hosts") && few.mend != nil)
        #expect(Doctor.openFiles(hard: 10).found.contains("about 0 hosts"))
        #expect(Doctor.openFiles(hard: .max).found.hasPrefix("unlimited"))
    }

    @Test func userNamespacesOnlyInform() {
        #expect(Doctor.userNamespaces(most: 1000, clone: nil, restricted: nil).state == .ok)
        #expect(Doctor.userNamespaces(most: 1000, clone: 1, restricted: 0).state == .ok)
        for check in [
            Doctor.userNamespaces(most: nil, clone: nil, restricted: nil),
            Doctor.userNamespaces(most: 0, clone: 1, restricted: 0),
            Doctor.userNamespaces(most: 1000, clone: 0, restricted: nil),
            Doctor.userNamespaces(most: 1000, clone: nil, restricted: 1),
        ] {
            #expect(check.state == .warning && !check.required)
        }
        let ubuntu = Doctor.userNamespaces(most: 1000, clone: nil, restricted: 1)
        #expect(ubuntu.mend?.contains("sysctl -w kernel.apparmor_restrict_unprivileged_userns=0") == true)
    }

    // MARK: Programs and leftovers

    @Test func kindOfIptables() {
        #expect(Doctor.kind(ofVersion: "iptables-restore v1.8.9 (nf_tables)\n") == "1.8.9 (nf_tables)")
        #expect(Doctor.kind(ofVersion: "iptables-restore v1.8.9 (legacy)\n") == "1.8.9 (legacy)")
        #expect(Doctor.kind(ofVersion: "iptables-restore v1.6.1\n") == "1.6.1 (legacy)")
        #expect(Doctor.kind(ofVersion: "something else\n") == "something else")
        #expect(Doctor.kind(ofVersion: "") == "")
    }

    /// Else "nat: ok" would say nothing about the rules that `up` loads.
    @Test func triesWhatARouterLoads() throws {
        let text = "[router.r]\nlan = \"192.168.1.0/24\"\nuplink = \"internet\"\nnat = \"masquerade\"\n"
        let parsed = TopologyFile.parse(bytes: Array(text.utf8), fileName: "t.toml")
        let plan = compile(try #require(parsed.topology))
        let loads = plan.steps.compactMap { step -> String? in
            if case .loadFirewall(_, let text) = step.effect { text } else { nil }
        }
        #expect(loads.count == 1)
        let tried = Set(Doctor.routerRules.split(separator: "\n"))
        for line in loads.joined().split(separator: "\n") { #expect(tried.contains(line)) }
    }

    @Test func leftoversAreNamedUpToAFew() {
        let none = Doctor.leftovers("leftover-pins", [], what: "dead", none: "none")
        #expect(none == DoctorCheck("leftover-pins", .ok, "none"))
        let few = Doctor.leftovers("x", [("a.b", "ip netns del a.b")], what: "dead", none: "none")
        #expect(few.state == .warning && few.found == "dead: a.b" && few.mend == "`ip netns del a.b`")
        let many = (0..<9).map { (what: "n\($0)", mend: "del n\($0)") }
        let check = Doctor.leftovers("x", many, what: "dead", none: "none")
        #expect(check.found == "dead: n0, n1, n2, n3, n4, and 4 more")
        #expect(check.mend?.hasSuffix("`del n4`, and so on") == true)
    }

    @Test func knowsNatlabsNames() {
        #expect(DoctorLeftovers.lab(ofNamespace: "quick-start.home-a") == "quick-start")
        for name in ["plain", "a.b.c", ".b", "a.", "A.b", "a.b_c", ""] {
            #expect(DoctorLeftovers.lab(ofNamespace: name) == nil)
        }
        let leftovers = DoctorLeftovers(LabRoot("/no/such/natlab"))
        #expect(leftovers.labs.isEmpty)
        #expect(leftovers.isHostFolder("/natlab/lab/hosts/a/wg"))
        #expect(leftovers.isHostFolder("/run/natlab/lab/hosts/a/wg//deleted"))
        for path in ["/run/other/lab/hosts/a/wg", "/lab/hosts/a/wg", "/run/wireguard", "/"] {
            #expect(!leftovers.isHostFolder(path))
        }
    }

    // MARK: Rendering

    @Test func table() {
        #expect(
            DoctorText(DoctorReport([ok, needed, limit, warned])).text() == """
                CHECK        STATE    FOUND
                a            ok       there
                b            MISSING  not there
                                      -> get it
                longer-name  missing  none
                                      -> load it
                d            warning  half

                natlab cannot build labs here; missing: b
                """)
        #expect(
            DoctorText(DoctorReport([ok, limit])).text().hasSuffix(
                "\nnatlab can build labs here; with limits or something to mend: longer-name"))
        #expect(DoctorText(DoctorReport([ok])).text().hasSuffix("\nnatlab can build labs here"))
    }

    @Test func coloursChangeNoColumn() {
        let report = DoctorText(DoctorReport([ok, needed, limit, warned]))
        var colours: Set<String> = []
        let painted = report.text { text, colour in
            colours.insert(colour.rawValue)
            return "<\(colour.rawValue)>\(text)<0>"
        }
        #expect(colours == ["31", "32", "33", "2"])
        #expect(painted.replacing(/<\d+>/, with: "") == report.text())
    }

    @Test func json() throws {
        #expect(
            try Terminal.json(DoctorReport([ok, needed])) == """
                {
                  "checks" : [
                    {
                      "found" : "there",
                      "mend" : null,
                      "name" : "a",
                      "required" : true,
                      "state" : "ok"
                    },
                    {
                      "found" : "not there",
                      "mend" : "get it",
                      "name" : "b",
                      "required" : true,
                      "state" : "missing"
                    }
                  ],
                  "ok" : false
                }
                """)
    }
}
