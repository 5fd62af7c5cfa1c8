// From vfork to exec. The child borrows the parent's memory until then, and the parent has other threads: between the
// two only async-signal-safe functions may run, and everything that allocates happens before. vfork and not fork,
// because the parent waits for the exec anyway, and copying its page tables would cost more than all the rest.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "CNatlab.h"

// What the child reports through the pipe when it could not get as far as its program.
struct report {
    int error;
    int stage;
};

// The arrays execve wants, and a place for the descriptors on their way.
struct prepared {
    char **arguments;
    char **environment;
    int *descriptors;
};

static char **unpack(const char *packed, size_t count) {
    char **list = calloc(count + 1, sizeof *list);
    if (list == NULL) return NULL;
    for (size_t index = 0; index < count; index++) {
        list[index] = (char *)packed;
        packed += strlen(packed) + 1;
    }
    return list;
}

static void release(struct prepared *prepared) {
    free(prepared->arguments);
    free(prepared->environment);
    free(prepared->descriptors);
}

static int prepare(const struct natlab_spawn *request, struct prepared *prepared) {
    prepared->arguments = unpack(request->arguments, request->argument_count);
    prepared->environment = unpack(request->environment, request->environment_count);
    prepared->descriptors = calloc(request->extra_count + 3, sizeof(int));
    if (prepared->arguments != NULL && prepared->environment != NULL && prepared->descriptors != NULL) return 0;
    release(prepared);
    return -ENOMEM;
}

