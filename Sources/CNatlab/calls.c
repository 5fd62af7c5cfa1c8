// System calls that Swift's Glibc module does not have.
#define _GNU_SOURCE
#include <errno.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/pidfd.h>

#include "CNatlab.h"

int natlab_pidfd_open(pid_t pid) {
    int file = pidfd_open(pid, 0);
    return file < 0 ? -errno : file;
}

int natlab_pidfd_signal(int process, int signal) {
    return pidfd_send_signal(process, signal, NULL, 0) < 0 ? -errno : 0;
}

int natlab_unmount(const char *path) {
    return umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 ? -errno : 0;
}

int natlab_bind_mount(const char *source, const char *target) {
    return mount(source, target, "none", MS_BIND | MS_REC, NULL) < 0 ? -errno : 0;
}

int natlab_share_mount(const char *path) {
    return mount("", path, "none", MS_SHARED | MS_REC, NULL) < 0 ? -errno : 0;
}

int natlab_memory_file(const char *name) {
    int file = memfd_create(name, MFD_CLOEXEC);
    return file < 0 ? -errno : file;
}

int natlab_lock(int file, bool wait) {
    int result;
    do result = flock(file, LOCK_EX | (wait ? 0 : LOCK_NB));
    while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : 0;
}
