// Packet sockets: what they receive, and whole frames.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/socket.h>

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

int natlab_bind_frames(int socket, int interface, uint16_t protocol) {
    int on = 1;
    // Not what the socket itself sends, and nothing that the interface's queueing discipline would hold back.
    if (setsockopt(socket, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof on) < 0) return -errno;
    if (setsockopt(socket, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on) < 0) return -errno;
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(protocol), .sll_ifindex = interface};
    return bind(socket, (struct sockaddr *)&address, sizeof address) < 0 ? -errno : 0;
}

int natlab_send_frame(int socket, int interface, const void *bytes, size_t length) {
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = interface};
    ssize_t sent;
    do sent = sendto(socket, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&address, sizeof address);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}
