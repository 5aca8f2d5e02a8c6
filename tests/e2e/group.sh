#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Three real machines as one group: two that follow each other over a bridge, each record saying what the
# other had acknowledged, and one that is off. Every point holds all of them at one instant, at which
# neither knows more of the other than the other has; what that costs is said. A daemon that is killed
# while they are stopped leaves none so, and what may not be done with one of a group is refused.
. "$(dirname "$0")/lib/e2e.sh"
. "$(dirname "$0")/lib/kills.sh"

bridge=mus$$
trap 'ip link delete "$bridge" 2> /dev/null || true; demo_end' EXIT

# bridged NAME NUMBER FOLLOWED FORMAT...
bridged() {
    name=$1 number=$2 followed=$3
    shift 3
    demo_cmdline="writer.pause_us=1000 writer.slots=2048 writer.follow=10.77.0.1$followed"
    demo_machine "$name" "$number" "$@"
    sed -i "s/network = \"user\"/network = \"bridge $bridge\"/" "$work/$name.lua"
    q paris machine add "$work/$name.lua" > /dev/null
    q paris machine start "$name" > /dev/null
}

e2e_two_sites
ip link add name "$bridge" type bridge
ip link set "$bridge" up
bridged db1 1 2 raw
bridged web1 2 1 qcow2 raw
demo_machine files1 3 raw
q paris machine add "$work/files1.lua" > /dev/null
for machine in db1 web1; do
    wait_console paris $machine 'ACKED [0-9]'
done

refused 2 "several machines are a group, which needs a name" paris protect db1 web1 --to lyon
refused 4 "a machine is" paris protect db1 web1 --to lyon --group files1
refused 4 "db1 is named twice" paris protect db1 db1 --to lyon --group shop
refused 3 "files9" paris protect db1 files9 --to lyon --group shop
q paris protect db1 web1 files1 --to lyon --group shop --dry-run --force > "$work/dry.txt"
check "a dry run looks at each machine" grep -q "change tracking of web1" "$work/dry.txt"
check "and nothing was begun by it" test "$(q paris --json jobs list | grep -c '"kind"')" = 0
q paris protect db1 web1 files1 --to lyon --group shop --interval 1s --keep 600 --force > "$work/protect.txt"
check "protect says what is kept where" grep -q "shop is protected: its points are kept at lyon" "$work/protect.txt"
wait_points lyon shop 9

# --- One instant -------------------------------------------------------------------------------

