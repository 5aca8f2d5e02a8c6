#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Paris dies: its daemon and its machine by SIGKILL. At most what came after the last durable point is
# lost, and the tool names that bound before it asks.
. "$(dirname "$0")/lib/e2e.sh"

e2e_two_sites
e2e_machine db1 1 raw qcow2
q paris protect db1 --to lyon --interval 1s --keep 10
wait_points lyon db1 3

# All that was acknowledged before a cut that became durable must be there.
floor=$(acked paris db1)
wait_points lyon db1 $(($(newest_point lyon db1) + 2))
qemu=$(machine_pid paris db1)
kill_daemon paris
kill -9 "$qemu" || no "QEMU ended with the daemon"
written=$(acked paris db1)
ok "paris is gone; db1 had acknowledged $written records, at least $floor are in a durable point"

answer=$(echo no | q lyon failover db1 --unplanned 2>&1) && no "a 'no' went ahead: $answer"
case $answer in
    *"is LOST"*) ok "the bound was named before it asked" ;;
    *) no "no word of what is lost: $answer" ;;
esac
check "saying no changed nothing" test -z "$(ls "$work/lyon/instances" 2> /dev/null)"
refused 5 "both sites" lyon failover db1 --planned --yes
check "no run was started for it" test "$(q lyon run list | grep -c planned || true)" = 0

q lyon failover db1 --unplanned --yes
wait_console lyon db1 'RECORDS '
line=$(records lyon db1)
check "db1 is whole: $line" whole "$line"
check "at least the $floor records of the durable point are there" test "$(field "$line" last)" -ge "$floor"
wait_new_records lyon db1
ok "db1 writes new records at lyon"

# The recovered machine is stopped and started by command, with its disks as they were.
off() { q "$1" machine show "$2" --json | grep -Eq '"state": ?"off"'; }
before=$(acked lyon db1)
q lyon machine stop db1 --force > /dev/null
check "db1 is off at lyon" off lyon db1
kill_daemon lyon
demo_serve lyon
check "a restart of the daemon starts nothing" off lyon db1
check "no process serves its disk" test -z "$(pgrep -f "$work/lyon/instances" || true)"
q lyon machine start db1 > /dev/null
wait_console lyon db1 'RECORDS '
line=$(records lyon db1)
check "db1 is whole: $line" whole "$line"
check "what it had acknowledged, $before, is there" test "$(field "$line" last)" -ge "$before"
wait_new_records lyon db1
ok "db1 writes on"

# The old primary comes back and is refused.
demo_serve paris
marked() { q paris status | grep -q failed-over; }
wait_for 30 "paris to mark db1 as failed over" marked
ok "paris is fenced"
refused 4 "was failed over to lyon" paris machine start db1
refused 4 "was failed over to lyon" paris unprotect db1
check "lyon's instance still runs" kill -0 "$(machine_pid lyon db1)"
e2e_done
