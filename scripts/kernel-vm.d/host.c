/* Runs one command in a VM for scripts/kernel-vm: starts qemu, hands it the command over virtio serial ports
 * (protocol.h; the first process in the VM is guest.c), carries stdin, stdout and stderr, and exits with its status.
 *
 *     host TIME-LIMIT BOOT-LIMIT VERBOSE MODULES N SHARE1 ... SHAREn N QEMU1 ... QEMUn COMMAND ARGUMENT...
 *
 * Limits are in seconds, 0 for none. It leaves nothing behind, however it ends: the ports are socket pairs and no
 * files, and the kernel kills qemu when this process dies.
 *
 * Exit status: the command's; 124 the time limit, 125 the VM did not do its work.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "protocol.h"

enum { status_time_limit = 124, status_broken = 125 };

/* qemu's ends of the socket pairs get these numbers, which the command line built by scripts/kernel-vm names. */
enum { port_control, port_stdio, port_stderr, port_console, port_count, first_port_fd = 10 };

static volatile pid_t qemu = -1;
static volatile sig_atomic_t is_running; /* The VM said that the command runs. */
static unsigned time_limit, boot_limit;
static time_t started;
static int is_verbose;
static int sockets[port_count];

/* The last of what the VM's kernel and qemu itself said; shown if the VM does not do its work. */
static char console[8192];
static size_t console_size;

/* From here to `on_signal`: only what a signal handler may call. */

static void end_qemu(void) {
    if (qemu <= 0) return;
    kill(qemu, SIGKILL);
    while (waitpid(qemu, NULL, 0) < 0 && errno == EINTR) {}
    qemu = -1;
}

static void say(const char *text) { (void)!write(2, text, strlen(text)); }

static void take_console(void) {
    for (;;) {
        char data[4096];
        ssize_t count = recv(sockets[port_console], data, sizeof data, MSG_DONTWAIT);
        if (count <= 0) return;
        if (is_verbose) (void)!write(2, data, (size_t)count);
        if (console_size + (size_t)count > sizeof console) {
            size_t kept = sizeof console / 2;
            if (kept > console_size) kept = console_size;
            memmove(console, console + console_size - kept, kept);
            console_size = kept;
        }
        memcpy(console + console_size, data, (size_t)count);
        console_size += (size_t)count;
    }
}

static void show_console(void) {
    take_console();
    if (is_verbose || console_size == 0) return;
    say("kernel-vm: the last words of its kernel and of qemu:\n");
    (void)!write(2, console, console_size);
    if (console[console_size - 1] != '\n') say("\n");
}

static void say_seconds(const char *before, unsigned seconds, const char *after) {
    char digits[16];
    size_t at = sizeof digits - 1;
    digits[at] = 0;
    do digits[--at] = (char)('0' + seconds % 10);
    while ((seconds /= 10) > 0);
    say(before);
    say(digits + at);
    say(after);
}

static void on_alarm(int number) {
    (void)number;
    int is_time_over = time_limit > 0 && (is_running || boot_limit == 0 || time_limit <= boot_limit);
    end_qemu();
    if (is_time_over) {
        say_seconds("kernel-vm: ended the VM after its time limit of ", time_limit, " s (--timeout)\n");
        if (!is_running) show_console();
        _exit(status_time_limit);
    }
    say_seconds("kernel-vm: the VM did not start within ", boot_limit, " s\n");
    show_console();
    _exit(status_broken);
}

static void on_signal(int number) {
    end_qemu();
    signal(number, SIG_DFL);
    raise(number); /* Delivered when this handler returns: the caller sees the signal as the cause. */
}

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...) {
    end_qemu();
    va_list arguments;
    va_start(arguments, format);
    fputs("kernel-vm: ", stderr);
    vfprintf(stderr, format, arguments);
    fputs("\n", stderr);
    va_end(arguments);
    exit(status_broken);
}

