package import ArgumentParser
import LabPlanner
import LinuxLab
import SystemCalls

/// `natlab list`: all labs of this machine.
package struct ListCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Lists the labs of this machine.")

    @Flag(help: "Print the result as JSON (see docs/json.md).")
    var json = false

    package init() {}

    struct Row: Encodable {
        var lab: String
        var state: String
        /// Nil where it has no plan that could be read.
        var nodes: Int?

        private enum CodingKeys: CodingKey { case lab, state, nodes }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(lab, forKey: .lab)
            try container.encode(state, forKey: .state)
            try container.encode(nodes, forKey: .nodes)
        }
    }

    package func run() throws {
        try requireRoot()
        let root = LabRoot()
        let rows = try orFail { () throws(LabFailure) in try root.labs() }.map { listing in
            // A lab that goes away meanwhile, or was never complete, has no plan to count.
            Row(
                lab: listing.lab, state: listing.condition.rawValue,
                nodes: (try? root.state(of: listing.lab).readPlan())?.nodes.count)
        }
        if json { return try Terminal.result(Terminal.json(rows)) }
        guard !rows.isEmpty else { return Terminal.note("no lab is up here") }
        var table = TextTable(["LAB", "STATE", "NODES"])
        for row in rows { table.add([row.lab, row.state, row.nodes.map { String($0) } ?? "-"]) }
        try Terminal.result(table.text)
    }
}
