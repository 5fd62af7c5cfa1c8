import SystemCalls

/// The folder that holds the state of all labs of the machine.
package struct LabRoot: Hashable, Sendable {
    /// /run/natlab, but in tests.
    ///
    /// Gone when no lab is left.
    package let path: String

    package init(_ path: String = "/run/natlab") { self.path = path }

    package func state(of lab: String) -> LabState { LabState(root: self, lab: lab) }

    /// Whether this is how labs are named: it may become part of a path, and a folder of this name is a lab's.
    package static func isName(_ text: some StringProtocol) -> Bool {
        (1...32).contains(text.utf8.count)
            && text.utf8.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2D }
    }

    /// The labs that have a folder here, by name; whatever else is there is none of natlab's.
    func labNames() throws(OperationFailure) -> [String] {
        try Files.list(path).filter { Self.isName($0) && Files.isFolder("\(path)/\($0)") }
    }

    /// Held for moments only: while a lab is claimed, or the last traces of one are removed.
    var lockFile: String { "\(path)/.lock" }
    /// What natlab had to make outside of its own folder; see `SharedFolders`.
    var madeFile: String { "\(path)/.made" }
}

/// Where a lab keeps what it is: everything under one folder of mode 0700.
package struct LabState: Hashable, Sendable {
    package let root: LabRoot
    package let lab: String

    /// STATE: /run/natlab/LAB.
    package var folder: String { "\(root.path)/\(lab)" }
    /// Locked while the lab is being built or torn down.
    package var lockFile: String { "\(folder)/lock" }
    /// The plan as JSON.
    package var planFile: String { "\(folder)/plan.json" }
    package var journalFile: String { "\(folder)/journal" }
    /// There only while the lab is complete.
    package var recordFile: String { "\(folder)/lab.json" }
    package var keysFolder: String { "\(folder)/keys" }
    package var logsFolder: String { "\(folder)/logs" }
    package var agentSocket: String { "\(folder)/agent.sock" }
    package var hostsFolder: String { "\(folder)/hosts" }

    /// Bound on /run/wireguard for the programs of this host, or of any other node: empty there, so that nothing in
    /// the lab sees the machine's own sockets.
    package func wireGuardFolder(host: String) -> String { "\(hostsFolder)/\(host)/wg" }
    /// The interface's private key, base64, mode 0600.
    package func privateKeyFile(host: String, interface: String) -> String {
        "\(keysFolder)/\(host).\(interface)"
    }
    package func publicKeyFile(host: String, interface: String) -> String {
        "\(keysFolder)/\(host).\(interface).pub"
    }
    package func wireGuardLog(host: String, interface: String) -> String {
        "\(logsFolder)/\(host).\(interface).log"
    }

    /// In the environment of the lab's agent, as NAME=VALUE: `down` knows it by this also when nothing else
    /// is left.
    package var agentMark: (name: String, value: String) { ("NATLAB_AGENT_OF", folder) }
    /// The same for the lab's wireguard-go programs.
    package var wireGuardMark: (name: String, value: String) { ("NATLAB_WIREGUARD_OF", folder) }
}

/// What a complete lab was built as; STATE/lab.json.
package struct LabRecord: Codable, Hashable, Sendable {
    /// Of one WireGuard interface, after "auto" has been decided.
    package enum Backend: String, Codable, Sendable { case kernel, userspace }

    package var lab: String
    /// When `up` was done, nanoseconds since the Unix epoch by CLOCK_REALTIME.
    package var broughtUp: Int64
    /// When `up` began, by the same clock: a handshake from before is none of this lab's.
    package var started: Int64
    /// /proc/sys/kernel/random/boot_id: a record of another boot is of a lab that is gone.
    package var bootID: String
    /// By "HOST.INTERFACE".
    package var backends: [String: Backend]

    package func backend(host: String, interface: String) -> Backend? { backends["\(host).\(interface)"] }
}
