#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A protected machine's QEMU killed in the initial copy and later, its disk of another size, and the
# process that serves a recovered machine's disk killed under it. Replication goes on with what differs,
# or says what it refuses; the guest waits and goes on.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/kills.sh

e2e_two_sites > /dev/null
# 120 MiB that stay as they are, so that the copy takes a while and a rescan has something to leave out.
demo_disk_size=256M demo_machine db1 1 raw
dd if=/dev/urandom of="$work/ballast" bs=1M count=120 status=none
debugfs -w -R "write $work/ballast ballast" "$work/db1-1.raw" > /dev/null 2>&1
rm "$work/ballast"
q paris machine add "$work/db1.lua" > /dev/null
q paris machine start db1 > /dev/null
wait_console paris db1 'ACKED [0-9]'

status_says() { # TEXT...
    status=$(q paris status db1 2>&1)
    for text in "$@"; do
        case $status in *"$text"*) ;; *) return 1 ;; esac
    done
}

sent_bytes() {
    q paris --json status db1 | grep -o '"sent_bytes":[0-9]*' | cut -d: -f2
}

kill_qemu() {
    kill -9 "$(machine_pid paris db1)"
    off() { q paris machine list | grep -qE '^db1 +off'; }
    wait_for 20 "paris to see that db1 is off" off
}

start_again() {
    q paris machine start db1 > /dev/null
    wait_console paris db1 'ACKED [0-9]'
}

# The next points are whole and hold what was acknowledged before now.
next_point_is_whole() {
    floor=$(acked paris db1)
    wait_points lyon db1 $(($(newest_point lyon db1) + 2))
    replica_is_whole db1 "$floor"
    q paris resume db1 > /dev/null
    ok "$1: the replica is whole: $line"
}

# --- QEMU killed in the initial copy -----------------------------------------------------------

q paris protect db1 --to lyon --interval 1s --keep 1000 > "$work/protect.log" 2>&1 &
command=$!
copied() { du -k "$work/lyon/replicas/db1/vda/head.raw" 2> /dev/null | cut -f1; }
under_way() { [ "$(copied)" -gt 10000 ] 2> /dev/null; }
until under_way; do
    kill -0 "$command" 2> /dev/null || no "the copy was not caught: $(cat "$work/protect.log")"
done
kill -9 "$(machine_pid paris db1)"
check "QEMU was killed in mid-copy: $(copied) KiB of 120 MiB are there" test "$(copied)" -lt 120000
start_again
wait "$command" || no "the protection did not survive it: $(cat "$work/protect.log")"
wait_points lyon db1 1
next_point_is_whole "killed in the initial copy"

# --- QEMU killed while it is protected ---------------------------------------------------------

remember_points db1
before=$(sent_bytes)
kill_qemu
start_again
points_go_on db1 2
after=$(sent_bytes)
check "of 120 MiB only what differs was sent: $((after - before)) bytes" \
    test $((after - before)) -lt 40000000
next_point_is_whole "killed while protected"

# --- A disk that changed its size while the machine was off ------------------------------------

remember_points db1
q paris machine stop db1 --force > /dev/null
head_has() { # BYTES
    test "$(stat -c %s "$work/lyon/replicas/db1/vda/head.raw")" = "$1"
}
before=$(newest_point lyon db1)
truncate -s +16M "$work/db1-1.raw"
wait_for 60 "the replica to grow" head_has 285212672
check "a disk that grew while its machine was off is a point of the new size" \
    test "$(newest_point lyon db1)" -gt "$before"
points_are_kept db1
remember_points db1
truncate -s -16M "$work/db1-1.raw"
wait_for 30 "the size to be refused" status_says "critical" \
    "disk vda of db1 shrank from 285212672 to 268435456" "give it its size back"
ok "a disk that shrank is refused with both sizes: $(printf '%s' "$status" | grep -m 1 'shrank')"
points_are_kept db1
truncate -s +16M "$work/db1-1.raw"
q paris retry db1 > /dev/null
wait_for 60 "replication to go on with the size it had" status_says "session      protected"
start_again
points_go_on db1 1

# --- And while it works -------------------------------------------------------------------------

# The node "disk0" is what the guest writes to.
resize_live() { # MACHINE DISK BYTES
    out=$(printf '%s\n' '{"execute":"qmp_capabilities"}' \
        '{"execute":"block_resize","arguments":{"node-name":"'"$2"'","size":'"$3"'}}' |
        socat -t 5 - "UNIX-CONNECT:$work/paris/machines/$1/qmp-spare")
    case $out in *'"error"'*) no "block_resize: $out" ;; esac
}
before=$(sent_bytes)
resize_live db1 disk0 301989888
wait_for 60 "the replica to grow" head_has 301989888
points_go_on db1 2
check "what is new was not read or sent: $(($(sent_bytes) - before)) bytes" \
    test $(($(sent_bytes) - before)) -lt 40000000
next_point_is_whole "a disk that grew twice"

# --- Compared by hand ----------------------------------------------------------------------------

before=$(sent_bytes)
said=$(q paris resync db1 --now)
check "a comparison is begun by hand: $said" test "${said#*compared with its replica now}" != "$said"
compared() { ! status_says "resync  " && status_says "session      protected"; }
began() { status_says "resync       asked" || grep -q 'resynchronized group=db1' "$work/paris.log"; }
wait_for 30 "the comparison to begin" began
wait_for 120 "the comparison to end" compared
points_go_on db1 1
check "what is the same was not sent: $(($(sent_bytes) - before)) bytes" \
    test $(($(sent_bytes) - before)) -lt 20000000
next_point_is_whole "compared by hand"

# --- The served disk dies under its guest ------------------------------------------------------

# What serves the newest instance's disks: pids of nbdkit processes with its folder.
serving() {
    pgrep -f "^nbdkit.*$(dirname "$(console lyon db1)")/" || true
}

served_disk_killed() { # WHAT
    wait_console lyon db1 'RECORDS '
    wait_new_records lyon db1 > /dev/null
    qemu=$(machine_pid lyon db1)
    victims=$(serving)
    [ -n "$victims" ] || no "nothing serves $(console lyon db1)"
    for pid in $victims; do
        kill -9 "$pid"
    done
    last=$(acked lyon db1)
    served_again() { new=$(serving) && [ -n "$new" ] && [ "$new" != "$victims" ]; }
    wait_for 20 "the disk to be served again" served_again
    newer() { [ "$(acked lyon db1)" -gt $((last + 200)) ]; }
    wait_for 60 "the writer to go on" newer
    check "$1: served again, the same QEMU goes on writing" kill -0 "$qemu"
    check "$1: it runs" test -n "$(q lyon machine list | grep -E 'db1 .*running' || true)"
}

q lyon test-failover db1 > /dev/null
served_disk_killed "a test"
check "the test's records were whole" whole "$(records lyon db1)"
q lyon cleanup db1 > /dev/null
check "no process of the test is left" test -z "$(pgrep -f "$work/lyon/instances" || true)"

q lyon failover db1 --planned --yes > /dev/null
served_disk_killed "a recovered machine"
check "its records were whole" whole "$(records lyon db1)"
e2e_done
