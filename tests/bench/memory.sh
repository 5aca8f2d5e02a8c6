#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a large disk costs in memory: anonymous memory of both daemons (the most seen) before anything
# is protected, and while a sparse disk of SIZE is copied, kept current, and compared as a whole after
# its storage daemon was killed. Ends with 1 when a daemon needed more than 100 MiB per TiB besides.
#
#   bash tests/bench/memory.sh [TEBIBYTES, default 1]
set -eu
cd "$(dirname "$0")/../.."
. tests/bench/scale/lib.sh

tebibytes=${1:-1}

# watch_memory: the most anonymous memory of each daemon, in $work/peak-SITE, until it is ended.
watch_memory() {
    paris_peak=0
    lyon_peak=0
    while :; do
        p=$(memory paris RssAnon)
        l=$(memory lyon RssAnon)
        [ "$p" -le "$paris_peak" ] || { paris_peak=$p; echo "$p" > "$work/peak-paris"; }
        [ "$l" -le "$lyon_peak" ] || { lyon_peak=$l; echo "$l" > "$work/peak-lyon"; }
        sleep 0.2
    done
}

# wait_point N SECONDS: the replica has it.
wait_point() {
    for _ in $(seq $(($2 * 2))); do
        scale_look "$work/now"
        [ "$(awk '{ print $4 }' "$work/now")" -lt "$1" ] || return 0
        sleep 0.5
    done
    q paris status >&2
    fail "point $1 did not come in $2 s"
}

scale_build
scale_begin
heading "A disk of $tebibytes TiB, with 1 GiB of data"
scale_machine n0001
truncate -s "${tebibytes}T" "$work/disks/n0001.raw"
for i in $(seq 0 63); do
    dd if=/dev/urandom of="$work/disks/n0001.raw" bs=1M count=16 seek=$((i * tebibytes * 16384)) conv=notrunc status=none
done
scale_storage 0 n0001
scale_sites
# shellcheck disable=SC2034
base_paris=$(memory paris RssAnon)
# shellcheck disable=SC2034
base_lyon=$(memory lyon RssAnon)
watch_memory &
watcher=$!
storages="$storages $watcher"
q paris machine add "$work/machines/n0001.lua" > /dev/null

begun=$(now_ms)
q paris protect n0001 --to lyon --interval 5s > /dev/null
wait_point 1 60
note "copied, and the first point made, in $(($(now_ms) - begun)) ms"
"$build/tests/storage_writer" "$work/storage" 1 1 20 1 65536 > /dev/null
wait_point 4 60
note "deltas: point $(awk '{ print $4 }' "$work/now")"

# The maps are lost: everything is compared.
kill -9 "$storage_pid"
wait "$storage_pid" 2> /dev/null || true
scale_storage 0 n0001
begun=$(now_ms)
point=$(awk '{ print $4 }' "$work/now")
"$build/tests/storage_writer" "$work/storage" 1 1 1 1 65536 > /dev/null
wait_point $((point + 1)) 600
note "compared as a whole in $(($(now_ms) - begun)) ms: $(q paris status | grep -i -m1 -E 'compar|resync' || true)"
kill "$watcher"
for site in paris lyon; do
    base=0
    eval "base=\$base_$site"
    peak=$(cat "$work/peak-$site")
    printf '   %-6s anonymous %4d MiB, at most %4d MiB: %d MiB per TiB (goal 100)\n' "$site" $((base / 1024)) \
        $((peak / 1024)) $(((peak - base) / 1024 / tebibytes))
    [ $(((peak - base) / tebibytes)) -le $((100 * 1024)) ] || over=$site
done
[ -z "${over:-}" ] || fail "$over needs more than 100 MiB per TiB"
