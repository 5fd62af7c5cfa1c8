#!/usr/bin/env bash
# What somebody without natlab would write: sites of a NAT router and a host, one `ip` or `iptables` call after the other.
#
#   sites.sh up PREFIX SITES    builds PREFIX.internet, PREFIX.rN and PREFIX.hN, the same as `natlab up` of such a topology
#   sites.sh down PREFIX        removes them
set -euo pipefail

base=$(((198 << 24) + (18 << 16)))  # 198.18.0.0/16
common=(net.ipv4.conf.{all,default}.rp_filter=0 net.ipv4.icmp_ratelimit=0 net.ipv6.conf.{all,default}.accept_dad=0)
router=("${common[@]}" net.ipv4.ip_forward=1 net.ipv4.conf.{all,default}.send_redirects=0)

dotted() { printf -v "$1" '%d.%d.%d.%d' $(($2 >> 24)) $(($2 >> 16 & 255)) $(($2 >> 8 & 255)) $(($2 & 255)); }

# set_in NAMESPACE KEY=VALUE…: all in one call; -e: a kernel without IPv6 or br_netfilter lacks some.
set_in() {
    local namespace=$1
    shift
    ip netns exec "$namespace" sysctl -qew "$@"
}

up() {
    local prefix=$1 sites=$2 internet=$1.internet gateway address site r h
    dotted gateway $((base + 1))
    ip netns add "$internet"
    set_in "$internet" "${router[@]}" net.bridge.bridge-nf-call-iptables=0
    ip -n "$internet" link set lo up
    ip -n "$internet" link add br0 type bridge
    ip -n "$internet" addr add "$gateway/16" brd + dev br0
    ip -n "$internet" link set br0 up
    for ((site = 1; site <= sites; site++)); do
        r=$prefix.r$site
        h=$prefix.h$site
        ip netns add "$r"
        set_in "$r" "${router[@]}"
        ip -n "$r" link set lo up
        ip netns add "$h"
        set_in "$h" "${common[@]}" net.ipv4.ip_forward=0
        ip -n "$h" link set lo up
        ip link add "r$site" netns "$internet" type veth peer name wan0 netns "$r"
        ip -n "$internet" link set "r$site" master br0 up
        ip link add lan0 netns "$r" type veth peer name eth0 netns "$h"
        dotted address $((base + 1 + site))
        ip -n "$r" addr add "$address/16" brd + dev wan0
        ip -n "$r" addr add 192.168.1.1/24 brd + dev lan0
        ip -n "$r" link set wan0 up
        ip -n "$r" link set lan0 up
        ip -n "$r" route add default via "$gateway" dev wan0 proto static
        ip -n "$h" addr add 192.168.1.2/24 brd + dev eth0
        ip -n "$h" link set eth0 up
        ip -n "$h" route add default via 192.168.1.1 dev eth0 proto static
        ip netns exec "$r" iptables -t nat -A POSTROUTING -o wan0 -j MASQUERADE
        ip netns exec "$r" iptables -A INPUT -i wan0 -m conntrack --ctstate NEW,INVALID -j DROP
        ip netns exec "$r" iptables -A FORWARD -i wan0 -m conntrack --ctstate NEW,INVALID \
            -m conntrack ! --ctstate DNAT -j DROP
    done
}

down() {
    local pin
    for pin in "/run/netns/$1."*; do
        [ ! -e "$pin" ] || ip netns del "${pin##*/}"
    done
}

case "${1-} $#" in
    'up 3') up "$2" "$3" ;;
    'down 2') down "$2" ;;
    *)
        echo "usage: sites.sh up PREFIX SITES | sites.sh down PREFIX" >&2
        exit 2
        ;;
esac