/* The VM is gone: says how, as far as that can be known. */
__attribute__((noreturn)) static void fail_without_vm(const char *when) {
    int status = 0;
    pid_t ended = -1;
    /* Its sockets close just before it can be waited for. */
    for (int attempt = 0; attempt < 100 && (ended = waitpid(qemu, &status, WNOHANG)) == 0; attempt++) usleep(10000);
    if (ended == qemu) qemu = -1;
    else status = 0;
    fprintf(stderr, "kernel-vm: the VM ended before %s", when);
    if (WIFSIGNALED(status)) fprintf(stderr, ": signal %d ended qemu\n", WTERMSIG(status));
    else if (WEXITSTATUS(status) != 0) fprintf(stderr, ": qemu exited with %d\n", WEXITSTATUS(status));
    else fputs(" (by a panic or a reboot?)\n", stderr);
    end_qemu();
    show_console();
    exit(status_broken);
}

static void start_qemu(char **arguments) {
    int theirs[port_count];
    for (int index = 0; index < port_count; index++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) fail("socketpair: %s", strerror(errno));
        sockets[index] = pair[0];
        /* Above the numbers they will get, so that none is overwritten. */
        theirs[index] = fcntl(pair[1], F_DUPFD_CLOEXEC, first_port_fd + port_count);
        if (theirs[index] < 0) fail("fcntl: %s", strerror(errno));
        close(pair[1]);
    }
    pid_t parent = getpid(), child = fork();
    if (child < 0) fail("fork: %s", strerror(errno));
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(1);
        setsid(); /* Ctrl-C is for the runner, which then ends qemu. */
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        signal(SIGPIPE, SIG_DFL);
        for (int index = 0; index < port_count; index++) dup2(theirs[index], first_port_fd + index);
        int null = open("/dev/null", O_RDONLY);
        dup2(null, 0);
        dup2(theirs[port_console], 1);
        dup2(theirs[port_console], 2);
        execvp(arguments[0], arguments);
        dprintf(2, "%s: %s\n", arguments[0], strerror(errno));
        _exit(1);
    }
    qemu = child;
    for (int index = 0; index < port_count; index++) close(theirs[index]);
}

/* A growing buffer of NUL-ended strings. */
struct buffer {
    char *data;
    size_t size, space;
};

static void add(struct buffer *buffer, const char *string) {
    size_t length = strlen(string) + 1;
    if (buffer->size + length > buffer->space) {
        buffer->space = (buffer->size + length) * 2;
        buffer->data = realloc(buffer->data, buffer->space);
        if (!buffer->data) fail("no memory for the arguments");
    }
    memcpy(buffer->data + buffer->size, string, length);
    buffer->size += length;
}

static void add_number(struct buffer *buffer, unsigned long long number) {
    char text[32];
    snprintf(text, sizeof text, "%llu", number);
    add(buffer, text);
}

static void add_list(struct buffer *buffer, char **strings) {
    unsigned long long count = 0;
    while (strings[count]) count++;
    add_number(buffer, count);
    for (unsigned long long index = 0; index < count; index++) add(buffer, strings[index]);
}

/* Variables that name something outside the VM: sockets of the user's session. */
static int is_for_vm(const char *variable) {
    static const char *const excluded[] = {"DISPLAY=", "WAYLAND_DISPLAY=", "XAUTHORITY=", "XDG_RUNTIME_DIR=",
                                           "DBUS_SESSION_BUS_ADDRESS=", "SSH_AUTH_SOCK="};
    for (size_t index = 0; index < sizeof excluded / sizeof *excluded; index++)
        if (strncmp(variable, excluded[index], strlen(excluded[index])) == 0) return 0;
    return 1;
}

static void send_all(int fd, const void *data, size_t size) {
    const char *at = data;
    while (size > 0) {
        ssize_t count = send(fd, at, size, MSG_NOSIGNAL);
        if (count < 0) {
            if (errno == EINTR) continue;
            fail_without_vm("the command had started");
        }
        at += count;
        size -= (size_t)count;
    }
}

static void send_message(uint64_t type, uint64_t a) {
    struct message message = {type, a, 0, 0};
    /* Few and small, so there is always room; an error is seen by the loop, as the end of the VM. */
    (void)!send(sockets[port_control], &message, sizeof message, MSG_NOSIGNAL);
}

/* The part of the command line that the VM is told. */
static const char *modules;
static char **shares, **command;

