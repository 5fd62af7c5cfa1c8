# shellcheck shell=bash disable=SC2154 # $work, $id, $natlab, $floor, ... are scripts/bench's
# The measurements; sourced by scripts/bench. Each works under names that begin with $id, which cleanup() removes.

# run COMMAND…: sets took to its milliseconds of wall time. What it says is shown only when it fails.
run() {
    local begin=$EPOCHREALTIME
    if ! "$@" >"$work/said" 2>&1; then
        cat "$work/said" >&2
        die "failed: $*"
    fi
    took=$(milliseconds "$begin" "$EPOCHREALTIME")
}

milliseconds() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f", (b - a) * 1000 }'; }

settle() { "$floor" settle || die "cannot tell when the kernel has dropped namespaces"; }

# run_and_settle COMMAND…: took, and settled: the milliseconds until the kernel has taken the namespaces apart that
# the command dropped.
run_and_settle() {
    local began=$EPOCHREALTIME end
    run "$@"
    end=$(settle)
    settled=$(milliseconds "$began" "$end")
}

# write_sites FILE LAB SITES: a topology of SITES routers with MASQUERADE, each with a host; no WireGuard.
write_sites() {
    local site
    {
        printf 'name = "%s"\n[segment.internet]\nprefix = "198.18.0.0/16"\n' "$2"
        for ((site = 1; site <= $3; site++)); do
            printf '[router.r%d]\nuplink = "internet"\nlan = "192.168.1.0/24"\nnat = "masquerade"\n' "$site"
            printf '[host.h%d]\non = "r%d"\n' "$site" "$site"
        done
    } >"$1"
}

# describe PREFIX SITES: everything that the three ways of building shall do alike.
describe() {
    local site name namespace keys=(
        net.ipv4.ip_forward net.ipv4.conf.{all,default}.{rp_filter,send_redirects} net.ipv4.icmp_ratelimit
        net.ipv6.conf.{all,default}.accept_dad net.bridge.bridge-nf-call-iptables)
    for name in internet $(for ((site = 1; site <= $2; site++)); do echo "r$site h$site"; done); do
        namespace=$1.$name
        echo "== $name"
        ip -n "$namespace" -o -4 addr show | sed 's/^[0-9]*: //'
        # Indexes and hardware addresses are any; the carrier's state is updated later.
        ip -n "$namespace" -o link show |
            sed -E 's/^[0-9]+: //; s/@if[0-9]+//; s/link\/ether [0-9a-f:]+//; s/link-netns [^ ]+|link-netnsid [0-9]+//
                s/<[^>]*\bUP\b[^>]*>/UP/; s/state [A-Z]+//' | sort
        ip -n "$namespace" route show
        ip netns exec "$namespace" iptables-save | grep '^[*-]' || true
        ip netns exec "$namespace" sysctl -e "${keys[@]}"
    done
}

# The comparison is one only when all three build the same: looked at each time, before anything is timed.
require_same_effects() {
    local way
    step "checking that natlab, the script and the floor build the same"
    write_sites "$work/same.toml" "$id" 2
    run "$natlab" up "$work/same.toml"
    run "$sites_script" up "$id-script" 2
    run "$floor" up "$id-floor" 2
    describe "$id" 2 >"$work/same.natlab"
    for way in script floor; do
        describe "$id-$way" 2 >"$work/same.$way"
        diff -u "$work/same.natlab" "$work/same.$way" >&2 || die "the $way does not build what natlab builds"
    done
    run "$natlab" down --lab "$id"
    run "$sites_script" down "$id-script"
    run "$floor" drop "$id-floor"
    settle >/dev/null
}

