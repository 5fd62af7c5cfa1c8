/* The first and only service process of the VM that scripts/kernel-vm starts; lies in its initramfs as /init.
 *
 * It mounts the host's root over 9p under an overlay that takes all writes, runs one command there with the host's
 * settings, carries its stdin, stdout and stderr over virtio serial ports (protocol.h), kills what the command left
 * behind, and tells the host the status. It never powers the VM off: the host does that when it has all the output.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "protocol.h"

/* The largest 9p message. */
#define NINEP_SIZE "262144"

static int control = -1;

/* Writes all of it; the port blocks while the host is slow. */
static void send_all(int fd, const void *data, size_t size) {
    const char *at = data;
    while (size > 0) {
        ssize_t count = write(fd, at, size);
        if (count < 0) {
            if (errno == EINTR) continue;
            return; /* The host is gone, and this VM with it. */
        }
        at += count;
        size -= (size_t)count;
    }
}

static void send_message(uint64_t type, uint64_t a, uint64_t b, uint64_t c) {
    struct message message = {type, a, b, c};
    send_all(control, &message, sizeof message);
}

/* Says why the command cannot be run, to the host if it can already be reached, else to the kernel's console. */
static void fail(const char *format, ...) {
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length >= (int)sizeof text) length = sizeof text - 1;
    if (control >= 0) {
        send_message(message_failed, (uint64_t)length, 0, 0);
        send_all(control, text, (size_t)length);
    } else {
        fprintf(stderr, "kernel-vm: %s\n", text);
    }
    for (;;) pause(); /* A first process that ends is a kernel panic, which would hide the reason. */
}

static void mount_or_fail(const char *source, const char *target, const char *type, unsigned long flags,
                          const char *options) {
    if (mount(source, target, type, flags, options) != 0)
        fail("cannot mount %s on %s in the VM: %s", type ? type : source, target, strerror(errno));
}

/* Loads the modules of the initramfs, which are numbered in the order in which they depend on each other. */
static void load_modules(void) {
    struct dirent **entries;
    int count = scandir("/modules", &entries, NULL, alphasort);
    for (int index = 0; index < count; index++) {
        if (entries[index]->d_name[0] == '.') continue;
        char path[512];
        snprintf(path, sizeof path, "/modules/%s", entries[index]->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST))
            fail("cannot load %s: %s", path, strerror(errno));
        close(fd);
    }
}

/* Opens the virtio serial port of that name. Ports appear a moment after their driver is loaded. */
static int open_port(const char *name) {
    for (int attempt = 0; attempt < 30000; attempt++) {
        DIR *folder = opendir("/sys/class/virtio-ports");
        struct dirent *entry;
        while (folder && (entry = readdir(folder))) {
            char path[600], found[64] = "";
            snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
            FILE *file = fopen(path, "re");
            if (!file) continue;
            if (fgets(found, sizeof found, file)) found[strcspn(found, "\n")] = 0;
            fclose(file);
            if (strcmp(found, name) != 0) continue;
            snprintf(path, sizeof path, "/dev/%s", entry->d_name);
            int fd = open(path, O_RDWR | O_CLOEXEC);
            if (fd >= 0) {
                closedir(folder);
                return fd;
            }
        }
        if (folder) closedir(folder);
        usleep(1000);
    }
    fail("no virtio serial port '%s' appeared", name);
    return -1;
}

static void read_all(int fd, void *data, size_t size) {
    char *at = data;
    while (size > 0) {
        ssize_t count = read(fd, at, size);
        if (count > 0) {
            at += count;
            size -= (size_t)count;
        } else if (count < 0 && errno != EINTR) {
            fail("cannot read the settings: %s", strerror(errno));
        } else if (count == 0) {
            usleep(1000); /* The host's end is not open yet. */
        }
    }
}

/* The settings of message_start. */
struct settings {
    struct timespec clock;
    mode_t mask;
    struct rlimit files;
    char *modules, *folder;
    char **shares, **environment, **command;
};

static char *next_string(char **at, char *end) {
    char *string = *at;
    if (string >= end) fail("the settings are cut off");
    *at += strlen(string) + 1;
    return string;
}

static uint64_t next_number(char **at, char *end) { return strtoull(next_string(at, end), NULL, 10); }