static void send_settings(void) {
    struct buffer buffer = {0};
    char *folder = getcwd(NULL, 0);
    if (!folder) fail("cannot tell the working directory: %s", strerror(errno));
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    mode_t mask = umask(0);
    umask(mask);
    unsigned count = 0;
    char **variables = calloc(1, sizeof *variables);
    for (char **at = environ; variables && *at; at++) {
        if (!is_for_vm(*at)) continue;
        variables = realloc(variables, (count + 2) * sizeof *variables);
        if (!variables) break;
        variables[count++] = *at;
        variables[count] = NULL;
    }
    if (!variables) fail("no memory for the environment");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    add_number(&buffer, (unsigned long long)now.tv_sec);
    add_number(&buffer, (unsigned long long)now.tv_nsec);
    add_number(&buffer, mask);
    add_number(&buffer, files.rlim_cur);
    add_number(&buffer, files.rlim_max);
    add(&buffer, modules);
    add(&buffer, folder);
    add_list(&buffer, shares);
    add_list(&buffer, variables);
    add_list(&buffer, command);
    struct message message = {message_start, buffer.size, 0, 0};
    send_all(sockets[port_control], &message, sizeof message);
    send_all(sockets[port_control], buffer.data, buffer.size);
    free(buffer.data);
    free(variables);
    free(folder);
}

static time_t seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static struct message exited; /* The VM's last message, once it has come. */

/* The command's stdout or stderr on its way from the VM to our own. */
struct output {
    int port, fd;
    int is_file, is_shut; /* A file takes any amount at once; shut: its reader is gone, the rest is dropped. */
    uint64_t total;       /* Bytes received. */
    char data[65536];
    size_t start, end;
};

static void output_write(struct output *output) {
    /* A pipe that is ready takes this much without blocking; a blocked write would hold up the other streams. */
    size_t size = output->end - output->start;
    if (!output->is_file && size > 4096) size = 4096;
    ssize_t count = write(output->fd, output->data + output->start, size);
    if (count >= 0) {
        output->start += (size_t)count;
    } else if (errno == EPIPE) {
        output->is_shut = 1;
        output->start = output->end;
        send_message(message_shut, output->port == port_stdio ? 1 : 2);
    } else if (errno != EAGAIN && errno != EINTR) {
        fail("cannot write to std%s: %s", output->port == port_stdio ? "out" : "err", strerror(errno));
    }
}

static void output_receive(struct output *output) {
    ssize_t count = recv(sockets[output->port], output->data, sizeof output->data, MSG_DONTWAIT);
    /* Normally the end of the VM is seen on the control port, which says nothing more after the status. */
    if (count == 0 && exited.type == message_exited) fail_without_vm("all output had arrived");
    if (count <= 0) return;
    output->total += (uint64_t)count;
    output->start = 0;
    output->end = output->is_shut ? 0 : (size_t)count;
}

static struct output outputs[2] = {{.port = port_stdio, .fd = 1}, {.port = port_stderr, .fd = 2}};

static struct {
    char data[65536];
    size_t start, end;
    uint64_t total;
    int is_over;
} input;

static void input_read(void) {
    ssize_t count = read(0, input.data, sizeof input.data);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count > 0) {
        input.start = 0;
        input.end = (size_t)count;
        input.total += (uint64_t)count;
    } else {
        /* Also on an error, such as that of a background process that reads its terminal. */
        input.is_over = 1;
        send_message(message_stdin_end, input.total);
    }
}

static void input_send(void) {
    ssize_t count = send(sockets[port_stdio], input.data + input.start, input.end - input.start,
                         MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count > 0) input.start += (size_t)count;
}

/* Takes one message from the VM. */
static struct message receive_message(void) {
    struct message message;
    ssize_t count = recv(sockets[port_control], &message, sizeof message, MSG_WAITALL);
    if (count != (ssize_t)sizeof message) fail_without_vm(is_running ? "the command did" : "the command had started");
    if (message.type == message_failed) {
        char *text = calloc(1, message.a + 1);
        if (text) (void)!recv(sockets[port_control], text, message.a, MSG_WAITALL);
        fail("%s", text ? text : "the VM failed");
    }
    return message;
}

