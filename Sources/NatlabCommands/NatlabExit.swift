/// What natlab's exit status means; the same for every subcommand.
package enum NatlabExit: Int32, Sendable {
    case asExpected = 0
    /// A verdict that is not as expected.
    case verdict = 1
    /// The topology or the command line is wrong.
    case usage = 2
    /// The machine lacks something, said by name.
    case machine = 3
    /// The lab is missing, busy, running already or half-built.
    case lab = 4
    /// A defect of natlab itself (EX_SOFTWARE of sysexits.h).
    case defect = 70
}

/// The end of a command that did not come to its result: a status and what to tell the user.
package struct CommandFailure: Error, Sendable {
    package var status: NatlabExit
    /// Lines for standard error, without "natlab:".
    package var message: String

    package init(_ status: NatlabExit, _ message: String) {
        self.status = status
        self.message = message
    }
}
