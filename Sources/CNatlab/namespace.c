// Threads that enter a network namespace, do one thing there and end.
//
// Beyond setns or unshare the thread's namespace is foreign for good, so no thread that runs anything else may do it:
// threads made by it would inherit the namespace.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include "CNatlab.h"
#include "thread.h"

static int in_thread_with(size_t stack, void *(*body)(void *), void *argument) {
    pthread_attr_t attributes;
    int error = pthread_attr_init(&attributes);
    if (error != 0) return -error;
    pthread_attr_setstacksize(&attributes, stack);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_t thread;
    error = pthread_create(&thread, &attributes, body, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (error != 0) return -error;
    pthread_join(thread, NULL);
    return 0;
}

int in_thread(void *(*body)(void *), void *argument) { return in_thread_with(128 << 10, body, argument); }

int in_large_thread(void *(*body)(void *), void *argument) { return in_thread_with(8 << 20, body, argument); }

static int write_setting(const char *path, const char *value) {
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0) return -errno;
    size_t length = strlen(value);
    ssize_t written = write(file, value, length);
    int result = written < 0 ? -errno : (size_t)written == length ? 0 : -EIO;
    close(file);
    return result;
}

static int write_settings(const char *settings, size_t count, size_t *failed) {
    for (size_t index = 0; index < count; index++) {
        const char *path = settings;
        const char *value = path + strlen(path) + 1;
        settings = value + strlen(value) + 1;
        bool may_be_missing = path[0] == '-';
        int result = write_setting(may_be_missing ? path + 1 : path, value);
        if (result == -ENOENT && may_be_missing) continue;
        if (result < 0) {
            *failed = index;
            return result;
        }
    }
    return 0;
}

static int bring_loopback_up(void) {
    int file = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (file < 0) return -errno;
    struct ifreq request;
    memset(&request, 0, sizeof request);
    memcpy(request.ifr_name, "lo", 3);
    request.ifr_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING;
    int result = ioctl(file, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;
    close(file);
    return result;
}

static int pin(const char *path) {
    int file = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0);
    if (file < 0) return -errno;
    close(file);
    // thread-self: "self" would be the main thread, whose namespace is the machine's own.
    if (mount("/proc/thread-self/ns/net", path, "none", MS_BIND, NULL) == 0) return 0;
    int result = -errno;
    unlink(path);
    return result;
}

struct making {
    const char *pin;
    const char *settings;
    size_t setting_count;
    struct natlab_failure *failure;
    int result;
};

static int make_namespace(struct making *making) {
    struct natlab_failure *failure = making->failure;
    failure->stage = NATLAB_STAGE_UNSHARE;
    if (unshare(CLONE_NEWNET) < 0) return -errno;
    failure->stage = NATLAB_STAGE_PIN;
    int result = pin(making->pin);
    if (result < 0) return result;
    failure->stage = NATLAB_STAGE_LOOPBACK;
    result = bring_loopback_up();
    if (result == 0 && making->setting_count > 0) {
        failure->stage = NATLAB_STAGE_SETTING;
        result = write_settings(making->settings, making->setting_count, &failure->setting);
    }
    if (result == 0) {
        failure->stage = NATLAB_STAGE_SOCKET;
        result = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
        if (result < 0) result = -errno;
    }
    if (result < 0) {
        umount2(making->pin, MNT_DETACH);
        unlink(making->pin);
    }
    return result;
}

static void *run_making(void *argument) {
    struct making *making = argument;
    making->result = make_namespace(making);
    return NULL;
}

int natlab_make_namespace(
    const char *pin, const char *settings, size_t setting_count, struct natlab_failure *failure) {
    struct making making = {pin, settings, setting_count, failure, 0};
    failure->stage = NATLAB_STAGE_PREPARE;
    failure->setting = 0;
    int error = in_thread(run_making, &making);
    return error < 0 ? error : making.result;
}

struct opening {
    int network, domain, type, protocol;
    int result;
};

static void *run_opening(void *argument) {
    struct opening *opening = argument;
    if (setns(opening->network, CLONE_NEWNET) < 0) {
        opening->result = -errno;
        return NULL;
    }
    int file = socket(opening->domain, opening->type | SOCK_CLOEXEC, opening->protocol);
    opening->result = file < 0 ? -errno : file;
    return NULL;
}

int natlab_socket_in(int network, int domain, int type, int protocol) {
    struct opening opening = {network, domain, type, protocol, 0};
    int error = in_thread(run_opening, &opening);
    return error < 0 ? error : opening.result;
}

static void *run_opening_alone(void *argument) {
    struct opening *opening = argument;
    if (unshare(CLONE_NEWNET) < 0) {
        opening->result = -errno;
        return NULL;
    }
    int file = socket(opening->domain, opening->type | SOCK_CLOEXEC, opening->protocol);
    opening->result = file < 0 ? -errno : file;
    return NULL;
}

int natlab_socket_in_new_namespace(int domain, int type, int protocol) {
    struct opening opening = {-1, domain, type, protocol, 0};
    int error = in_thread(run_opening_alone, &opening);
    return error < 0 ? error : opening.result;
}

struct writing {
    int network;
    const char *settings;
    size_t setting_count;
    size_t *failed;
    int result;
};

static void *run_writing(void *argument) {
    struct writing *writing = argument;
    if (setns(writing->network, CLONE_NEWNET) < 0) {
        writing->result = -errno;
        return NULL;
    }
    // /proc/sys/net follows the calling thread.
    writing->result = write_settings(writing->settings, writing->setting_count, writing->failed);
    return NULL;
}

int natlab_write_settings_in(int network, const char *settings, size_t setting_count, size_t *failed) {
    *failed = 0;
    struct writing writing = {network, settings, setting_count, failed, 0};
    int error = in_thread(run_writing, &writing);
    return error < 0 ? error : writing.result;
}
