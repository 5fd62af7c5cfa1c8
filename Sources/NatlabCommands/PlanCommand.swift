package import ArgumentParser
import LabPlanner

/// `natlab plan FILE`: every step that `up` would take.
package struct PlanCommand: ParsableCommand {
    package static let configuration = CommandConfiguration(
        commandName: "plan",
        abstract: "Prints every step that `up` would take, in order.",
        discussion: "Changes nothing and needs no root. The same file gives the same bytes.")

    enum Format: String, ExpressibleByArgument, CaseIterable { case text, json }

    @OptionGroup var input: TopologyInput

    @Option(help: "How to print it.")
    var format: Format = .text

    package init() {}

    package func run() throws {
        let plan = try input.plan()
        switch format {
        case .text: try Terminal.result(plan.text())
        case .json: try Terminal.result(Terminal.json(plan))
        }
    }
}
