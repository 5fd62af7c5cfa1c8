package import ArgumentParser
import Glibc
import LabTemplates

/// `natlab init [TEMPLATE]`: lists the embedded topologies or writes one.
package struct InitCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "init",
        abstract: "Lists the example topologies, or writes one to the current folder.")

    @Argument(help: "The example to write; without it they are listed.")
    var template: String?

    @Flag(help: "Overwrite the file if it exists.")
    var force = false

    package init() {}

    package func run() throws {
        guard let template else {
            var table = TextTable(["TEMPLATE", "WHAT IT SHOWS"])
            for known in LabTemplate.all { table.add([known.name, known.summary]) }
            return try Terminal.result(table.text)
        }
        let asked = template.hasSuffix(".toml") ? String(template.dropLast(5)) : template
        guard let found = LabTemplate.all.first(where: { $0.name == asked }) else {
            let names = LabTemplate.all.map(\.name).joined(separator: ", ")
            throw CommandFailure(.usage, "no template '\(template)'; there are: \(names)")
        }
        let name = found.name + ".toml"
        // O_EXCL: a file that someone has changed is never lost without being asked.
        let flags = O_WRONLY | O_CREAT | O_CLOEXEC | (force ? O_TRUNC : O_EXCL)
        let file = open(name, flags, 0o644)
        guard file >= 0 else {
            let cause = errno
            if cause == EEXIST {
                throw CommandFailure(.usage, "\(name) exists already; --force overwrites it")
            }
            throw CommandFailure(.machine, "cannot write \(name): \(String(cString: strerror(cause)))")
        }
        defer { close(file) }
        try Terminal.write(found.text, to: file)
        try Terminal.result("wrote \(name); next: natlab up \(name)")
    }
}
