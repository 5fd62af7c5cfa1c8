// The floor that natlab's `up` and `down` are measured against: the same effects with as little code as Linux asks for.
//
//   floor up PREFIX SITES   builds PREFIX.internet and SITES sites, PREFIX.rN (router, MASQUERADE) and PREFIX.hN (host)
//   floor drop PREFIX       takes the pins of all namespaces PREFIX.* away
//   floor settle            waits until the kernel has taken dropped namespaces apart; prints when (seconds since 1970)
//
// What it leaves out is what a user wants: checks, a plan, a journal, undo, messages with a reason. One thread, one
// message batch a namespace with one acknowledgement, interface indexes chosen here so that no answer is waited for.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PINS "/run/netns"
#define INTERNET 0xC6120000u  // 198.18.0.0/16, the prefix for benchmarks (RFC 2544)
#define INTERNET_LENGTH 16
#define LAN 0xC0A80100u  // 192.168.1.0/24
#define LAN_LENGTH 24
#define MOST_SITES 1023  // ports of one bridge, BR_MAX_PORTS less the one that is never given
#define MOST_LOADS 8

// Interface indexes are chosen: a later message in the same batch can then name what an earlier one makes.
enum { LOOPBACK = 1, FIRST = 2, SECOND = 3, FIRST_PORT = 100 };

static void fail(const char *format, ...) {
    int error = errno;
    va_list arguments;
    va_start(arguments, format);
    fputs("floor: ", stderr);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, ": %s\n", strerror(error));
    va_end(arguments);
    exit(1);
}

// ---- rtnetlink: one batch at a time

static union {
    struct nlmsghdr align;
    char bytes[16384];
} batch;
static size_t used;               // bytes of the batch
static struct nlmsghdr *message;  // the one being written

static void *put(size_t length) {
    if (used + NLMSG_ALIGN(length) > sizeof batch.bytes) {
        errno = ENOBUFS;
        fail("write netlink message");
    }
    void *place = batch.bytes + used;
    memset(place, 0, NLMSG_ALIGN(length));
    used += NLMSG_ALIGN(length);
    if (message) message->nlmsg_len = (uint32_t)((char *)place + NLMSG_ALIGN(length) - (char *)message);
    return place;
}

static void *begin_message(uint16_t type, uint16_t flags, size_t body) {
    message = NULL;
    message = put(NLMSG_HDRLEN);
    message->nlmsg_len = NLMSG_HDRLEN;
    message->nlmsg_type = type;
    message->nlmsg_flags = NLM_F_REQUEST | flags;
    return put(body);
}

static struct rtattr *put_attribute(uint16_t type, const void *value, size_t length) {
    struct rtattr *attribute = put(RTA_LENGTH(length));
    attribute->rta_type = type;
    attribute->rta_len = RTA_LENGTH(length);
    if (length) memcpy(RTA_DATA(attribute), value, length);
    return attribute;
}

static void put_text(uint16_t type, const char *text) { put_attribute(type, text, strlen(text) + 1); }
static void put_number(uint16_t type, uint32_t number) { put_attribute(type, &number, sizeof number); }

static void end_nest(struct rtattr *nest) { nest->rta_len = (unsigned short)(batch.bytes + used - (char *)nest); }

// Sends the batch and waits for the acknowledgement of its last message; an error of an earlier one comes before it.
static void send_batch(int socket, const char *what) {
    message->nlmsg_flags |= NLM_F_ACK;
    if (send(socket, batch.bytes, used, 0) != (ssize_t)used) fail("send %s", what);
    union {
        struct nlmsghdr header;
        char bytes[8192];
    } answer;
    ssize_t length = recv(socket, answer.bytes, sizeof answer.bytes, 0);
    if (length < 0) fail("receive answer for %s", what);
    if (length < (ssize_t)NLMSG_LENGTH(sizeof(struct nlmsgerr)) || answer.header.nlmsg_type != NLMSG_ERROR) {
        errno = EPROTO;
        fail("%s", what);
    }
    struct nlmsgerr *error = NLMSG_DATA(&answer.header);
    if (error->error) {
        errno = -error->error;
        fail("%s", what);
    }
    used = 0;
    message = NULL;
}

