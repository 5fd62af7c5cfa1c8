/* What the runner on the host (host.c) and the first process in the VM (guest.c) say to each other.
 *
 * Three virtio serial ports, each a byte stream with flow control of its own, so that a slow reader of stdout holds up
 * neither stderr nor the status:
 *
 *     port      host to VM                          VM to host
 *     control   start + settings, stdin_end, shut   booted, ready, failed + text, exited
 *     stdio     the command's stdin                 the command's stdout
 *     stderr    -                                   the command's stderr
 *
 * The data streams carry nothing but data. Where they end is told in bytes on the control port, because the VM cannot
 * know when the last of what it wrote has reached the host: so the host waits for that many bytes, then ends the VM.
 */
#ifndef KERNEL_VM_PROTOCOL_H
#define KERNEL_VM_PROTOCOL_H

#include <stdint.h>

enum message_type {
    /* Host, after message_booted: `a` bytes of settings follow, strings that each end in a NUL:
     *   seconds and nanoseconds of the clock, umask, soft and hard limit of open files, the folder of the kernel's
     *   modules, the working directory, then three lists, each its length followed by its strings: shared folders,
     *   environment, command with its arguments. Numbers are decimal. */
    message_start = 1,
    message_stdin_end = 2, /* Host: stdin is over after `a` bytes in all. */
    message_shut = 3,      /* Host: nobody reads the command's stdout (a = 1) or stderr (a = 2) any more. */
    message_booted = 4,    /* VM: it waits for the settings. */
    message_ready = 5,     /* VM: the command runs. */
    message_failed = 6,    /* VM: the command could not be tried; `a` bytes of text follow. */
    message_exited = 7,    /* VM: the command ended with status `a` after `b` bytes of stdout, `c` of stderr. */
};

struct message {
    uint64_t type, a, b, c;
};

#endif
