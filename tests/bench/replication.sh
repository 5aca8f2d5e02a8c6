#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What replication costs and what it gives: a machine with two disks whose writer runs at full speed
# over 32 MiB of each, protected between two daemons on this host. Prints
#   - the guest's writes per second and worst write, without replication, at 5 s, at 1 s; in rounds, and
#     the ratio is the median of the rounds' own ratios: the host's speed changes from minute to minute
#   - from cut to durable at the replica, for deltas of about 8 MiB
#   - the RPO over a minute at 1 s: p50, p99 and the worst, from what the replica wrote down
#
#   bash tests/bench/replication.sh [SECONDS per measurement, default 60]
set -eu
cd "$(dirname "$0")/../.."
. examples/lib/packages.sh
. examples/lib/demo.sh

seconds=${1:-60}
rounds=12
demo_cmdline="writer.mode=span writer.span=32"
demo_disk_size=128M

# shellcheck disable=SC2086
muster_install $muster_build_packages $muster_run_packages $muster_guest_packages
demo_build

# observe WHAT: lets a round's share of the time pass, keeps the console's lines of it, each after the
# round's number and WHAT.
observe() {
    line=$(($(wc -l < "$(console paris bench)") + 2))
    sleep $((seconds / rounds))
    tail -n "+$line" "$(console paris bench)" | tr -d '\r' | grep '^SPAN' | sed "s/^/$round $1 /" >> "$work/spans"
}

# report WHAT TEXT GOAL: writes per second (mean), the median of the rounds' ratios to what the guest
# wrote in them without replication, the worst write of all.
report() {
    awk -v what="$1" -v text="$2" -v goal="$3" '
        { for (i = 4; i <= NF; i++) { split($i, kv, "="); v[kv[1]] = kv[2] }
          n[$1, $2]++; sum[$1, $2] += v["writes_per_s"]; if ($1 > rounds) rounds = $1
          if ($2 == what) { lines++; all += v["writes_per_s"]; if (v["worst_us"] > worst) worst = v["worst_us"] } }
        END {
            if (!lines) { print "   the rounds are too short: nothing was written down"; exit 1 }
            for (r = 1; r <= rounds; r++) {
                x = (sum[r, what] / n[r, what]) / (sum[r, "none"] / n[r, "none"])
                for (k = r; k > 1 && ratio[k - 1] > x; k--) ratio[k] = ratio[k - 1]
                ratio[k] = x
            }
            median = rounds % 2 ? ratio[(rounds + 1) / 2] : (ratio[rounds / 2] + ratio[rounds / 2 + 1]) / 2
            printf "   %-22s %6d writes/s   ratio %.2f (%.2f to %.2f)%s   worst write %4d ms\n", text,
                all / lines, median, ratio[1], ratio[rounds], goal, worst / 1000 }' "$work/spans"
}

# The points kept at lyon, oldest first: "cut received bytes".
point_rows() {
    q lyon --json points bench | tr '{' '\n' | awk -F'[:,}]' '
        { delete v; for (i = 1; i < NF; i++) if ($i ~ /^"[a-z_]+"$/) v[$i] = $(i + 1)
          if (v["\"cut_ms\""] != "") print v["\"cut_ms\""], v["\"received_ms\""], v["\"bytes\""] }' |
        sort -n
}

heading "A machine with two disks, its writer at full speed over 32 MiB of each"
demo_begin
demo_site paris > /dev/null 2>&1
demo_site lyon > /dev/null 2>&1
demo_serve paris
demo_serve lyon
q lyon site pair issue | q paris site pair join - > /dev/null
demo_machine bench 1 raw raw
q paris machine add "$work/bench.lua" > /dev/null
q paris machine start bench > /dev/null
wait_console paris bench 'SPAN'
sleep 5

for round in $(seq "$rounds"); do
    note "round $round of $rounds"
    observe none
    q paris protect bench --to lyon --interval 5s --keep 1000 > /dev/null
    wait_points lyon bench 2
    observe 5s
    q paris settings bench --interval 1s > /dev/null
    sleep 2
    observe 1s
    q paris unprotect bench > /dev/null
done
heading "The guest's writes ($seconds s of each, in $rounds rounds)"
report none "no replication" ""
report 5s "a point every 5 s" " (goal 0.9)"
report 1s "a point every second" " (goal 0.8)"

q paris protect bench --to lyon --interval 1s --keep 1000 > /dev/null
wait_points lyon bench 3
since=$(now_ms)
sleep "$seconds"
until=$(now_ms)
point_rows > "$work/rows"
# As long as this guest needs for 8 MiB, its file system's own blocks included.
eight=$(awk '{ bytes += $3 } END { n = int(8388608 / (bytes / NR) + 0.5); print n < 1 ? 1 : n }' "$work/rows")
q paris settings bench --interval "${eight}s" > /dev/null
sleep 2
since8=$(now_ms)
sleep "$seconds"
until8=$(now_ms)
point_rows > "$work/rows8"

heading "RPO at interval 1s, over $(((until - since) / 1000)) s (goal: p99 at most 2 s)"
# The age of the newest durable point, sampled every 10 ms of the time line.
awk -v from="$since" -v to="$until" '
    { cut[NR] = $1; received[NR] = $2 }
    END { k = 0
          for (t = from; t <= to; t += 10) {
              while (k < NR && received[k + 1] <= t) k++
              if (k) print t - cut[k]
          } }' "$work/rows" | sort -n | awk '
    { age[NR] = $1 }
    END { printf "   p50 %d ms   p99 %d ms   worst %d ms\n", age[int(NR * 0.5)], age[int(NR * 0.99)], age[NR] }'

heading "From cut to durable at the replica, for deltas of about 8 MiB (goal: median under 300 ms)"
awk -v from="$since8" -v to="$until8" '$1 >= from && $1 <= to && $3 > 5000000 && $3 < 13000000 { print $2 - $1, $3 }' \
    "$work/rows8" | sort -n | awk '
    { ms[NR] = $1; bytes += $2 }
    END { if (!NR) { print "   no delta of that size: the guest writes too slowly here"; exit 1 }
          printf "   %d deltas of %.1f MiB   median %d ms   p90 %d ms   worst %d ms\n", NR,
                 bytes / NR / 1048576, ms[int((NR + 1) / 2)], ms[int((NR * 9 + 9) / 10)], ms[NR] }'
demo_end