static void make_bridge(const char *name, int index) {
    struct ifinfomsg *link = begin_message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof *link);
    link->ifi_index = index;
    put_text(IFLA_IFNAME, name);
    struct rtattr *information = put_attribute(IFLA_LINKINFO, NULL, 0);
    put_text(IFLA_INFO_KIND, "bridge");
    end_nest(information);
}

// Both ends where they belong, in one message; `bridge` 0: in none.
static void make_veth(const char *name, int index, int bridge, const char *peer, int peer_index, int peer_network) {
    struct ifinfomsg *link = begin_message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof *link);
    link->ifi_index = index;
    put_text(IFLA_IFNAME, name);
    if (bridge) put_number(IFLA_MASTER, (uint32_t)bridge);
    struct rtattr *information = put_attribute(IFLA_LINKINFO, NULL, 0);
    put_text(IFLA_INFO_KIND, "veth");
    struct rtattr *data = put_attribute(IFLA_INFO_DATA, NULL, 0);
    struct rtattr *other = put_attribute(VETH_INFO_PEER, NULL, 0);
    struct ifinfomsg *other_link = put(sizeof *other_link);
    other_link->ifi_index = peer_index;
    put_text(IFLA_IFNAME, peer);
    put_number(IFLA_NET_NS_FD, (uint32_t)peer_network);
    end_nest(other);
    end_nest(data);
    end_nest(information);
}

// IFF_UP in the message that makes a veth is refused, so this is one of its own.
static void bring_up(int index) {
    struct ifinfomsg *link = begin_message(RTM_NEWLINK, 0, sizeof *link);
    link->ifi_index = index;
    link->ifi_flags = IFF_UP;
    link->ifi_change = IFF_UP;
}

static void add_address(int index, uint32_t address, uint8_t length) {
    struct ifaddrmsg *body = begin_message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, sizeof *body);
    body->ifa_family = AF_INET;
    body->ifa_prefixlen = length;
    body->ifa_index = (uint32_t)index;
    put_number(IFA_LOCAL, htonl(address));
    put_number(IFA_ADDRESS, htonl(address));
    put_number(IFA_BROADCAST, htonl(address | (0xFFFFFFFFu >> length)));
}

static void add_default_route(int index, uint32_t gateway) {
    struct rtmsg *body = begin_message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, sizeof *body);
    body->rtm_family = AF_INET;
    body->rtm_table = RT_TABLE_MAIN;
    body->rtm_protocol = RTPROT_STATIC;
    body->rtm_type = RTN_UNICAST;
    put_number(RTA_GATEWAY, htonl(gateway));
    put_number(RTA_OIF, (uint32_t)index);
}

// ---- Namespaces

struct setting {
    const char *path;
    const char *value;
    int may_be_missing;
};

#define IPV4 "/proc/sys/net/ipv4/"
#define IPV6 "/proc/sys/net/ipv6/"
#define COMMON_SETTINGS \
    {IPV4 "conf/all/rp_filter", "0", 0}, {IPV4 "conf/default/rp_filter", "0", 0}, {IPV4 "icmp_ratelimit", "0", 0}, \
        {IPV6 "conf/all/accept_dad", "0", 1}, {IPV6 "conf/default/accept_dad", "0", 1}
#define ROUTER_SETTINGS \
    COMMON_SETTINGS, {IPV4 "ip_forward", "1", 0}, {IPV4 "conf/all/send_redirects", "0", 0}, \
        {IPV4 "conf/default/send_redirects", "0", 0}

static const struct setting host_settings[] = {COMMON_SETTINGS, {IPV4 "ip_forward", "0", 0}, {0}};
static const struct setting router_settings[] = {ROUTER_SETTINGS, {0}};
static const struct setting segment_settings[] = {
    ROUTER_SETTINGS, {"/proc/sys/net/bridge/bridge-nf-call-iptables", "0", 1}, {0}};

struct namespace {
    int network;  // the namespace itself
    int route;    // a NETLINK_ROUTE socket in it
};

