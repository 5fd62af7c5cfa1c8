import CNatlab
import Glibc

/// What the program that started this one left it of signals.
package enum InheritedSignals {
    /// Ignores SIGPIPE from here on; `ProgramCall.replaceProcess` gives the program back what it was, and the signal
    /// mask of this moment.
    ///
    /// To be called once, before there are other threads.
    package static func ignoreBrokenPipes() { natlab_ignore_broken_pipes() }

    /// Ends this process as a broken pipe ends one that knows nothing of it: silently, by SIGPIPE.
    package static func endByBrokenPipe() -> Never {
        signal(SIGPIPE, SIG_DFL)
        var wanted = sigset_t()
        sigemptyset(&wanted)
        sigaddset(&wanted, SIGPIPE)
        pthread_sigmask(SIG_UNBLOCK, &wanted, nil)
        raise(SIGPIPE)
        // Not reached but by the first process of a pid namespace, which no signal of its own ends.
        exit(128 + SIGPIPE)
    }
}
