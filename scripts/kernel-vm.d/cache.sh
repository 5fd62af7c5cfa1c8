# shellcheck shell=bash
# The cache of scripts/kernel-vm, which sources this: the unpacked kernel and the programs that run a command under it.
#
#     CACHE/lock                     held while anything here is made
#     CACHE/current -> KERNEL        the kernel to use
#     CACHE/KERNEL/vmlinux, lib/modules/RELEASE, release
#     CACHE/KERNEL/programs-HASH/host, initrd     built from the sources whose hash that is
#
# Everything is made under another name and renamed when whole, so that a killed run leaves nothing that looks complete.

vm_cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/natlab/kernel-vm
vm_meta_package=linux-image-amd64

# The modules the VM needs to reach the host's files; all others load on demand, from there.
vm_boot_modules=(virtio_pci virtio_console 9pnet_virtio 9p overlay)

# Drivers of hardware that no VM has: three quarters of the package.
vm_unneeded_modules=(
    sound drivers/ata drivers/gpu drivers/hid drivers/hwmon drivers/iio drivers/infiniband drivers/input drivers/md
    drivers/media drivers/net/ethernet drivers/net/wireless drivers/platform drivers/scsi drivers/staging drivers/usb
)

# vm_require_tools all|used: installs what is missing; what only fills the cache is not `used` once that is done.
vm_require_tools() {
    local missing=()
    command -v qemu-system-x86_64 >/dev/null || missing+=(qemu-system-x86)
    # The VM's kernel starts /sbin/modprobe, by that name, in the host's tree.
    [ -x /sbin/modprobe ] || missing+=(kmod)
    if [ "$1" = all ] || [ ! -e "$vm_cache/current" ]; then
        command -v cpio >/dev/null || missing+=(cpio)
        command -v xz >/dev/null || missing+=(xz-utils)
        command -v gcc >/dev/null || missing+=(gcc)
        [ -e /usr/lib/x86_64-linux-gnu/libc.a ] || missing+=(libc6-dev)
    fi
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || die "missing: ${missing[*]}. Try: sudo apt-get install ${missing[*]}"
    install_packages "${missing[@]}"
}

# vm_logged COMMAND…: shows what it said only if it fails.
vm_logged() {
    local said
    said=$("$@" 2>&1) || { say "$said"; return 1; }
}

# Takes the cache's lock, and removes what a killed run left.
vm_lock_cache() {
    mkdir -p "$vm_cache" || die "cannot make $vm_cache"
    exec {vm_cache_lock}>"$vm_cache/lock"
    flock -n "$vm_cache_lock" || { say "kernel-vm: another run prepares the kernel; waiting"; flock "$vm_cache_lock"; }
    rm -rf "$vm_cache"/new.*
}

vm_unlock_cache() { exec {vm_cache_lock}>&-; }

# vm_field PACKAGE FIELD: that field of the version apt would install; empty if there is none.
vm_field() { LC_ALL=C apt-cache show --no-all-versions "$1" 2>/dev/null | sed -n "s/^$2: //p" | head -n 1; }

# Finds the kernel the metapackage stands for; sets vm_package and vm_version.
vm_find_kernel() {
    command -v apt-get >/dev/null || die "no apt-get here: the kernel comes from Debian's archive"
    local update=$1
    if [ "$update" != refresh ] && [ -n "$(vm_field "$vm_meta_package" Depends)" ]; then
        :
    elif [ "$(id -u)" = 0 ]; then
        step "apt-get update"
        vm_logged apt-get update -qq || die "apt-get update failed (above). Is there a network?"
    fi
    vm_package=$(vm_field "$vm_meta_package" Depends | sed -n 's/^\(linux-image-[^ ,]*\).*/\1/p')
    [ -n "$vm_package" ] ||
        die "apt knows no package $vm_meta_package: a Debian of amd64 and its package lists are needed (apt-get update)"
    vm_version=$(vm_field "$vm_package" Version)
    [ -n "$vm_version" ] || die "apt knows no package $vm_package, which $vm_meta_package stands for"
}

