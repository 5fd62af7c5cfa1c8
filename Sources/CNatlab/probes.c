// Tries what a lab needs of the machine, in namespaces without a name: nothing of them outlasts the process, however
// it ends.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include "CNatlab.h"
#include "thread.h"

static void *run_unnamed(void *argument) {
    int *result = argument;
    if (unshare(CLONE_NEWNET) < 0) {
        *result = -errno;
        return NULL;
    }
    int file = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    *result = file < 0 ? -errno : file;
    return NULL;
}

int natlab_unnamed_namespace(void) {
    int result = 0;
    int error = in_thread(run_unnamed, &result);
    return error < 0 ? error : result;
}

struct probing {
    int network;
    const char *name;
    struct natlab_failure *failure;
    int result;
};

static int make_tun(const struct probing *probing) {
    probing->failure->stage = NATLAB_STAGE_ENTER;
    if (setns(probing->network, CLONE_NEWNET) < 0) return -errno;
    probing->failure->stage = NATLAB_STAGE_PREPARE;
    // The interface will be in the namespace in which the device is opened (tun_chr_open).
    int file = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (file < 0) return -errno;
    struct ifreq request;
    memset(&request, 0, sizeof request);
    strncpy(request.ifr_name, probing->name, sizeof request.ifr_name - 1);
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    probing->failure->stage = NATLAB_STAGE_SETTING;
    int result = ioctl(file, TUNSETIFF, &request) < 0 ? -errno : 0;
    close(file);
    return result;
}

static void *run_tun(void *argument) {
    struct probing *probing = argument;
    probing->result = make_tun(probing);
    return NULL;
}

int natlab_try_tun_in(int network, const char *name, struct natlab_failure *failure) {
    struct probing probing = {network, name, failure, 0};
    failure->stage = NATLAB_STAGE_PREPARE;
    failure->setting = 0;
    int error = in_thread(run_tun, &probing);
    return error < 0 ? error : probing.result;
}

static int try_pin(const struct probing *probing) {
    struct natlab_failure *failure = probing->failure;
    failure->stage = NATLAB_STAGE_ENTER;
    if (setns(probing->network, CLONE_NEWNET) < 0) return -errno;
    failure->stage = NATLAB_STAGE_UNSHARE;
    if (unshare(CLONE_NEWNS) < 0) return -errno;
    failure->stage = NATLAB_STAGE_MOUNTS;
    // Private first: what follows must not reach the machine's own mounts.
    if (mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) return -errno;
    if (mount("tmpfs", "/run", "tmpfs", 0, "size=64k") < 0) return -errno;
    failure->stage = NATLAB_STAGE_PIN;
    int file = open("/run/pin", O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0);
    if (file < 0) return -errno;
    close(file);
    return mount("/proc/thread-self/ns/net", "/run/pin", "none", MS_BIND, NULL) < 0 ? -errno : 0;
}

static void *run_pin(void *argument) {
    struct probing *probing = argument;
    probing->result = try_pin(probing);
    return NULL;
}

int natlab_try_pin(int network, struct natlab_failure *failure) {
    struct probing probing = {network, "", failure, 0};
    failure->stage = NATLAB_STAGE_PREPARE;
    failure->setting = 0;
    int error = in_thread(run_pin, &probing);
    return error < 0 ? error : probing.result;
}