static char **next_list(char **at, char *end) {
    uint64_t count = next_number(at, end);
    char **list = calloc(count + 1, sizeof *list);
    if (!list) fail("no memory for the settings");
    for (uint64_t index = 0; index < count; index++) list[index] = next_string(at, end);
    return list;
}

static struct settings read_settings(void) {
    struct message message;
    read_all(control, &message, sizeof message);
    if (message.type != message_start) fail("the host began with message %llu", (unsigned long long)message.type);
    char *at = malloc(message.a + 1);
    if (!at) fail("no memory for %llu bytes of arguments and environment", (unsigned long long)message.a);
    read_all(control, at, message.a);
    at[message.a] = 0;
    char *end = at + message.a;
    struct settings settings;
    settings.clock.tv_sec = (time_t)next_number(&at, end);
    settings.clock.tv_nsec = (long)next_number(&at, end);
    settings.mask = (mode_t)next_number(&at, end);
    settings.files.rlim_cur = next_number(&at, end);
    settings.files.rlim_max = next_number(&at, end);
    settings.modules = next_string(&at, end);
    settings.folder = next_string(&at, end);
    settings.shares = next_list(&at, end);
    settings.environment = next_list(&at, end);
    settings.command = next_list(&at, end);
    return settings;
}

/* Makes that folder and those above it, for one that exists on the host but lies below the VM's own /run, say. */
static void make_folder(const char *path) {
    char part[8192];
    snprintf(part, sizeof part, "%s", path);
    for (char *at = part + 1; *at; at++) {
        if (*at != '/') continue;
        *at = 0;
        mkdir(part, 0755);
        *at = '/';
    }
    mkdir(part, 0755);
}