# vm_download FOLDER: fetches the package of the kernel found.
vm_download() {
    step "fetching $vm_package $vm_version"
    (cd "$1" && vm_logged apt-get download -qq -o APT::Sandbox::User=root "$vm_package=$vm_version")
}

# vm_unpack_kernel FOLDER: takes what is needed out of the package there.
vm_unpack_kernel() {
    local folder=$1 releases
    mkdir "$folder/files"
    dpkg-deb --fsys-tarfile "$folder"/*.deb |
        tar -x -C "$folder/files" "${vm_unneeded_modules[@]/#/--exclude=*/kernel/}" ||
        die "could not unpack the kernel in $vm_cache"
    rm "$folder"/*.deb
    mkdir -p "$folder/lib"
    if [ -d "$folder/files/usr/lib/modules" ]; then
        mv "$folder/files/usr/lib/modules" "$folder/lib/"
    else
        mv "$folder/files/lib/modules" "$folder/lib/"
    fi
    releases=("$folder"/lib/modules/*)
    [ ${#releases[@]} = 1 ] || die "$vm_package has modules of more than one kernel"
    basename "${releases[0]}" >"$folder/release"
    depmod -b "$folder" "$(cat "$folder/release")" || die "depmod failed"
    vm_unpack_image "$folder"/files/boot/vmlinuz-* "$folder/vmlinux"
    rm -rf "$folder/files"
}

# vm_number FILE OFFSET SIZE: the little-endian number there.
vm_number() { od -A n -j "$2" -N "$3" -t "u$3" --endian=little "$1" | tr -d ' '; }

# vm_unpack_image BZIMAGE VMLINUX: the kernel within, which starts 6 s sooner than one that unpacks itself in the VM.
# Where it lies: the kernel's Documentation/x86/boot.rst, setup_sects, payload_offset, payload_length.
vm_unpack_image() {
    local start length magic unpack
    [ "$(vm_number "$1" $((0x202)) 2)" -ge $((0x208)) ] || die "$1 is no bzImage of boot protocol 2.08 or later"
    start=$((($(vm_number "$1" $((0x1f1)) 1) + 1) * 512 + $(vm_number "$1" $((0x248)) 4)))
    length=$(vm_number "$1" $((0x24c)) 4)
    magic=$(od -A n -j "$start" -N 4 -t x1 "$1" | tr -d ' ')
    # All but gzip are followed by their unpacked size, in 4 bytes which the unpacker must not see.
    case "$magic" in
        1f8b*) unpack=(gzip -dc) ;;
        fd377a58) unpack=(xz -dc) length=$((length - 4)) ;;
        28b52ffd) unpack=(zstd -dc) length=$((length - 4)) ;;
        *) die "$1 is compressed in an unknown way (it begins with $magic)" ;;
    esac
    command -v "${unpack[0]}" >/dev/null || die "${unpack[0]} is needed to unpack the kernel: apt-get install ${unpack[0]}"
    head -c $((start + length)) "$1" | tail -c "+$((start + 1))" | "${unpack[@]}" >"$2" || die "could not unpack $1"
    [ "$(head -c 4 "$2" | tail -c 3)" = ELF ] || die "what $1 holds is no ELF file"
}

# vm_require_kernel TASK: makes sure that a kernel is in the cache; `refresh` looks for a newer one. Sets vm_folder and
# vm_release, and keeps the folder from being removed while this process and its children live.
vm_require_kernel() {
    local new old
    if [ "$1" = refresh ] || [ ! -e "$vm_cache/current/release" ]; then
        vm_lock_cache
        if [ "$1" = refresh ] || [ ! -e "$vm_cache/current/release" ]; then
            vm_find_kernel "$1"
            new=${vm_package}_${vm_version//:/%3a}
            if [ ! -e "$vm_cache/$new/release" ]; then
                vm_folder=$(mktemp -d "$vm_cache/new.XXXXXX")
                if ! vm_download "$vm_folder"; then
                    # The archive keeps only the newest kernel; old package lists name one that is gone.
                    vm_find_kernel refresh
                    new=${vm_package}_${vm_version//:/%3a}
                    vm_download "$vm_folder" ||
                        die "could not fetch $vm_package (above is what apt-get said). Is there a network?"
                fi
                vm_unpack_kernel "$vm_folder"
                chmod 755 "$vm_folder"
                rm -rf "${vm_cache:?}/$new"
                mv -T "$vm_folder" "$vm_cache/$new"
            fi
            ln -sfn "$new" "$vm_cache/new.current"
            mv -T "$vm_cache/new.current" "$vm_cache/current"
            for old in "$vm_cache"/linux-image-*; do
                # Unless a VM runs from it.
                [ "$old" = "$vm_cache/$new" ] || flock -xn "$old" rm -rf "$old" || true
            done
        fi
        vm_unlock_cache
    fi
    vm_folder=$(readlink -f "$vm_cache/current")
    exec {vm_kernel_lock}<"$vm_folder"
    flock -s "$vm_kernel_lock"
    [ -e "$vm_folder/release" ] || die "$vm_folder was removed meanwhile; try again"
    vm_release=$(cat "$vm_folder/release")
}

# Makes sure that the two programs are built from the present sources. Sets vm_programs.
vm_require_programs() {
    local sources=("$vm_here"/kernel-vm.d/*.[ch] "$vm_here/kernel-vm.d/cache.sh") new
    vm_programs=$vm_folder/programs-$(cat "${sources[@]}" | sha256sum | cut -c 1-16)
    [ ! -d "$vm_programs" ] || return 0
    vm_lock_cache
    if [ ! -d "$vm_programs" ]; then
        vm_require_tools all
        # Those of other versions of the sources, unless recently made: another checkout may be using them.
        find "$vm_folder" -maxdepth 1 -name 'programs-*' -mmin +10080 -exec rm -rf {} +
        new=$(mktemp -d "$vm_cache/new.XXXXXX")
        vm_build_programs "$new"
        chmod 755 "$new"
        mv -T "$new" "$vm_programs"
    fi
    vm_unlock_cache
}

# vm_build_programs FOLDER: compiles the runner, and the first process of the VM into its initramfs.
vm_build_programs() {
    local folder=$1 flags=(-std=gnu11 -O2 -Wall -Wextra) files=() file number=10 name
    mkdir -p "$folder/root/modules"
    vm_logged gcc "${flags[@]}" -o "$folder/host" "$vm_here/kernel-vm.d/host.c" || die "could not compile host.c"
    vm_logged gcc "${flags[@]}" -static -s -o "$folder/root/init" "$vm_here/kernel-vm.d/guest.c" ||
        die "could not compile guest.c"
    mapfile -t files < <(for name in "${vm_boot_modules[@]}"; do
        modprobe -C /dev/null -d "$vm_folder" -S "$vm_release" --show-depends "$name" || echo "missing $name"
    done | awk '$1 != "builtin" && !seen[$2]++ { sub(/^insmod /, ""); sub(/ +$/, ""); print }')
    for file in "${files[@]}"; do
        [[ $file != missing* ]] || die "the kernel $vm_release has no module ${file#missing }"
        name=$(basename "$file")
        case "$name" in
            *.xz) xz -dc "$file" >"$folder/root/modules/$number-${name%.xz}" ;;
            *.zst) zstd -qdc "$file" >"$folder/root/modules/$number-${name%.zst}" ;;
            *.gz) gzip -dc "$file" >"$folder/root/modules/$number-${name%.gz}" ;;
            *) cp "$file" "$folder/root/modules/$number-$name" ;;
        esac
        number=$((number + 1))
    done
    (cd "$folder/root" && find . | LC_ALL=C sort | cpio -o -H newc --quiet) >"$folder/initrd" ||
        die "could not make the initramfs"
    rm -rf "$folder/root"
}
