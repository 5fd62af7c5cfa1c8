# Shared by the scripts here; sourced, not run.

say() { printf '%s\n' "$*" >&2; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 3; }
step() { printf '\n==> %s\n' "$*" >&2; }

# What natlab links against, and what it needs to run.
build_packages=(
    g++ pkg-config libmnl-dev libnl-3-dev libnl-genl-3-dev libsodium-dev libssl-dev libtomlplusplus-dev
    libnftables-dev
)
run_packages=(iptables wireguard-go)
# What README runs inside the lab.
tool_packages=(iproute2 iputils-ping wireguard-tools)

require_linux_root_swift() {
    [ "$(uname -s)" = Linux ] || die "natlab needs Linux (network namespaces); this is $(uname -s)"
    [ "$(id -u)" = 0 ] || die "must run as root: network namespaces and iptables need it. Try: sudo $0"
    if ! command -v swift >/dev/null 2>&1; then
        die "no Swift here. Install Swift 6.3 or newer from https://www.swift.org/install/linux/ and put it on PATH" \
            "(under sudo: sudo env PATH=\"\$PATH\" $0)"
    fi
    local version
    version=$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9]*\.[0-9]*\).*/\1/p' | head -n 1)
    case "$version" in
        '' | [0-5].* | 6.[0-2]) die "Swift 6.3 or newer is needed; this is '${version:-unknown}' ($(command -v swift))" ;;
    esac
}

# Installs the Debian packages that are missing, and only those.
install_packages() {
    local missing=() package
    command -v dpkg-query >/dev/null 2>&1 ||
        die "no dpkg here: on this distribution install by hand what Debian calls: $*"
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    step "installing: ${missing[*]}"
    local log
    log=$(mktemp)
    if ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        die "could not install ${missing[*]} (above is what apt-get said). Is there a network?"
    fi
    rm -f "$log"
}