/* Carries all streams until the command has ended and all of its output is written. Answers its status. */
static int carry(void) {
    for (;;) {
        int is_done = exited.type == message_exited;
        struct pollfd polls[6] = {{.fd = -1}, {.fd = -1}, {.fd = -1}, {.fd = -1}, {.fd = -1}, {.fd = -1}};
        for (int index = 0; index < 2; index++) {
            struct output *output = &outputs[index];
            if (output->start < output->end) {
                polls[index] = (struct pollfd){.fd = output->fd, .events = POLLOUT};
            } else {
                polls[index] = (struct pollfd){.fd = sockets[output->port], .events = POLLIN};
            }
            uint64_t expected = index == 0 ? exited.b : exited.c;
            if (output->start < output->end || output->total < expected) is_done = 0;
        }
        if (is_done) return (int)exited.a;
        if (exited.type != message_exited) {
            polls[2] = (struct pollfd){.fd = sockets[port_control], .events = POLLIN};
            if (is_running && input.start < input.end) {
                polls[3] = (struct pollfd){.fd = sockets[port_stdio], .events = POLLOUT};
            } else if (is_running && !input.is_over) {
                polls[4] = (struct pollfd){.fd = 0, .events = POLLIN};
            }
        }
        polls[5] = (struct pollfd){.fd = sockets[port_console], .events = POLLIN};
        if (poll(polls, 6, -1) < 0) {
            if (errno == EINTR) continue;
            fail("poll: %s", strerror(errno));
        }
        for (int index = 0; index < 2; index++) {
            if (!polls[index].revents) continue;
            if (outputs[index].start == outputs[index].end) output_receive(&outputs[index]);
            else output_write(&outputs[index]);
        }
        if (polls[5].revents) take_console();
        if (polls[4].revents) input_read();
        if (polls[3].revents) input_send();
        if (polls[2].revents) {
            struct message message = receive_message();
            if (message.type == message_booted) {
                send_settings();
            } else if (message.type == message_ready) {
                is_running = 1;
                time_t passed = seconds() - started;
                alarm(time_limit == 0 ? 0 : passed < (time_t)time_limit ? time_limit - (unsigned)passed : 1);
            } else if (message.type == message_exited) {
                exited = message;
            }
        }
    }
}

static char **take_list(char ***at) {
    unsigned long count = strtoul(*(*at)++, NULL, 10);
    char **list = calloc(count + 1, sizeof *list);
    if (!list) fail("no memory for the arguments");
    memcpy(list, *at, count * sizeof *list);
    *at += count;
    return list;
}

int main(int count, char **arguments) {
    /* A stream that the caller closed must not be mistaken for the next descriptor we open. */
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) return status_broken;
    if (count < 8) fail("run scripts/kernel-vm instead");
    char **at = arguments + 1;
    time_limit = (unsigned)strtoul(*at++, NULL, 10);
    boot_limit = (unsigned)strtoul(*at++, NULL, 10);
    is_verbose = (*at++)[0] == '1';
    modules = *at++;
    shares = take_list(&at);
    char **qemu_arguments = take_list(&at);
    command = at;

    signal(SIGPIPE, SIG_IGN);
    signal(SIGTTIN, SIG_IGN); /* In the background a terminal then reads as ended, rather than stop us. */
    signal(SIGTTOU, SIG_IGN);
    struct sigaction action = {.sa_handler = on_signal};
    sigfillset(&action.sa_mask);
    static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    struct sigaction now;
    for (size_t index = 0; index < sizeof ending / sizeof *ending; index++)
        if (sigaction(ending[index], NULL, &now) == 0 && now.sa_handler != SIG_IGN)
            sigaction(ending[index], &action, NULL);
    for (int index = 0; index < 2; index++) {
        struct stat about;
        outputs[index].is_file = fstat(outputs[index].fd, &about) == 0 && S_ISREG(about.st_mode);
    }

    started = seconds();
    action.sa_handler = on_alarm;
    sigaction(SIGALRM, &action, NULL);
    start_qemu(qemu_arguments);
    unsigned first = boot_limit == 0 || (time_limit > 0 && time_limit < boot_limit) ? time_limit : boot_limit;
    alarm(first);
    int status = carry();
    end_qemu();
    return status;
}
