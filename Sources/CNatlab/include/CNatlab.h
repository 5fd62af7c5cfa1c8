// What Swift cannot do: run a thread in another network namespace, and fork to exec.
//
// Every function returns a file descriptor, a process id or 0, or -errno. No function leaves anything
// behind when it fails. Lists of strings are packed: each string with its terminating NUL, one after
// the other, with their number beside it.
#ifndef NATLAB_H
#define NATLAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
// Swift's Glibc module leaves these two out.
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/types.h>

#pragma clang assume_nonnull begin

/// Where in natlab_make_namespace or natlab_spawn a failure happened.
enum natlab_stage {
    NATLAB_STAGE_PREPARE = 0,
    NATLAB_STAGE_UNSHARE = 1,
    NATLAB_STAGE_PIN = 2,
    NATLAB_STAGE_LOOPBACK = 3,
    NATLAB_STAGE_SETTING = 4,
    NATLAB_STAGE_SOCKET = 5,
    NATLAB_STAGE_MOUNTS = 6,
    NATLAB_STAGE_ENTER = 7,
    NATLAB_STAGE_DESCRIPTORS = 8,
    NATLAB_STAGE_DIRECTORY = 9,
    NATLAB_STAGE_EXEC = 10,
};

/// What failed: the stage, and for NATLAB_STAGE_SETTING which setting (counted from 0).
struct natlab_failure {
    int stage;
    size_t setting;
};

/// Makes a network namespace, pins it on `pin` (a file that must not exist yet), brings `lo` up,
/// writes `settings` in it and opens a NETLINK_ROUTE socket in it.
///
/// `settings` is packed: path, value, path, value, ...; `setting_count` pairs. Paths are those under
/// /proc/sys; one with '-' in front may be missing. Returns the socket (close-on-exec), or -errno with `failure` filled; then the pin is gone again.
int natlab_make_namespace(
    const char *pin, const char *_Nullable settings, size_t setting_count, struct natlab_failure *failure);

/// Opens a socket in the namespace of `network`, an open file of nsfs; socket(2) says the rest.
///
/// A socket belongs for ever to the namespace it was made in, so the caller may use it from anywhere.
int natlab_socket_in(int network, int domain, int type, int protocol);

/// Opens a socket in a new namespace that nothing else holds: it goes with the socket.
int natlab_socket_in_new_namespace(int domain, int type, int protocol);

/// Writes `settings` (packed as for natlab_make_namespace) in the namespace of `network`, in order, up to
/// the first that fails; its number goes to `failed`.
int natlab_write_settings_in(int network, const char *settings, size_t setting_count, size_t *failed);

/// Runs commands of nft(8) in the namespace of `network`, as one transaction.
///
/// `output` and `messages` get what it printed and what it complained of; the caller frees both, which may be NULL.
/// `as_rules` lists with handles, and without counters' values and sets' elements.
/// Returns 0, -EINVAL when nft refused (nothing has changed then, `messages` says why), or -errno.
int natlab_nft_in(
    int network, const char *commands, bool as_rules, char *_Nullable *_Nonnull output,
    char *_Nullable *_Nonnull messages);

/// A program to run.
struct natlab_spawn {
    /// The program's file; it is not looked up in PATH.
    const char *path;
    /// Packed; the first is the program's name.
    const char *arguments;
    size_t argument_count;
    /// Packed, NAME=VALUE.
    const char *environment;
    size_t environment_count;
    /// The network namespace to run in, an open file of nsfs; -1: the caller's.
    int network;
    /// Bound on /run/wireguard in a mount namespace of the program's own; NULL: no such thing.
    const char *_Nullable wireguard_directory;
    /// Mounts a /sys that shows the network namespace's devices, as `ip netns exec` does (also in a mount
    /// namespace of the program's own).
    bool mount_sys;
    /// Standard input, output and error; -1: /dev/null.
    int input;
    int output;
    int error;
    /// Further descriptors for the program: they become 3, 4, ... there. All others are closed.
    const int *_Nullable extra;
    size_t extra_count;
    /// setsid(2): no controlling terminal, an own process group.
    bool new_session;
    /// The working directory; NULL: the caller's.
    const char *_Nullable directory;
};

/// Starts a program and waits until it has been executed.
///
/// The child starts with an empty signal mask and every signal at its default. Until its exec it dies with the
/// calling thread, so a parent that is killed leaves no half-made child. Returns the child's pid; the caller reaps it.
int natlab_spawn(const struct natlab_spawn *request, struct natlab_failure *failure);

/// Ignores SIGPIPE, and notes for natlab_exec what it was and which signals are blocked.
void natlab_ignore_broken_pipes(void);

/// Replaces this process by the program, which gets everything that exec(3) keeps: all descriptors but those that are
/// close-on-exec, the ignored signals, the session. `input`, `output`, `error`, `extra` and `new_session` say nothing
/// here. SIGPIPE and the signal mask go back to what natlab_ignore_broken_pipes found.
///
/// Returns only to say what failed. The calling thread may then already be in the other namespaces: the caller has to
/// exit.
int natlab_exec(const struct natlab_spawn *request, struct natlab_failure *failure);

/// pidfd_open(2): a descriptor that means this very process, also when its pid is given out again.
int natlab_pidfd_open(pid_t pid);

/// pidfd_send_signal(2).
int natlab_pidfd_signal(int process, int signal);

/// Takes the mount on `path` away at once, as umount(8) with --lazy: users of it keep it.
int natlab_unmount(const char *path);

