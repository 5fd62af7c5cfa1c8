// Packet sockets: what they receive, whole frames, and captures.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "CNatlab.h"

enum { MOST_ADDRESSES = 64 };

// The frame begins with the Ethernet header; offsets: RFC 791 section 3.1 behind 14 bytes.
int natlab_filter_frames(int socket, const uint32_t *addresses, size_t count) {
    if (count > MOST_ADDRESSES) return -EINVAL;
    struct sock_filter program[MOST_ADDRESSES + 6];
    unsigned length = 0, accept = (unsigned)count + 5;
    program[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12);
    program[length] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_ARP, accept - length - 1, 0);
    length++;
    // Jumps to the refusal, which is the one but last.
    program[length] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, accept - length - 2);
    length++;
    program[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 14 + 16);
    for (size_t i = 0; i < count; i++, length++)
        program[length] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, addresses[i], accept - length - 1, 0);
    program[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
    program[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0xffff);
    struct sock_fprog filter = {.len = length, .filter = program};
    return setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) < 0 ? -errno : 0;
}

static int bind_to(int socket, int interface, uint16_t protocol) {
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(protocol), .sll_ifindex = interface};
    return bind(socket, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
}

int natlab_bind_frames(int socket, int interface, uint16_t protocol) {
    int on = 1;
    // Not what the socket itself sends, and nothing that the interface's queueing discipline would hold back.
    if (setsockopt(socket, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) < 0) return -errno;
    if (setsockopt(socket, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on) < 0) return -errno;
    return bind_to(socket, interface, protocol);
}

int natlab_send_frame(int socket, int interface, const void *bytes, size_t length) {
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = interface};
    ssize_t sent;
    do sent = sendto(socket, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&address, sizeof address);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

int natlab_bind_capture(int socket, int interface, int room, bool promiscuous) {
    int on = 1;
    if (setsockopt(socket, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) < 0) return -errno;
    // Beyond net.core.rmem_max, which is a limit for those without CAP_NET_ADMIN.
    if (setsockopt(socket, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room) < 0) return -errno;
    struct packet_mreq membership = {.mr_ifindex = interface, .mr_type = PACKET_MR_PROMISC};
    if (promiscuous && setsockopt(socket, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &membership, sizeof membership) < 0)
        return -errno;
    return bind_to(socket, interface, ETH_P_ALL);
}

int natlab_watch_datagrams(int socket) {
    // From the IP header on, whatever is in front of it (linux/filter.h).
    const uint32_t ip = (uint32_t)SKF_NET_OFF;
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PROTOCOL)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 10),
        // Behind the first fragment there is no port.
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, ip + 6),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x1fff, 8, 0),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, ip + 9),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 7, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_ICMP, 0, 5),
        BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, ip),
        BPF_STMT(BPF_LD | BPF_B | BPF_IND, ip),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 3, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 11, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 12, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, 0x40000),
    };
    struct sock_fprog filter = {.len = sizeof program / sizeof program[0], .filter = program};
    if (setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) < 0) return -errno;
    int on = 1;
    return setsockopt(socket, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) < 0 ? -errno : 0;
}

// Room for one control message; aligned as cmsg(3) wants it.
union time_stamp {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(struct timespec))];
};

int natlab_receive_packet(int socket, void *buffer, size_t size, struct natlab_packet *packet) {
    union time_stamp control;
    struct sockaddr_ll source;
    struct iovec part = {.iov_base = buffer, .iov_len = size};
    struct msghdr message = {
        .msg_name = &source, .msg_namelen = sizeof source, .msg_iov = &part, .msg_iovlen = 1,
        .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t length;
    // MSG_TRUNC: the packet's length, not what of it there was room for.
    do length = recvmsg(socket, &message, MSG_DONTWAIT | MSG_TRUNC);
    while (length < 0 && errno == EINTR);
    if (length < 0) return -errno;
    struct timespec time = {0};
    for (struct cmsghdr *one = CMSG_FIRSTHDR(&message); one; one = CMSG_NXTHDR(&message, one))
        if (one->cmsg_level == SOL_SOCKET && one->cmsg_type == SCM_TIMESTAMPNS)
            memcpy(&time, CMSG_DATA(one), sizeof time);
    *packet = (struct natlab_packet){
        .time = (int64_t)time.tv_sec * 1000000000 + time.tv_nsec, .length = length, .kind = source.sll_pkttype};
    return 0;
}

bool natlab_has_lost_interface(int socket) {
    struct sockaddr_ll address;
    socklen_t length = sizeof address;
    // The kernel unbinds the socket with index -1 (af_packet.c, NETDEV_UNREGISTER).
    return getsockname(socket, (struct sockaddr *)&address, &length) == 0 && address.sll_ifindex == -1;
}

int natlab_packet_statistics(int socket, uint32_t *seen, uint32_t *dropped) {
    struct tpacket_stats statistics;
    socklen_t length = sizeof statistics;
    if (getsockopt(socket, SOL_PACKET, PACKET_STATISTICS, &statistics, &length) < 0) return -errno;
    *seen = statistics.tp_packets;
    *dropped = statistics.tp_drops;
    return 0;
}