// Makes a namespace, pins it and stays in it.
static struct namespace make_namespace(const char *prefix, const char *kind, int number, const struct setting *settings) {
    char pin[256];
    if (number) {
        snprintf(pin, sizeof pin, PINS "/%s.%s%d", prefix, kind, number);
    } else {
        snprintf(pin, sizeof pin, PINS "/%s.%s", prefix, kind);
    }
    if (unshare(CLONE_NEWNET) < 0) fail("unshare for %s", pin);
    int file = open(pin, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0);
    if (file < 0) fail("make %s", pin);
    close(file);
    if (mount("/proc/self/ns/net", pin, "none", MS_BIND, NULL) < 0) fail("pin %s", pin);
    for (; settings->path; settings++) {
        file = open(settings->path, O_WRONLY | O_CLOEXEC);
        if (file < 0 && errno == ENOENT && settings->may_be_missing) continue;
        if (file < 0 || write(file, settings->value, 1) != 1) fail("set %s in %s", settings->path, pin);
        close(file);
    }
    struct namespace made = {
        open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)};
    if (made.network < 0 || made.route < 0) fail("open %s", pin);
    return made;
}

static void close_namespace(struct namespace namespace) {
    close(namespace.network);
    close(namespace.route);
}

// ---- The firewall: one iptables-restore a router, as many at a time as there are processors

static const char rules[] =
    "*nat\n"
    "-A POSTROUTING -o wan0 -j MASQUERADE\n"
    "COMMIT\n"
    "*filter\n"
    "-A INPUT -i wan0 -m conntrack --ctstate NEW,INVALID -j DROP\n"
    "-A FORWARD -i wan0 -m conntrack --ctstate NEW,INVALID -m conntrack ! --ctstate DNAT -j DROP\n"
    "COMMIT\n";

static pid_t loads[MOST_LOADS];
static char rules_path[64];

static void finish_load(size_t slot) {
    int status;
    if (!loads[slot]) return;
    if (waitpid(loads[slot], &status, 0) < 0) fail("wait for iptables-restore");
    loads[slot] = 0;
    if (status != 0) {
        errno = EIO;
        fail("iptables-restore ended with status %#x", status);
    }
}

static void write_rules_once(void) {
    int file = memfd_create("rules", 0);
    if (file < 0 || write(file, rules, sizeof rules - 1) != (ssize_t)sizeof rules - 1) fail("write rules");
    // Opened anew by each child: a shared descriptor would share its offset.
    snprintf(rules_path, sizeof rules_path, "/proc/self/fd/%d", file);
}

// In the namespace that the process is in.
static void start_load(size_t slot) {
    finish_load(slot);
    char *arguments[] = {"iptables-restore", "--noflush", "--wait", NULL};
    char *environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, rules_path, O_RDONLY, 0);
    int error = posix_spawnp(&loads[slot], arguments[0], &actions, NULL, arguments, environment);
    posix_spawn_file_actions_destroy(&actions);
    if (error) {
        errno = error;
        fail("start iptables-restore");
    }
}

// ---- Commands

static void up(const char *prefix, int sites) {
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    size_t most = processors < 1 ? 1 : processors > MOST_LOADS ? MOST_LOADS : (size_t)processors;
    if (mkdir(PINS, 0755) < 0 && errno != EEXIST) fail("make " PINS);
    write_rules_once();
    struct namespace internet = make_namespace(prefix, "internet", 0, segment_settings);
    bring_up(LOOPBACK);
    make_bridge("br0", FIRST);
    add_address(FIRST, INTERNET + 1, INTERNET_LENGTH);
    bring_up(FIRST);
    send_batch(internet.route, "segment");
    for (int site = 1; site <= sites; site++) {
        struct namespace router = make_namespace(prefix, "r", site, router_settings);
        // Rules name interfaces that need not be there yet.
        start_load((size_t)site % most);
        struct namespace host = make_namespace(prefix, "h", site, host_settings);
        char port[IFNAMSIZ];
        snprintf(port, sizeof port, "r%d", site);
        make_veth(port, FIRST_PORT + site, FIRST, "wan0", FIRST, router.network);
        bring_up(FIRST_PORT + site);
        send_batch(internet.route, "uplink");
        make_veth("lan0", SECOND, 0, "eth0", FIRST, host.network);
        add_address(FIRST, INTERNET + 1 + (uint32_t)site, INTERNET_LENGTH);
        add_address(SECOND, LAN + 1, LAN_LENGTH);
        bring_up(LOOPBACK);
        bring_up(FIRST);
        bring_up(SECOND);
        add_default_route(FIRST, INTERNET + 1);
        send_batch(router.route, "router");
        add_address(FIRST, LAN + 2, LAN_LENGTH);
        bring_up(LOOPBACK);
        bring_up(FIRST);
        add_default_route(FIRST, LAN + 1);
        send_batch(host.route, "host");
        close_namespace(router);
        close_namespace(host);
    }
    for (size_t slot = 0; slot < most; slot++) finish_load(slot);
}

