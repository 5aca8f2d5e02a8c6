#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What travels between two sites, against what others make of the same files on the same processors in
# the same run: the initial copy against nbdcopy (over TLS, and in the clear), a resync against rsync
# and against reading and hashing the source with two threads, a delta against reading its blocks and
# sending them through one TLS connection. Everything over loopback, sealed, digested, TLS 1.3. Peers
# flush what they wrote, as we do.
#
#   bash tests/bench/copy.sh [MIB of the image, default 4096] [ROUNDS, default 3] [FOLDER]
#
# FOLDER (default: below /dev/shm) holds three images; in memory, so that processors are compared, not
# one disk with itself. A ratio is the median of the rounds' own ratios.
# MUSTER_BENCH_COMPRESSION: zstd, lz4, none or adaptive (default). A build without debugging is taken
# from build-release, and made there when it is missing.
set -eu
cd "$(dirname "$0")/../.."
. examples/lib/packages.sh

mib=${1:-4096}
rounds=${2:-3}
folder=${3:-/dev/shm}
compression=${MUSTER_BENCH_COMPRESSION:-adaptive}
workers=2
build=build-release

# shellcheck disable=SC2086
muster_install $muster_build_packages nbdkit libnbd-bin rsync openssl
[ -f $build/build.ninja ] || cmake -S . -B $build -G Ninja -DCMAKE_BUILD_TYPE=Release > /dev/null
ninja -C $build bench_copy > /dev/null
bench=$build/tests/bench_copy

work=$(mktemp -d "$folder/muster-bench-XXXXXX")
server=
# A virtual machine may give freed memory back to its host; each first touch afterwards costs more than
# sealing it does, and whose file gets such pages is chance. So none is given back while we measure, and
# as much as is needed has been touched before.
reporting=/sys/module/page_reporting/parameters/page_reporting_order
was_reporting=$(cat $reporting 2> /dev/null || true)
steady_memory() {
    [ -z "$was_reporting" ] || [ ! -w $reporting ] || echo 11 > $reporting
    head -c "$((mib * 4))M" /dev/zero > "$work/touched" || true # as much as there is
    rm "$work/touched"
}
finish() {
    # shellcheck disable=SC2046
    kill $(jobs -p) 2> /dev/null || true
    wait 2> /dev/null || true
    rm -rf "$work"
    [ -z "$was_reporting" ] || [ ! -w $reporting ] || echo "$was_reporting" > $reporting
}
trap finish EXIT
trap 'exit 1' INT TERM

now() { date +%s.%N; }
# took COMMAND...: seconds.
took() {
    began=$(now)
    "$@" > "$work/out" 2>&1 || {
        cat "$work/out" >&2
        return 1
    }
    echo "$(now) $began" | awk '{ printf "%.3f\n", $1 - $2 }'
}
# note WHAT VALUE: a measurement of this round.
note() { echo "$1 $round $2" >> "$work/notes"; }
stop() {
    kill "$1"
    wait "$1" 2> /dev/null || true
}

# until_listening PORT
until_listening() {
    for _ in $(seq 200); do
        (: < "/dev/tcp/127.0.0.1/$1") 2> /dev/null && return 0
        sleep 0.05
    done
    echo "nobody listens on port $1" >&2
    return 1
}

begin_ends() {
    mkdir "$work/ends"
    "$bench" sites "$work/ends"
    "$bench" serve "$work/ends" 2>> "$work/log" &
    server=$!
    while [ ! -s "$work/ends/port" ]; do sleep 0.05; done
    until_listening "$(cat "$work/ends/port")"
}
end_ends() {
    stop "$server"
    server=
    rm -rf "$work/ends"
}
# ours VERB...: "seconds bytes durable-seconds".
ours() { "$bench" "$@" 2>> "$work/log" || { tail -3 "$work/log" >&2; return 1; }; }

# peer_copy TLS URI
peer_copy() {
    truncate -s "${mib}M" "$work/peer"
    nbdkit -f -i 127.0.0.1 -p "$port" --tls="$1" --tls-psk="$work/psk" file "$work/peer" &
    nbdkit=$!
    until_listening "$port"
    took nbdcopy --flush "$work/image" "$2"
    stop $nbdkit
    cmp "$work/image" "$work/peer" >&2
    rm "$work/peer"
}

copy_round() {
    begin_ends
    set -- $(ours run "$work/ends" "$work/image" "$compression" $workers)
    note copy "$1"
    note copy_bytes "$2"
    cmp "$work/image" "$work/ends/replica/vda/head.raw"
    note nbdcopy_tls "$(peer_copy require "nbds://user@127.0.0.1:$port/?tls-psk-file=$work/psk")"
    note nbdcopy "$(peer_copy off "nbd://127.0.0.1:$port/")"
}

