#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Many protected disks on one pair of daemons: COUNT nodes of 16 MiB in a few qemu-storage-daemons, each
# a group of its own, a point every 30 s, each disk written to (64 KiB) once per interval. Prints
#   - the time until all are protected
#   - over the rounds: the worst RPO of every look at every disk, against its target
#   - both daemons' memory (resident, and of that anonymous) and processor time per cycle
# Ends with 1 when a disk missed its RPO, a daemon needed 1 GiB or more, or a disk differs in the end.
#
#   bash tests/bench/scale.sh [COUNT, default 1000] [ROUNDS, default 6]
set -eu
cd "$(dirname "$0")/../.."
. tests/bench/scale/lib.sh

count=${1:-1000}
rounds=${2:-6}
per=40 # nodes of a storage daemon
interval=30
memory_max=$((1024 * 1024)) # KiB

names() {
    seq -f 'n%04g' 1 "$count"
}

# make_disks: sparse images with 1 MiB that does not repeat.
make_disks() {
    head -c 1048576 /dev/urandom > "$work/mib"
    for name in $(names); do
        scale_machine "$name"
        cp "$work/mib" "$work/disks/$name.raw"
        truncate -s 16M "$work/disks/$name.raw"
    done
}

start_storages() {
    n=0
    for first in $(seq 1 "$per" "$count"); do
        last=$((first + per - 1 < count ? first + per - 1 : count))
        # shellcheck disable=SC2046
        scale_storage "$n" $(seq -f 'n%04g' "$first" "$last")
        n=$((n + 1))
    done
}

cpu_ms() { # SITE
    eval "awk -v hz=$(getconf CLK_TCK) '{ print int((\$14 + \$15) * 1000 / hz) }' /proc/\$pid_$1/stat"
}

scale_build
scale_begin
heading "$count disks"
make_disks
start_storages
scale_sites

begun=$(now_ms)
for name in $(names); do
    q paris machine add "$work/machines/$name.lua" > /dev/null
    q paris protect "$name" --to lyon --interval "${interval}s" --no-wait > /dev/null
done
note "asked for after $(($(now_ms) - begun)) ms"
for _ in $(seq 1200); do
    scale_look "$work/now"
    done_count=$(awk '$2 == "protected" && $3 >= 0' "$work/now" | wc -l)
    [ "$done_count" -lt "$count" ] || break
    sleep 1
done
note "protected: $done_count of $count after $(($(now_ms) - begun)) ms"
[ "$done_count" -eq "$count" ] || fail "not all are protected"

"$build/tests/storage_writer" "$work/storage" "$count" "$per" $((rounds * interval)) "$interval" 65536 > "$work/writer" &
writer=$!
# shellcheck disable=SC2034
paris_from=$(cpu_ms paris)
# shellcheck disable=SC2034
lyon_from=$(cpu_ms lyon)
target=$((2 * interval * 1000 + 5000))
end=$(($(now_ms) + rounds * interval * 1000))
worst=0
while [ "$(now_ms)" -lt "$end" ]; do
    scale_look "$work/now"
    age=$(awk '{ if ($3 < 0) $3 = 1e12; if ($3 > m) m = $3 } END { print m }' "$work/now")
    [ "$age" -le "$worst" ] || worst=$age
    late=$(awk -v t="$target" '$3 > t || $3 < 0' "$work/now" | wc -l)
    [ "$late" -eq 0 ] || note "$late disks are past their target"
    sleep 3
done
wait "$writer"
cycles=$((rounds * count))
printf '   %s; worst RPO %d ms of %d allowed\n' "$(cat "$work/writer")" "$worst" "$target"
for site in paris lyon; do
    from=0
    eval "from=\$${site}_from"
    printf '   %-6s resident %4d MiB (anonymous %4d MiB), processor %6.2f ms per cycle\n' "$site" \
        $(($(memory "$site" VmRSS) / 1024)) $(($(memory "$site" RssAnon) / 1024)) \
        "$(awk -v ms=$(($(cpu_ms "$site") - from)) -v n="$cycles" 'BEGIN { print ms / n }')"
done

# Every replica must equal its disk once the writer is silent.
for _ in $(seq 60); do
    different=0
    for name in $(names); do
        cmp -s "$work/disks/$name.raw" "$work/lyon/replicas/$name/d/head.raw" || different=$((different + 1))
    done
    [ "$different" -gt 0 ] || break
    sleep 2
done
note "$((count - different)) of $count replicas equal their disks"
[ "$worst" -le "$target" ] || fail "a disk missed its RPO"
[ "$different" -eq 0 ] || fail "$different replicas differ"
for site in paris lyon; do
    [ "$(memory "$site" VmHWM)" -lt "$memory_max" ] || fail "$site needed $(memory "$site" VmHWM) KiB"
done