static void drop(const char *prefix) {
    size_t length = strlen(prefix);
    DIR *folder = opendir(PINS);
    if (!folder) fail("open " PINS);
    char(*names)[NAME_MAX + 1] = NULL;
    size_t count = 0;
    // Read whole before anything goes: what readdir does beside removals is not specified.
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (strncmp(entry->d_name, prefix, length) != 0 || entry->d_name[length] != '.') continue;
        names = realloc(names, (count + 1) * sizeof *names);
        if (!names) fail("remember names");
        memcpy(names[count++], entry->d_name, strlen(entry->d_name) + 1);
    }
    for (size_t index = 0; index < count; index++) {
        const char *name = names[index];
        if (umount2(name, MNT_DETACH) < 0 && errno != EINVAL) fail("unmount %s", name);
        if (unlink(name) < 0) fail("remove %s", name);
    }
    free(names);
    closedir(folder);
}

// Whether a kernel worker is at work for the `netns` workqueue. Dropped namespaces are taken apart by cleanup_net(), which
// only runs there, one batch after the other. A worker is called kworker/ID+QUEUE while it works, kworker/ID-QUEUE after.
static int kernel_is_dropping(void) {
    DIR *processes = opendir("/proc");
    if (!processes) fail("open /proc");
    int found = 0;
    for (struct dirent *entry; !found && (entry = readdir(processes));) {
        if (!isdigit((unsigned char)entry->d_name[0])) continue;
        char path[300], name[128];
        snprintf(path, sizeof path, "/proc/%s/comm", entry->d_name);
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0) continue;  // it ended meanwhile
        ssize_t length = read(file, name, sizeof name - 1);
        close(file);
        name[length > 0 ? length : 0] = 0;
        found = strncmp(name, "kworker/", 8) == 0 && strstr(name, "+netns\n") != NULL;
    }
    closedir(processes);
    return found;
}

static void settle(void) {
    char name[32] = "";
    FILE *file = fopen("/proc/2/comm", "re");
    if (!file || !fgets(name, sizeof name, file) || strcmp(name, "kthreadd\n") != 0) {
        errno = ENOTSUP;
        fail("see the kernel's threads (a container with process ids of its own?)");
    }
    fclose(file);
    struct timespec idle, pause = {0, 2000 * 1000};
    // Between two batches the queue looks idle for microseconds: only three looks in a row tell.
    for (int looks = 0, all = 0; looks < 3; all++) {
        if (kernel_is_dropping()) looks = 0;
        else if (looks++ == 0) clock_gettime(CLOCK_REALTIME, &idle);
        if (all > 60 * 1000) {
            errno = ETIMEDOUT;
            fail("wait for the kernel to drop namespaces");
        }
        nanosleep(&pause, NULL);
    }
    printf("%lld.%06ld\n", (long long)idle.tv_sec, idle.tv_nsec / 1000);
}

int main(int count, char **arguments) {
    const char *command = count > 1 ? arguments[1] : "";
    if (strcmp(command, "up") == 0 && count == 4) {
        int sites = atoi(arguments[3]);
        if (sites >= 1 && sites <= MOST_SITES) {
            up(arguments[2], sites);
            return 0;
        }
    } else if (strcmp(command, "drop") == 0 && count == 3) {
        if (chdir(PINS) < 0) fail("enter " PINS);
        drop(arguments[2]);
        return 0;
    } else if (strcmp(command, "settle") == 0 && count == 2) {
        settle();
        return 0;
    }
    fputs("usage: floor up PREFIX SITES (1-1023) | floor drop PREFIX | floor settle\n", stderr);
    return 2;
}