# Builds and removes the same sites in the three ways, one after the other, round by round.
measure_up_and_down() {
    local round
    local n_up=() s_up=() f_up=() n_own=() f_own=() n_gone=() s_gone=() f_gone=()
    require_same_effects
    write_sites "$work/sites.toml" "$id" "$sites"
    for ((round = 1; round <= rounds; round++)); do
        step "up and down of $sites sites, round $round of $rounds"
        run "$natlab" up "$work/sites.toml"
        n_up+=("$took")
        settle >/dev/null
        run_and_settle "$natlab" down --lab "$id"
        n_own+=("$took") n_gone+=("$settled")
        run "$sites_script" up "$id-script" "$sites"
        s_up+=("$took")
        settle >/dev/null
        run_and_settle "$sites_script" down "$id-script"
        s_gone+=("$settled")
        run "$floor" up "$id-floor" "$sites"
        f_up+=("$took")
        settle >/dev/null
        run_and_settle "$floor" drop "$id-floor"
        f_own+=("$took") f_gone+=("$settled")
    done
    # shellcheck disable=SC2046 # lists of numbers
    if wants up; then
        figure up "natlab" ms/site "" $(each_over "$sites" "${n_up[@]}")
        figure up "script of ip and iptables" ms/site "" $(each_over "$sites" "${s_up[@]}")
        figure up "C floor" ms/site "" $(each_over "$sites" "${f_up[@]}")
        figure up "script / natlab" times "at least 8" $(quotients "${s_up[*]}" "${n_up[*]}")
        figure up "natlab / C floor" times "at most 2" $(quotients "${n_up[*]}" "${f_up[*]}")
    fi
    # shellcheck disable=SC2046
    if wants down; then
        figure down "natlab, until the kernel is done" ms "" "${n_gone[@]}"
        figure down "unmounts only, until the kernel is done" ms "" "${f_gone[@]}"
        figure down "ip netns del, until the kernel is done" ms "" "${s_gone[@]}"
        figure down "natlab's command itself" ms "" "${n_own[@]}"
        figure down "unmounts themselves" ms "" "${f_own[@]}"
        figure down "natlab / unmounts only, kernel done" times "at most 1.3" $(quotients "${n_gone[*]}" "${f_gone[*]}")
    fi
}

# The most sites up to --scale that this machine has room for; what a site takes is measured on the small lab.
possible_sites() {
    local before after possible=$scale most
    write_sites "$work/small.toml" "$id" "$sites"
    settle >/dev/null
    before=$(awk '/^MemAvailable/ { print $2 }' /proc/meminfo)
    run "$natlab" up "$work/small.toml"
    after=$(awk '/^MemAvailable/ { print $2 }' /proc/meminfo)
    run "$natlab" down --lab "$id"
    settle >/dev/null
    # Three quarters of what is free.
    most=$(((before * 3 / 4) / ((before - after) / sites + 1)))
    [ "$most" -ge "$possible" ] || possible=$most
    most=$((($(cat /proc/sys/user/max_net_namespaces) - $(lsns -t net -n | wc -l)) / 2 - 1))
    [ "$most" -ge "$possible" ] || possible=$most
    [ "$possible" -gt "$sites" ] || die "this machine has room for $possible sites only; --sites $sites is not less"
    echo "$possible"
}

measure_scale() {
    local most round
    local n_small=() n_large=() f_small=() f_large=()
    step "scale: how many sites have room"
    most=$(possible_sites)
    [ "$most" -eq "$scale" ] || say "bench: room for $most sites instead of $scale"
    write_sites "$work/small.toml" "$id" "$sites"
    write_sites "$work/large.toml" "$id" "$most"
    for ((round = 1; round <= rounds; round++)); do
        step "scale: $sites and $most sites, round $round of $rounds"
        run "$natlab" up "$work/small.toml"
        n_small+=("$took")
        run "$natlab" down --lab "$id"
        settle >/dev/null
        run "$natlab" up "$work/large.toml"
        n_large+=("$took")
        run "$natlab" down --lab "$id"
        settle >/dev/null
        run "$floor" up "$id-floor" "$sites"
        f_small+=("$took")
        run "$floor" drop "$id-floor"
        settle >/dev/null
        run "$floor" up "$id-floor" "$most"
        f_large+=("$took")
        run "$floor" drop "$id-floor"
        settle >/dev/null
    done
    local n1 n2 f1 f2
    n1=$(each_over "$sites" "${n_small[@]}") n2=$(each_over "$most" "${n_large[@]}")
    f1=$(each_over "$sites" "${f_small[@]}") f2=$(each_over "$most" "${f_large[@]}")
    # shellcheck disable=SC2046,SC2086 # lists of numbers
    {
        figure scale "natlab, $sites sites" ms/host "" $n1
        figure scale "natlab, $most sites" ms/host "" $n2
        figure scale "natlab, $most / $sites" times "at most 1.5" $(quotients "$n2" "$n1")
        figure scale "C floor, $sites sites" ms/host "" $f1
        figure scale "C floor, $most sites" ms/host "" $f2
        figure scale "C floor, $most / $sites" times "" $(quotients "$f2" "$f1")
    }
}