/// Binds `source` on `target`.
int natlab_bind_mount(const char *source, const char *target);

/// Makes the mount at `path` and all below it shared; -EINVAL when `path` is not a mount point.
int natlab_share_mount(const char *path);

/// A file in memory, close-on-exec; `name` is for /proc only.
int natlab_memory_file(const char *name);

/// flock(2) with LOCK_EX, and LOCK_NB unless `wait`: -EWOULDBLOCK when another holds it.
int natlab_lock(int file, bool wait);

/// A datagram in a buffer of equal slots: the other side's IPv4 address and port in host byte order, and the
/// length. A received one that was longer than its slot has the slot's size plus 1.
///
/// `local` is this side's address, in host byte order: what a received one was sent to, or 0 unless the socket asks for
/// it (natlab_report_local_addresses); what to send from, or 0 to leave that to the routing table.
struct natlab_datagram {
    uint32_t address;
    uint32_t local;
    uint16_t port;
    uint16_t length;
};

/// Receives up to `count` (at most 64) datagrams of an IPv4 socket without waiting, the n-th to `buffer` + n * `slot`.
/// Returns their number. recvmmsg(2).
int natlab_receive_datagrams(
    int socket, void *buffer, size_t slot, struct natlab_datagram *datagrams, unsigned count);

/// Makes an IPv4 socket report the address that each datagram was sent to. ip(7), IP_PKTINFO.
int natlab_report_local_addresses(int socket);

/// Sends up to `count` (at most 64) datagrams without waiting; returns how many were sent before one failed, or
/// -errno when that was the first: ENETUNREACH (Linux 6.18; EINVAL in older
/// ones) where `local` is no address of this side any more. sendmmsg(2).
int natlab_send_datagrams(
    int socket, const void *buffer, size_t slot, const struct natlab_datagram *datagrams, unsigned count);

/// Lets a raw IPv4 UDP socket receive only datagrams for `port` that come from `server` and `server_port` or whose
/// first byte is `punch`; all in host byte order. Port 0 lets nothing in. socket(7), SO_ATTACH_FILTER.
int natlab_filter_udp(int socket, uint16_t port, uint32_t server, uint16_t server_port, uint8_t punch);

/// Lets a packet socket (SOCK_RAW) receive only ARP, and IPv4 for one of `addresses` (at most 64, host byte order).
/// socket(7), SO_ATTACH_FILTER.
int natlab_filter_frames(int socket, const uint32_t *addresses, size_t count);

/// Lets a packet socket receive what arrives on an interface (0: all) with this protocol (ETH_P_*), but nothing that is
/// sent there, and makes what it sends go round the interface's queueing discipline. packet(7).
int natlab_bind_frames(int socket, int interface, uint16_t protocol);

/// Sends a whole frame out of an interface without waiting.
int natlab_send_frame(int socket, int interface, const void *bytes, size_t length);

/// A packet that a packet socket has received.
struct natlab_packet {
    /// Nanoseconds since the Unix epoch, by the kernel's stamp.
    int64_t time;
    /// The whole packet's, also of one that was longer than the buffer.
    size_t length;
    /// PACKET_HOST, PACKET_BROADCAST, PACKET_MULTICAST, PACKET_OTHERHOST or PACKET_OUTGOING: 0 to 4
    /// (linux/if_packet.h).
    uint8_t kind;
};

/// Lets a packet socket receive everything that arrives at an interface and all that is sent there, with time stamps,
/// of which up to `room` bytes may wait (the kernel's overhead beside). `promiscuous` also makes a bridge show what it
/// passes on from port to port. packet(7), socket(7).
int natlab_bind_capture(int socket, int interface, int room, bool promiscuous);

/// Lets a packet socket (SOCK_RAW, not bound yet) receive only UDP over IPv4, of fragments only the first, and ICMP's
/// errors 3, 11 and 12; each packet with a struct virtio_net_hdr in front, which tells the datagrams that UDP_SEGMENT
/// (udp(7)) has put into one. packet(7), PACKET_VNET_HDR.
int natlab_watch_datagrams(int socket);

/// Receives a packet from such a socket without waiting: -EAGAIN when there is none, -ENETDOWN once when the interface
/// went down or away.
int natlab_receive_packet(int socket, void *buffer, size_t size, struct natlab_packet *packet);

/// Whether the interface that a packet socket was bound to is no more, or in another namespace.
bool natlab_has_lost_interface(int socket);

/// How many packets have come for a packet socket since the last call, and how many of these found no room. packet(7).
int natlab_packet_statistics(int socket, uint32_t *seen, uint32_t *dropped);

/// Makes a network namespace that is pinned nowhere: it goes with the last descriptor and process that has it.
///
/// Returns an open file of nsfs, close-on-exec.
int natlab_unnamed_namespace(void);

/// Opens /dev/net/tun in the namespace of `network` and makes the TUN interface `name` there, which is gone when this
/// returns: 0, or -errno with `failure`, whose stage is NATLAB_STAGE_SETTING when it was TUNSETIFF that failed.
int natlab_try_tun_in(int network, const char *name, struct natlab_failure *failure);

/// Tries what pinning and wireguard-go's mounts need: a mount namespace (NATLAB_STAGE_UNSHARE), a mount in it
/// (NATLAB_STAGE_MOUNTS), and the namespace of `network` bound on a file there (NATLAB_STAGE_PIN).
///
/// All of it is gone when this returns 0 or -errno.
int natlab_try_pin(int network, struct natlab_failure *failure);

#pragma clang assume_nonnull end

#endif