static void reset_signals(void) {
    // By the system call itself: sigaction(3) leaves out the two signals that the C library keeps, and a caller's caller may
    // ignore those too. All zeros are SIG_DFL in the kernel's own struct (4 words at the most). SIGKILL and SIGSTOP answer
    // with an error that means nothing here.
    unsigned long standard[4] = {0};
    for (int number = 1; number < NSIG; number++) syscall(SYS_rt_sigaction, number, standard, NULL, 8);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static int enter(const struct natlab_spawn *request, struct report *report) {
    report->stage = NATLAB_STAGE_MOUNTS;
    bool own_mounts = request->wireguard_directory != NULL || request->mount_sys;
    if (own_mounts) {
        if (unshare(CLONE_NEWNS) < 0) return -errno;
        // Slave, not private: what is unmounted outside (a namespace's pin, above all) has to go here too.
        if (mount("none", "/", NULL, MS_REC | MS_SLAVE, NULL) < 0) return -errno;
    }
    if (request->wireguard_directory != NULL &&
        mount(request->wireguard_directory, "/run/wireguard", "none", MS_BIND, NULL) < 0)
        return -errno;
    if (request->network >= 0) {
        report->stage = NATLAB_STAGE_ENTER;
        if (setns(request->network, CLONE_NEWNET) < 0) return -errno;
    }
    if (request->mount_sys) {
        report->stage = NATLAB_STAGE_MOUNTS;
        // A sysfs shows the devices of the namespace it is mounted from.
        umount2("/sys", MNT_DETACH);
        if (mount("natlab", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0) return -errno;
    }
    return 0;
}

// Puts the program's descriptors on 0, 1, 2, 3, ... and closes all others but `*keep`, which moves behind them.
static int arrange(const struct natlab_spawn *request, int *sources, int *keep) {
    int count = 3 + (int)request->extra_count;
    sources[0] = request->input;
    sources[1] = request->output;
    sources[2] = request->error;
    for (int index = 3; index < count; index++) sources[index] = request->extra[index - 3];
    // First out of the way of the targets, then into place: a source may itself be one of the targets.
    for (int index = 0; index < count; index++) {
        int moved;
        if (sources[index] < 0) {
            int null = open("/dev/null", O_RDWR | O_CLOEXEC);
            if (null < 0) return -errno;
            moved = fcntl(null, F_DUPFD_CLOEXEC, count + 1);
        } else {
            moved = fcntl(sources[index], F_DUPFD_CLOEXEC, count + 1);
        }
        if (moved < 0) return -errno;
        sources[index] = moved;
    }
    if (*keep >= 0) {
        int moved = fcntl(*keep, F_DUPFD_CLOEXEC, count + 1);
        if (moved < 0) return -errno;
        if (dup3(moved, count, O_CLOEXEC) < 0) return -errno;
        *keep = count;
    }
    for (int index = 0; index < count; index++)
        if (dup2(sources[index], index) < 0) return -errno;
    if (close_range((unsigned)(*keep >= 0 ? count + 1 : count), ~0U, 0) < 0) return -errno;
    return 0;
}

// What natlab_ignore_broken_pipes found.
static struct {
    bool noted;
    struct sigaction pipe;
    sigset_t mask;
} inherited;

void natlab_ignore_broken_pipes(void) {
    struct sigaction ignore;
    memset(&ignore, 0, sizeof ignore);
    ignore.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &ignore, &inherited.pipe);
    pthread_sigmask(SIG_SETMASK, NULL, &inherited.mask);
    inherited.noted = true;
}

static int become(const struct natlab_spawn *request, struct prepared *prepared, int *keep, struct report *report) {
    int result = enter(request, report);
    if (result < 0) return result;
    report->stage = NATLAB_STAGE_DESCRIPTORS;
    if (request->new_session) setsid();
    result = arrange(request, prepared->descriptors, keep);
    if (result < 0) return result;
    report->stage = NATLAB_STAGE_DIRECTORY;
    if (request->directory != NULL && chdir(request->directory) < 0) return -errno;
    report->stage = NATLAB_STAGE_EXEC;
    reset_signals();
    prctl(PR_SET_PDEATHSIG, 0);
    execve(request->path, prepared->arguments, prepared->environment);
    return -errno;
}

static _Noreturn void run_child(
    const struct natlab_spawn *request, struct prepared *prepared, pid_t parent, int pipe_end) {
    struct report report = {0, NATLAB_STAGE_PREPARE};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // The parent may have died before the line above.
    if (getppid() != parent) _exit(127);
    report.error = -become(request, prepared, &pipe_end, &report);
    while (write(pipe_end, &report, sizeof report) < 0 && errno == EINTR) continue;
    _exit(127);
}

int natlab_spawn(const struct natlab_spawn *request, struct natlab_failure *failure) {
    failure->stage = NATLAB_STAGE_PREPARE;
    failure->setting = 0;
    struct prepared prepared;
    int result = prepare(request, &prepared);
    if (result < 0) return result;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) {
        result = -errno;
        release(&prepared);
        return result;
    }
    // No handler of ours may run in the child.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t parent = getpid();
    pid_t child = vfork();
    if (child == 0) run_child(request, &prepared, parent, ends[1]);
    result = child < 0 ? -errno : child;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(ends[1]);
    release(&prepared);
    if (child > 0) {
        struct report report;
        ssize_t count;
        do count = read(ends[0], &report, sizeof report);
        while (count < 0 && errno == EINTR);
        // Nothing to read: the exec closed the pipe.
        if (count == sizeof report) {
            failure->stage = report.stage;
            result = -report.error;
            while (waitpid(child, NULL, 0) < 0 && errno == EINTR) continue;
        }
    }
    close(ends[0]);
    return result;
}

int natlab_exec(const struct natlab_spawn *request, struct natlab_failure *failure) {
    failure->stage = NATLAB_STAGE_PREPARE;
    failure->setting = 0;
    struct prepared prepared;
    int result = prepare(request, &prepared);
    if (result < 0) return result;
    struct report report = {0, NATLAB_STAGE_PREPARE};
    result = enter(request, &report);
    if (result == 0) {
        report.stage = NATLAB_STAGE_DIRECTORY;
        if (request->directory != NULL && chdir(request->directory) < 0) result = -errno;
    }
    if (result == 0) {
        report.stage = NATLAB_STAGE_EXEC;
        if (inherited.noted) {
            sigaction(SIGPIPE, &inherited.pipe, NULL);
            pthread_sigmask(SIG_SETMASK, &inherited.mask, NULL);
        }
        execve(request->path, prepared.arguments, prepared.environment);
        result = -errno;
    }
    failure->stage = report.stage;
    release(&prepared);
    return result;
}