# start_up WHAT COMMAND…: the whole process, 200 times.
start_up() {
    local what=$1 number values=()
    shift
    if command -v hyperfine >/dev/null 2>&1; then
        if ! hyperfine -N --style none --warmup 10 --runs 200 --export-json "$work/hyperfine.json" "$*" >/dev/null 2>"$work/said"; then
            cat "$work/said" >&2
            die "failed: $*"
        fi
        mapfile -t values < <(jq '.results[0].times[] * 1000' "$work/hyperfine.json")
    else
        # The shell's own fork is in these figures.
        what+=" (without hyperfine)"
        for ((number = 1; number <= 200; number++)); do
            run "$@"
            values+=("$took")
        done
    fi
    figure startup "$what" ms "under 15" "${values[@]}"
}

measure_startup() {
    step "start-up"
    (cd "$work" && "$natlab" init quickstart >/dev/null 2>&1) || die "natlab init quickstart failed"
    start_up "natlab --version" "$natlab" --version
    start_up "natlab check quickstart.toml" "$natlab" check "$work/quickstart.toml"
}

measure_rendezvous() {
    local round lookups=() handshakes=() bytes=()
    for ((round = 1; round <= rounds; round++)); do
        step "rendezvous, round $round of $rounds"
        if ! "$natlab" rendezvous bench >"$work/rendezvous.json" 2>"$work/said"; then
            cat "$work/said" >&2
            die "natlab rendezvous bench failed"
        fi
        lookups+=("$(jq .lookupsPerSecond "$work/rendezvous.json")")
        handshakes+=("$(jq .handshakesPerSecond "$work/rendezvous.json")")
        bytes+=("$(jq .bytesPerClient "$work/rendezvous.json")")
    done
    # natpunch-go's, measured in the same way (CPU time of one core, 32 outstanding): 66-89 thousand and 2.6-3.0 thousand.
    figure rendezvous "lookups" "1/s a core" "3 x 66,000-89,000" "${lookups[@]}"
    figure rendezvous "handshakes" "1/s a core" "2 x 2,600-3,000" "${handshakes[@]}"
    figure rendezvous "a registered client" bytes "at most 1,000" "${bytes[@]}"
}

# measure_template TEMPLATE: the first handshake of each pair, over 10 labs.
measure_template() {
    local template=$1 number pair values
    mkdir -p "$work/$template"
    (cd "$work/$template" && "$natlab" init "$template" >/dev/null 2>&1) || die "natlab init $template failed"
    sed -i "s/^name = .*/name = \"$id\"/" "$work/$template/$template.toml"
    : >"$work/$template/pairs"
    for ((number = 1; number <= handshake_runs; number++)); do
        run "$natlab" up "$work/$template/$template.toml"
        if ! "$natlab" verify --lab "$id" --json >"$work/verify.json" 2>"$work/said"; then
            cat "$work/verify.json" "$work/said" >&2
            die "natlab verify: a pair of $template is not as expected"
        fi
        jq -r '.pairs[] | select(.first_handshake_ms) | [.from + " - " + .to, .first_handshake_ms] | @tsv' \
            "$work/verify.json" >>"$work/$template/pairs"
        run "$natlab" down --lab "$id"
        settle >/dev/null
    done
    while read -r pair; do
        values=$(awk -F '\t' -v pair="$pair" '$1 == pair { print $2 }' "$work/$template/pairs")
        # shellcheck disable=SC2086 # a list of numbers
        figure handshake "$template: $pair" ms "under 100; retry 1000" $values
    done < <(cut -f 1 "$work/$template/pairs" | sort -u)
}

measure_handshake() {
    local template
    for template in quickstart cgnat; do
        step "first handshake: $template, $handshake_runs labs"
        measure_template "$template"
    done
}
