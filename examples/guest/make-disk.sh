#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A disk for the demo guest, with an empty ext4 on it: make-disk.sh PATH FORMAT SIZE
# (FORMAT raw or qcow2, SIZE as truncate takes it: 64M, 1G).
set -euo pipefail

[ $# -eq 3 ] || {
    echo "usage: $0 PATH raw|qcow2 SIZE" >&2
    exit 2
}
path=$1 format=$2 size=$3
[ ! -e "$path" ] || {
    echo "$path is there already" >&2
    exit 1
}
raw=$path.raw.$$
trap 'rm -f "$raw"' EXIT
truncate -s "$size" "$raw"
mkfs.ext4 -q -F -m 0 "$raw"
case $format in
raw) mv "$raw" "$path" ;;
qcow2) qemu-img convert -q -f raw -O qcow2 "$raw" "$path" ;;
*)
    echo "$format: raw or qcow2" >&2
    exit 2
    ;;
esac
