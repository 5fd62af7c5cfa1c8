// Many datagrams a system call, the own address of each, and the filter of a raw socket.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "CNatlab.h"

enum { BATCH = 64 };

// Room for one control message; aligned as cmsg(3) wants it.
union own_address {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(struct in_pktinfo))];
};

int natlab_report_local_addresses(int socket) {
    int on = 1;
    return setsockopt(socket, IPPROTO_IP, IP_PKTINFO, &on, sizeof on) < 0 ? -errno : 0;
}

// The specific destination, not the header's: they differ for a broadcast, which cannot be answered from (ip(7)).
static uint32_t local_address(struct msghdr *message) {
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level != IPPROTO_IP || part->cmsg_type != IP_PKTINFO) continue;
        struct in_pktinfo info;
        memcpy(&info, CMSG_DATA(part), sizeof info);
        return ntohl(info.ipi_spec_dst.s_addr);
    }
    return 0;
}

static void set_local_address(struct msghdr *message, union own_address *control, uint32_t address) {
    message->msg_control = control;
    message->msg_controllen = sizeof *control;
    struct cmsghdr *part = CMSG_FIRSTHDR(message);
    *part = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo)), .cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO};
    // Interface 0: the routing table chooses the way out, as it does without all this.
    struct in_pktinfo info = {.ipi_spec_dst.s_addr = htonl(address)};
    memcpy(CMSG_DATA(part), &info, sizeof info);
}

int natlab_receive_datagrams(
    int socket, void *buffer, size_t slot, struct natlab_datagram *datagrams, unsigned count) {
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH];
    struct sockaddr_in sources[BATCH];
    union own_address controls[BATCH];
    if (count > BATCH) count = BATCH;
    for (unsigned i = 0; i < count; i++) {
        parts[i] = (struct iovec){.iov_base = (char *)buffer + i * slot, .iov_len = slot};
        messages[i] = (struct mmsghdr){
            .msg_hdr = {
                .msg_name = &sources[i], .msg_namelen = sizeof sources[i], .msg_iov = &parts[i], .msg_iovlen = 1,
                .msg_control = &controls[i], .msg_controllen = sizeof controls[i]}};
    }
    int got;
    do got = recvmmsg(socket, messages, count, MSG_DONTWAIT, NULL);
    while (got < 0 && errno == EINTR);
    if (got < 0) return -errno;
    for (int i = 0; i < got; i++) {
        datagrams[i].address = ntohl(sources[i].sin_addr.s_addr);
        datagrams[i].port = ntohs(sources[i].sin_port);
        datagrams[i].local = local_address(&messages[i].msg_hdr);
        datagrams[i].length = messages[i].msg_hdr.msg_flags & MSG_TRUNC ? slot + 1 : messages[i].msg_len;
    }
    return got;
}

int natlab_send_datagrams(
    int socket, const void *buffer, size_t slot, const struct natlab_datagram *datagrams, unsigned count) {
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH];
    struct sockaddr_in targets[BATCH];
    union own_address controls[BATCH];
    if (count > BATCH) count = BATCH;
    for (unsigned i = 0; i < count; i++) {
        parts[i] = (struct iovec){.iov_base = (char *)buffer + i * slot, .iov_len = datagrams[i].length};
        targets[i] = (struct sockaddr_in){
            .sin_family = AF_INET, .sin_port = htons(datagrams[i].port), .sin_addr.s_addr = htonl(datagrams[i].address)};
        messages[i] = (struct mmsghdr){
            .msg_hdr = {
                .msg_name = &targets[i], .msg_namelen = sizeof targets[i], .msg_iov = &parts[i], .msg_iovlen = 1}};
        if (datagrams[i].local) set_local_address(&messages[i].msg_hdr, &controls[i], datagrams[i].local);
    }
    int sent;
    do sent = sendmmsg(socket, messages, count, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

// The packet begins with the IP header (raw(7)); X is its length. Offsets: RFC 791 section 3.1, RFC 768.
int natlab_filter_udp(int socket, uint16_t port, uint32_t server, uint16_t server_port, uint8_t punch) {
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 9),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 12),
        // Only whole packets, or first fragments.
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 6),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x1fff, 10, 0),
        BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),
        BPF_STMT(BPF_LD | BPF_H | BPF_IND, 2),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, port, 0, 7),
        // A punch from anywhere ...
        BPF_STMT(BPF_LD | BPF_B | BPF_IND, 8),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, punch, 4, 0),
        // ... or anything from the server.
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 12),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, server, 0, 3),
        BPF_STMT(BPF_LD | BPF_H | BPF_IND, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, server_port, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0xffff),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog filter = {.len = sizeof program / sizeof program[0], .filter = program};
    return setsockopt(socket, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter) < 0 ? -errno : 0;
}
