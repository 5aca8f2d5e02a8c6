# SPDX-License-Identifier: Apache-2.0
# Sourced: installs what is missing of the Debian 12 packages that building, running and testing need.

muster_build_packages="gcc clang cmake ninja-build pkg-config libc6-dev libssl-dev libjansson-dev \
libsqlite3-dev libzstd-dev liblz4-dev libnbd-dev libcurl4-openssl-dev libmicrohttpd-dev \
libseccomp-dev libcryptsetup-dev liblua5.4-dev nbdkit-plugin-dev libcmocka-dev ca-certificates"
muster_run_packages="qemu-system-x86 qemu-utils nbdkit iproute2 e2fsprogs seabios ipxe-qemu"
muster_guest_packages="busybox-static qemu-guest-agent cpio gzip procps"
muster_test_packages="clang-format clang-tidy libclang-rt-14-dev lua-check iptables socat fio libnbd-bin \
xfsprogs"

# muster_install WORDS...: nothing is done when all are there.
muster_install() {
    missing=
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
            missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        echo "muster: these packages are missing; install them as root:$missing" >&2
        return 1
    fi
    echo "Installing:$missing"
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing \
        > /dev/null
}
