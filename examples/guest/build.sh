#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds the demo guest: build.sh OUTDIR makes OUTDIR/vmlinuz and OUTDIR/initrd.gz, a machine that
# needs no installation: Debian's cloud kernel, busybox, the QEMU guest agent and writer.c. And
# OUTDIR/writer, which judges files of records on the host, too ("writer judge").
# Nothing is done when OUTDIR is up to date. Packages are kept in $MUSTER_GUEST_CACHE
# (default ~/.cache/muster-guest). Needs: apt-get, dpkg, gcc, cpio, gzip, qemu-guest-agent.
#
# Options of the guest's kernel command line (use "console=ttyS0 quiet" with them):
#   ip=ADDRESS/PREFIX  gateway=ADDRESS   of the first network card
#   writer=off                           no writing (port 7 answers all the same)
#   writer.follow=ADDRESS               each record says what the writer there had acknowledged
#   writer.pause_us=N  writer.slots=N    pause between two records; 4 KiB records per disk
#   writer.mode=span   writer.span=MIB   random writes at full speed over MIB of every disk
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
[ $# -eq 1 ] || {
    echo "usage: $0 OUTDIR" >&2
    exit 2
}
mkdir -p "$1"
out=$(cd "$1" && pwd)
cache=${MUSTER_GUEST_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/muster-guest}
agent=$(command -v qemu-ga || echo /usr/sbin/qemu-ga)

exec 9>"$out/.lock"
flock 9

stamp=$(cat "$here/build.sh" "$here/init" "$here/shutdown" "$here/writer.c" "$agent" | sha256sum)
if [ -s "$out/writer" ] && [ -s "$out/vmlinuz" ] && [ -s "$out/initrd.gz" ] &&
    [ "$(cat "$out/stamp" 2>/dev/null)" = "$stamp" ]; then
    exit 0
fi

work=$(mktemp -d "$out/build.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Prints the path of the package's .deb, downloaded unless it is in the cache.
fetch() {
    local deb
    mkdir -p "$cache"
    deb=$(find "$cache" -name "$1_*.deb" | sort -V | tail -1)
    if [ -z "$deb" ]; then
        mkdir "$work/get"
        (cd "$work/get" && apt-get -qq -o APT::Sandbox::User=root download "$1" >&2)
        deb=$cache/$(basename "$work"/get/*.deb)
        mv "$work"/get/*.deb "$deb.$$" && mv "$deb.$$" "$deb"
        rmdir "$work/get"
    fi
    echo "$deb"
}

# linux-image-cloud-amd64 is empty and depends on the kernel of the day.
kernel_package() {
    local kept
    kept=$(find "$cache" -name 'linux-image-*-cloud-amd64_*.deb' 2>/dev/null | sort -V | tail -1)
    if [ -n "$kept" ]; then
        basename "$kept" | sed 's/_.*//'
    else
        apt-cache depends linux-image-cloud-amd64 |
            sed -n 's/.*Depends: \(linux-image-[^ ]*-cloud-amd64\).*/\1/p' | head -1
    fi
}

kernel=$(kernel_package)
if [ -z "$kernel" ]; then
    apt-get -qq update >&2 # a system whose package lists were never fetched, or removed
    kernel=$(kernel_package)
fi
[ -n "$kernel" ] || {
    echo "no package linux-image-cloud-amd64; hint: apt-get update" >&2
    exit 1
}
dpkg -x "$(fetch "$kernel")" "$work/kernel"
dpkg -x "$(fetch busybox-static)" "$work/busybox"

root=$work/root
mkdir -p "$root"/{bin,sbin,dev,proc,sys,run,tmp,mnt,lib/modules,usr/bin,usr/sbin,etc/acpi/PWRF}
cp "$work"/busybox/bin/busybox "$root/bin/"
install -m 755 "$here/init" "$root/init"
install -m 755 "$here/shutdown" "$root/sbin/shutdown"
ln -s ../../../sbin/shutdown "$root/etc/acpi/PWRF/00000080"
gcc -std=c17 -D_GNU_SOURCE -O2 -Wall -Wextra -static -pthread -o "$root/bin/writer" \
    "$here/writer.c"

# In the order in which they depend on each other.
modules=$work/kernel/lib/modules
for module in drivers/virtio/virtio_ring drivers/virtio/virtio \
    drivers/virtio/virtio_pci_legacy_dev drivers/virtio/virtio_pci_modern_dev \
    drivers/virtio/virtio_pci drivers/block/virtio_blk drivers/char/virtio_console \
    net/core/failover drivers/net/net_failover drivers/net/virtio_net drivers/input/evdev \
    drivers/acpi/button; do
    name=$(basename "$module")
    if [ -e "$(echo "$modules"/*/kernel/$module.ko)" ]; then
        cp "$modules"/*/kernel/$module.ko "$root/lib/modules/"
    else
        xz -dc "$modules"/*/kernel/$module.ko.xz >"$root/lib/modules/$name.ko"
    fi
    echo "$name"
done >"$root/lib/modules/order"

install -m 755 "$agent" "$root/usr/sbin/qemu-ga"
ldd "$agent" | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done

(cd "$root" && find . | sort | cpio -o -H newc -R 0:0 --quiet | gzip -9n) >"$out/initrd.gz.new"
mv "$out/initrd.gz.new" "$out/initrd.gz"
cp "$work"/kernel/boot/vmlinuz-* "$out/vmlinuz"
install -m 755 "$root/bin/writer" "$out/writer"
echo "$stamp" >"$out/stamp"
