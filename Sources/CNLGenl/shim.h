// <netinet/in.h> comes first: modules that include Linux headers clash otherwise.
#include <netinet/in.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <linux/wireguard.h>
#include <netlink/errno.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

/// Binds a netlink socket to a port id of the kernel's choice, as libnl expects of a socket it adopts.
///
/// Returns 0 or -1 with errno; a socket that is bound already keeps its port id.
static inline int cnlgenl_bind(int file) {
    struct sockaddr_nl address;
    socklen_t length = sizeof(address);
    memset(&address, 0, sizeof(address));
    if (getsockname(file, (struct sockaddr *)&address, &length) != 0) return -1;
    if (length == sizeof(address) && address.nl_family == AF_NETLINK && address.nl_pid != 0) return 0;
    memset(&address, 0, sizeof(address));
    address.nl_family = AF_NETLINK;
    return bind(file, (struct sockaddr *)&address, sizeof(address));
}

/// Receives one datagram into a buffer that libnl allocates; release it with cnlgenl_free.
///
/// Returns its length (0: nothing there), or a negative NLE code. `port` is the sender's port id, 0 for the kernel.
static inline int cnlgenl_receive(struct nl_sock *socket, unsigned char **buffer, uint32_t *port) {
    struct sockaddr_nl sender;
    memset(&sender, 0, sizeof(sender));
    int count = nl_recv(socket, &sender, buffer, NULL);
    *port = sender.nl_pid;
    return count;
}

/// Wipes and releases a buffer of cnlgenl_receive: an answer about a WireGuard interface carries its private key.
static inline void cnlgenl_free(unsigned char *buffer, size_t count) {
    if (buffer == NULL) return;
    explicit_bzero(buffer, count);
    free(buffer);
}