/* Builds the tree the command sees and makes it the root. */
static void enter_root(const struct settings *settings) {
    char path[8192];
    mkdir("/lower", 0755);
    mkdir("/writes", 0755);
    mkdir("/root", 0755);
    /* The host's files are taken not to change while the VM runs: loose caching makes Swift programs start in a third
     * of a second instead of several. */
    mount_or_fail("root", "/lower", "9p", MS_RDONLY | MS_NOATIME, "trans=virtio,version=9p2000.L,cache=loose,msize=" NINEP_SIZE);
    mount_or_fail("writes", "/writes", "tmpfs", 0, "mode=0755,size=75%");
    mkdir("/writes/upper", 0755);
    mkdir("/writes/work", 0755);
    mount_or_fail("root", "/root", "overlay", 0, "lowerdir=/lower,upperdir=/writes/upper,workdir=/writes/work");

    /* From the host's tree and not the new one, which hides what lies below its own /run and /dev. */
    snprintf(path, sizeof path, "/lower%s", settings->modules);
    int modules = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (modules < 0) fail("cannot open the kernel's modules, %s: %s", settings->modules, strerror(errno));

    mount_or_fail("/dev", "/root/dev", NULL, MS_MOVE, NULL);
    mount_or_fail("/proc", "/root/proc", NULL, MS_MOVE, NULL);
    mount_or_fail("/sys", "/root/sys", NULL, MS_MOVE, NULL);
    /* This process chroots itself, not a child: the kernel's own threads share its root, and with it find
     * /sbin/modprobe. */
    if (chdir("/root") != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 || chdir("/") != 0)
        fail("cannot change to the new root: %s", strerror(errno));
    /* As systemd does it, so as it is on most machines. */
    mount_or_fail("none", "/", NULL, MS_REC | MS_SHARED, NULL);

    mount_or_fail("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755");
    mkdir("/run/lock", 01777);
    mkdir("/dev/pts", 0755);
    mkdir("/dev/shm", 01777);
    mkdir("/dev/mqueue", 01777);
    mount_or_fail("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "mode=0620,ptmxmode=0666");
    mount_or_fail("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
    mount_or_fail("mqueue", "/dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount_or_fail("cgroup2", "/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    if (symlink("/proc/self/fd", "/dev/fd") != 0 || symlink("/proc/self/fd/0", "/dev/stdin") != 0 ||
        symlink("/proc/self/fd/1", "/dev/stdout") != 0 || symlink("/proc/self/fd/2", "/dev/stderr") != 0)
        fail("cannot make /dev/fd: %s", strerror(errno));
    /* What udev would make from modules.devname: opening it loads the module. */
    mkdir("/dev/net", 0755);
    mode_t mask = umask(0);
    if (mknod("/dev/net/tun", S_IFCHR | 0666, makedev(10, 200)) != 0 && errno != EEXIST)
        fail("cannot make /dev/net/tun: %s", strerror(errno));
    umask(mask);

    struct utsname name;
    uname(&name);
    mkdir("/lib/modules", 0755);
    snprintf(path, sizeof path, "/lib/modules/%s", name.release);
    mkdir(path, 0755);
    char source[64];
    snprintf(source, sizeof source, "/proc/self/fd/%d", modules);
    mount_or_fail(source, path, NULL, MS_BIND, NULL);
    close(modules);

    for (int index = 0; settings->shares[index]; index++) {
        make_folder(settings->shares[index]);
        char tag[32];
        snprintf(tag, sizeof tag, "share%d", index);
        /* Maps of such files can be written to, and the host sees each write as soon as it is made. */
        mount_or_fail(tag, settings->shares[index], "9p", 0, "trans=virtio,version=9p2000.L,cache=mmap,msize=" NINEP_SIZE);
    }
}

static void set_up_machine(const struct settings *settings) {
    if (clock_settime(CLOCK_REALTIME, &settings->clock) != 0) fail("cannot set the clock: %s", strerror(errno));
    static const char name[] = "kernel-vm";
    if (sethostname(name, sizeof name - 1) != 0) fail("cannot set the host name: %s", strerror(errno));
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) != 0) fail("cannot set lo up: %s", strerror(errno));
    close(fd);
}

/* Starts the command with the three pipes' ends as its stdin, stdout and stderr. */
static pid_t start_command(const struct settings *settings, int input, int output, int errors) {
    pid_t child = fork();
    if (child < 0) fail("cannot fork in the VM: %s", strerror(errno));
    if (child > 0) return child;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    dup2(input, 0);
    dup2(output, 1);
    dup2(errors, 2);
    umask(settings->mask);
    setrlimit(RLIMIT_NOFILE, &settings->files);
    environ = settings->environment;
    execvp(settings->command[0], settings->command);
    int code = errno;
    dprintf(2, "kernel-vm: %s: %s\n", settings->command[0], strerror(code));
    _exit(code == ENOENT ? 127 : 126);
}

/* One direction of one stream: what was read from `from` and not yet written to `to`. */
struct stream {
    int from, to;
    char data[32768];
    size_t start, end;
    uint64_t total; /* Bytes read from `from` so far. */
    int over;       /* Nothing more will come from `from`. */
};

static void close_fd(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

static int stream_is_empty(const struct stream *stream) { return stream->start == stream->end; }

static void stream_read(struct stream *stream, size_t limit) {
    if (limit > sizeof stream->data) limit = sizeof stream->data;
    ssize_t count = read(stream->from, stream->data, limit);
    if (count > 0) {
        stream->start = 0;
        stream->end = (size_t)count;
        stream->total += (uint64_t)count;
    } else if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
        stream->over = 1;
    }
}

/* Answers 0 when nobody reads `to` any more; the data is then dropped. */
static int stream_write(struct stream *stream) {
    ssize_t count = write(stream->to, stream->data + stream->start, stream->end - stream->start);
    if (count > 0) {
        stream->start += (size_t)count;
    } else if (count < 0 && errno != EAGAIN && errno != EINTR) {
        stream->start = stream->end;
        return 0;
    }
    return 1;
}

static struct stream input = {.from = -1, .to = -1}, output = {.from = -1, .to = -1}, errors = {.from = -1, .to = -1};

/* Carries the streams until the command has ended and all its output is handed to the ports. Answers its status. */
static int carry(pid_t child, int signals) {
    int status = -1;
    uint64_t input_size = UINT64_MAX; /* Unknown until the host says so. */
    for (;;) {
        if (input.to >= 0 && stream_is_empty(&input) && input.total >= input_size) close_fd(&input.to);
        if (status >= 0 && output.over && errors.over && stream_is_empty(&output) && stream_is_empty(&errors))
            return status;

        struct pollfd polls[5] = {
            {.fd = signals, .events = POLLIN},
            {.fd = control, .events = POLLIN},
            {.fd = -1},
            {.fd = -1},
            {.fd = -1},
        };
        /* After the command's stdin is closed the host's bytes are still taken, and dropped. */
        if (!stream_is_empty(&input)) {
            polls[2] = (struct pollfd){.fd = input.to, .events = POLLOUT};
        } else if (input.total < input_size && !input.over) {
            polls[2] = (struct pollfd){.fd = input.from, .events = POLLIN};
        }
        struct stream *outgoing[2] = {&output, &errors};
        for (int index = 0; index < 2; index++) {
            struct stream *stream = outgoing[index];
            if (!stream_is_empty(stream)) {
                polls[3 + index] = (struct pollfd){.fd = stream->to, .events = POLLOUT};
            } else if (!stream->over) {
                polls[3 + index] = (struct pollfd){.fd = stream->from, .events = POLLIN};
            }
        }
        if (poll(polls, 5, -1) < 0) {
            if (errno == EINTR) continue;
            fail("poll: %s", strerror(errno));
        }

        if (polls[0].revents) {
            struct signalfd_siginfo info;
            (void)!read(signals, &info, sizeof info);
            int code;
            pid_t ended;
            while ((ended = waitpid(-1, &code, WNOHANG)) > 0) {
                if (ended != child) continue;
                status = WIFSIGNALED(code) ? 128 + WTERMSIG(code) : WEXITSTATUS(code);
                /* The VM ends with its command; what still runs could keep stdout open for ever. From the first
                 * process this reaches all others, also those being forked meanwhile. */
                kill(-1, SIGKILL);
                input.start = input.end;
                close_fd(&input.to);
            }
        }
        if (polls[1].revents) {
            struct message message;
            read_all(control, &message, sizeof message);
            if (message.type == message_stdin_end) input_size = message.a;
            if (message.type == message_shut) {
                struct stream *shut = message.a == 1 ? &output : &errors;
                close_fd(&shut->from); /* The command gets SIGPIPE, as it would on the host. */
                shut->over = 1;
                shut->start = shut->end;
            }
        }
        if (polls[2].revents) {
            if (stream_is_empty(&input)) {
                stream_read(&input, sizeof input.data);
                if (input.to < 0) input.start = input.end;
            } else if (!stream_write(&input)) {
                close_fd(&input.to);
            }
        }
        for (int index = 0; index < 2; index++) {
            struct stream *stream = outgoing[index];
            if (!polls[3 + index].revents || stream->from < 0) continue;
            if (stream_is_empty(stream)) stream_read(stream, sizeof stream->data);
            if (!stream_is_empty(stream)) stream_write(stream);
        }
    }
}

static void set_nonblocking(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }

int main(void) {
    mkdir("/dev", 0755);
    mkdir("/proc", 0755);
    mkdir("/sys", 0755);
    umask(0);
    mount_or_fail("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755");
    mount_or_fail("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    mount_or_fail("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    load_modules();
    control = open_port("control");
    int stdio_port = open_port("stdio"), stderr_port = open_port("stderr");
    send_message(message_booted, 0, 0, 0);
    struct settings settings = read_settings();
    enter_root(&settings);
    set_up_machine(&settings);
    umask(022);
    if (chdir(settings.folder) != 0)
        fail("cannot enter %s in the VM, which has its own /run, /dev, /proc and /sys: %s", settings.folder,
             strerror(errno));

    signal(SIGPIPE, SIG_IGN);
    sigset_t children;
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    sigprocmask(SIG_BLOCK, &children, NULL);
    int signals = signalfd(-1, &children, SFD_CLOEXEC);
    int in[2], out[2], err[2];
    if (signals < 0 || pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0)
        fail("cannot make pipes: %s", strerror(errno));
    signal(SIGPIPE, SIG_DFL); /* Inherited by exec, unlike a handler. */
    pid_t child = start_command(&settings, in[0], out[1], err[1]);
    signal(SIGPIPE, SIG_IGN);
    close(in[0]);
    close(out[1]);
    close(err[1]);
    input.from = stdio_port;
    input.to = in[1];
    output.from = out[0];
    output.to = stdio_port;
    errors.from = err[0];
    errors.to = stderr_port;
    int nonblocking[] = {stdio_port, stderr_port, in[1], out[0], err[0]};
    for (unsigned index = 0; index < sizeof nonblocking / sizeof *nonblocking; index++)
        set_nonblocking(nonblocking[index]);
    send_message(message_ready, 0, 0, 0);

    int status = carry(child, signals);
    if (settings.shares[0]) sync(); /* What was written to mapped files reaches the host only now. */
    send_message(message_exited, (uint64_t)status, output.total, errors.total);
    for (;;) pause();
}