# resync_round KIND: the replica and rsync's copy are at the same state before.
resync_round() {
    note "changed_$1" "$("$bench" change "$work/image" 1 "$1" "$((round * 2 + ${#1}))")"
    # shellcheck disable=SC2046
    set -- "$1" $(ours run "$work/ends" "$work/image" "$compression" $workers)
    note "resync_applied_$1" "$2"
    note "resync_$1" "$5" # there is a point when it is durable
    note "resync_bytes_$1" "$3"
    cmp "$work/image" "$work/ends/replica/vda/head.raw"
    note "hash_$1" "$("$bench" hash "$work/image" 2)"
    # Through its own protocol, delta algorithm on, as over a network; no shell and no cipher between.
    note "rsync_$1" "$(took rsync --ignore-times --no-whole-file --inplace --fsync "$work/image" \
        "rsync://127.0.0.1:$rsync_port/bench/copy")"
    cmp "$work/image" "$work/rsync/copy"
}

delta_round() {
    set -- $(ours delta "$work/ends" "$work/image" "$compression" $workers 1)
    note delta_applied "$1"
    note delta_bytes "$2"
    note delta "$3"
    set -- $(ours blocks "$work/ends" "$work/image" 1)
    note blocks "$1"
    note blocks_bytes "$2"
    cp --sparse=always "$work/image" "$work/rsync/copy" # rsync begins the next round where we do
}

port=$((20000 + $$ % 10000))
rsync_port=$((port + 10000))
echo "user:$(openssl rand -hex 32)" > "$work/psk"
mkdir "$work/rsync"
printf 'use chroot = no\n[bench]\npath = %s\nread only = no\nuid = %s\n' "$work/rsync" "$(id -u)" \
    > "$work/rsyncd.conf"
steady_memory
echo "An image of $mib MiB, 60 % data; $rounds rounds, compression $compression, $workers workers"
"$bench" image "$work/image" "$mib" 60
for round in $(seq "$rounds"); do
    echo "   round $round"
    copy_round
    cp --sparse=always "$work/image" "$work/rsync/copy"
    rsync --daemon --no-detach --config="$work/rsyncd.conf" --port="$rsync_port" --address=127.0.0.1 &
    rsyncd=$!
    until_listening "$rsync_port"
    resync_round clustered
    resync_round scattered
    stop $rsyncd
    delta_round
    end_ends
done

awk '
    { value[$1, $2] = $3; if ($2 > rounds) rounds = $2 }
    function median(n,    r, k, x) {
        for (r = 1; r <= n; r++) {
            x = list[r]
            for (k = r; k > 1 && sorted[k - 1] > x; k--) sorted[k] = sorted[k - 1]
            sorted[k] = x
        }
        return n % 2 ? sorted[(n + 1) / 2] : (sorted[n / 2] + sorted[n / 2 + 1]) / 2
    }
    function of(a,    r) { for (r = 1; r <= rounds; r++) list[r] = value[a, r]; return median(rounds) }
    function ratio(a, b,    r) {
        for (r = 1; r <= rounds; r++) list[r] = value[a, r] / value[b, r]
        return median(rounds)
    }
    function row(text, a, b, unit, goal, less,    x, good) {
        x = ratio(a, b)
        good = less ? x <= goal : x >= goal
        if (!good) bad = 1
        printf "   %-52s %10.3f %10.3f %s  %6.3f  (%s %s)  %s\n", text, of(a) / (unit == "MB" ? 1e6 : 1),
            of(b) / (unit == "MB" ? 1e6 : 1), unit, x, less ? "at most" : "at least", goal, good ? "good" : "MISSED"
    }
    function applied(what, a) {
        printf "   %-52s %10.3f            s\n", "(" what " until applied)", of(a)
    }
    END {
        printf "   %-52s %10s %10s\n", "", "ours", "theirs"
        row("initial copy, to nbdcopy over TLS (times as fast: 1/x)", "copy", "nbdcopy_tls", "s ", 0.667, 1)
        row("initial copy, to nbdcopy in the clear", "copy", "nbdcopy", "s ", 3.5, 1)
        row("resync clustered, to rsync", "resync_clustered", "rsync_clustered", "s ", 0.333, 1)
        row("resync clustered, to reading and hashing", "resync_clustered", "hash_clustered", "s ", 1.3, 1)
        row("resync scattered, to rsync", "resync_scattered", "rsync_scattered", "s ", 0.333, 1)
        row("resync scattered, bytes to changed blocks", "resync_bytes_scattered", "changed_scattered", "MB", 1.1, 1)
        for (r = 1; r <= rounds; r++) value["blocks_and", r] = value["blocks_bytes", r] + 65536 / 1.05
        row("delta, bytes to changed blocks and 64 KiB", "delta_bytes", "blocks_and", "MB", 1.05, 1)
        row("delta until durable, to reading and sending", "delta", "blocks", "s ", 3, 1)
        applied("delta", "delta_applied")
        applied("resync clustered", "resync_applied_clustered")
        applied("resync scattered", "resync_applied_scattered")
        exit bad
    }' "$work/notes"