exported() { # POINT MACHINE DISK
    q lyon export shop --point "$1" --disk "$2.$3" "$work/$2-$3.img" > /dev/null
}
# one_instant POINT: judged by the records of both machines at it.
one_instant() {
    rm -f "$work"/*.img
    exported "$1" db1 vda
    exported "$1" web1 vda
    exported "$1" web1 vdb
    db=$(judge_images "$work/db1-vda.img")
    web=$(judge_images "$work/web1-vda.img" "$work/web1-vdb.img")
    whole "$db" || no "db1 at point $1: $db"
    whole "$web" || no "web1 at point $1: $web"
    [ "$(field "$web" seen)" -gt 0 ] || no "web1 has seen nothing of db1 at point $1: $web"
    [ "$(field "$db" seen)" -gt 0 ] || no "db1 has seen nothing of web1 at point $1: $db"
    [ "$(field "$web" seen)" -le "$(field "$db" last)" ] ||
        no "web1 knows of $(field "$web" seen), db1 has $(field "$db" last) at point $1"
    [ "$(field "$db" seen)" -le "$(field "$web" last)" ] ||
        no "db1 knows of $(field "$db" seen), web1 has $(field "$web" last) at point $1"
    note "point $1: db1 $(field "$db" last), of web1 $(field "$db" seen); web1 $(field "$web" last), of db1 $(field "$web" seen)"
}
newest=$(($(newest_point lyon shop) - 1)) # the newest of all may not be applied yet
for point in $((newest - 4)) $((newest - 2)) "$newest"; do
    one_instant "$point"
done
ok "points hold both machines at one instant"
q lyon export web1 --point "$newest" --disk vda "$work/by-machine" > /dev/null
check "a disk is found by its machine's name, too" cmp "$work/by-machine" "$work/web1-vda.img"
q lyon export files1 --point "$newest" "$work/files" > /dev/null
check "the machine that is off is in them, bit by bit" cmp "$work/files" "$work/files1-1.raw"

stalls() { q lyon --json points shop | grep -o '"stall_us":[0-9]*' | cut -d: -f2 | sort -n; }
check "each point says how long they stood still" test "$(stalls | head -1)" -gt 0
note "stall: median $(stalls | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }') us, worst $(stalls | tail -1) us"
q lyon points shop > "$work/points.txt"
check "muster points shows it" grep -Eq "^ *$newest .* crash +[0-9.]+ m?s " "$work/points.txt"

# --- By its name, or a machine's ------------------------------------------------------------------

q paris status web1 > "$work/status.txt"
check "status by a machine's name shows its group" grep -q "^group  *shop$" "$work/status.txt"
check "and its machines" grep -q "^machines  *db1, files1, web1$" "$work/status.txt"
check "in JSON, too" test "$(q lyon --json status db1 | grep -c '"machines":\["db1","files1","web1"\]')" = 1
check "points by a machine's name are the group's" test "$(newest_point paris web1)" -ge "$newest"
q paris point create web1 --label together > /dev/null
check "a point by a machine's name is one of all of them" \
    grep -q "pinned as together" <(q lyon points shop)
q paris point unpin db1 together > /dev/null
for machine in db1 web1; do
    wait_console paris $machine 'READY '
done
q paris point create shop --consistency application > /dev/null
check "one is made with the file systems of both frozen" grep -q " application " <(q lyon points shop)
q paris pause web1 > /dev/null
paused() { q paris --json status shop | grep -q '"session":"paused"'; }
wait_for 20 "the group to be paused" paused
q paris resume shop > /dev/null
ok "it is paused by a machine's name and resumed by its own"
refused 4 "db1 is in the group shop" paris protect db1 --to lyon
refused 4 "with the others of the group shop" paris machine remove files1
refused 4 "in the group shop" lyon machine add "$work/web1.lua"

# --- Killed while they are stopped -----------------------------------------------------------------

arm paris source.cut.stopped
died paris source.cut.stopped
db_from=$(acked paris db1)
web_from=$(acked paris web1)
began=$(now_ms)
goes_on() { [ "$(acked paris db1)" -gt $((db_from + 20)) ] && [ "$(acked paris web1)" -gt $((web_from + 20)) ]; }
wait_for 10 "both machines to go on without the daemon" goes_on
ok "both go on when the daemon was killed while they were stopped ($(($(now_ms) - began)) ms to 20 records more)"
check "nothing is noted as stopped" test ! -e "$work/paris/sessions/shop/work/stopped.json"
newest=$(newest_point lyon shop)
revive paris
wait_points lyon shop $((newest + 3))
one_instant $(($(newest_point lyon shop) - 1))
ok "the next points are one instant again"

# --- One of them goes, and comes again ---------------------------------------------------------------

q paris machine stop web1 > /dev/null
newest=$(newest_point lyon shop)
wait_points lyon shop $((newest + 2))
ok "points are made while one of two is off"
q paris machine start web1 > /dev/null
wait_console paris web1 'ACKED [0-9]'
newest=$(newest_point lyon shop)
wait_points lyon shop $((newest + 3))
one_instant $(($(newest_point lyon shop) - 1))
ok "and when it is there again"

q paris unprotect web1 > /dev/null
check "unprotect by a machine's name ends the group" test "$(q paris --json status | grep -c '"name":"shop"')" = 0
check "lyon keeps nothing of it" test ! -e "$work/lyon/replicas/shop"
db_from=$(acked paris db1)
web_from=$(acked paris web1)
wait_for 20 "both machines to work on" goes_on
ok "both machines work on"
e2e_done
