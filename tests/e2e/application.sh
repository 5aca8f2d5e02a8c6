#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Application-consistent points of a real machine, with its agent: their file systems need no recovery,
# they are found for a test failover, and the guest is frozen for moments only, also when the daemon is
# killed meanwhile, and when the agent is silent.
. "$(dirname "$0")/lib/e2e.sh"
. "$(dirname "$0")/lib/kills.sh"

e2e_two_sites
e2e_machine db1 1 raw qcow2
q paris protect db1 --to lyon --interval 1s --keep 600 > /dev/null
wait_points lyon db1 2
refused 3 "no application-consistent point of db1 is kept" lyon test-failover db1 --point application
q paris settings db1 --application-consistency 1m > /dev/null

application_points() {
    q lyon --json points db1 | tr '{' '\n' | grep '"consistency":"application"' |
        sed -n 's/.*"point":\([0-9]*\),.*/\1/p' | sort -n
}
has_more_than() { [ "$(application_points | wc -l)" -gt "$1" ]; }
wait_for 90 "an application-consistent point" has_more_than 0
point=$(application_points | tail -1)
wait_points lyon db1 $((point + 2))
check "the other points are not" test "$(application_points | wc -l)" = 1
q lyon points db1 > "$work/points.txt"
check "muster points shows it, and how long it took" \
    grep -Eq "^ *$point .* application +[0-9.]+ m?s +ready" "$work/points.txt"
q paris status db1 > "$work/status.txt"
check "muster status shows it" grep -q "^application  point $point\|^application  $point" "$work/status.txt"

needs_recovery() { dumpe2fs -h "$1" 2> /dev/null | grep -q needs_recovery; }
for disk in vda vdb; do
    q lyon export db1 --point application --disk $disk "$work/app-$disk" > /dev/null
    q lyon export db1 --point $((point + 1)) --disk $disk "$work/crash-$disk" > /dev/null
    check "$disk of a crash point needs recovery" needs_recovery "$work/crash-$disk"
    if needs_recovery "$work/app-$disk"; then no "$disk of point $point needs recovery"; fi
    check "$disk of point $point is clean" e2fsck -fn "$work/app-$disk" > "$work/fsck" 2>&1
done
line=$(judge_images "$work/app-vda" "$work/app-vdb")
check "both disks are one instant: $line" whole "$line"

q lyon test-failover db1 --point application > "$work/run.txt"
check "a test failover uses it" grep -q "db1: point $point is its newest application-consistent one" \
    "$work/run.txt"
wait_console lyon db1 'RECORDS '
check "its machine is whole" whole "$(records lyon db1)"
q lyon cleanup db1 > /dev/null

# Killed while the guest is frozen.
arm paris source.cut.frozen
died paris source.cut.frozen
from=$(acked paris db1)
goes_on() { [ "$(acked paris db1)" -gt $((from + 100)) ]; }
wait_for 10 "the guest to go on without the daemon" goes_on
ok "the guest goes on when the daemon was killed while it was frozen"
check "nothing is noted as frozen" test ! -e "$work/paris/sessions/db1/work/held.json"
revive paris
count=$(application_points | wc -l)
wait_for 150 "the next application-consistent point" has_more_than "$count"
ok "the next one is made"

# On request, at either site.
q lyon point create db1 --consistency application --label mine > "$work/made.txt"
made=$(sed -n 's/^Point \([0-9]*\) of db1, application-consistent, stays, pinned as "mine"\.$/\1/p' "$work/made.txt")
check "a point is made when it is asked for" test -n "$made"
application_points > "$work/list.txt"
check "and is what it says" grep -qx "$made" "$work/list.txt"
q lyon points db1 > "$work/points.txt"
check "and stays" grep -Eq "^ *$made .*mine" "$work/points.txt"
check "one for a crash is not frozen" sh -c \
    "'$muster' --dir '$work/paris' point create db1 --consistency crash | grep -q ', crash-consistent\.'"
q lyon point unpin db1 mine > /dev/null

# Somebody else has the agent's port: for us it is silent.
socat -u "UNIX-CONNECT:$work/paris/machines/db1/agent" /dev/null &
holder=$!
warns() { q paris --json status db1 | grep -q '"code":"no-application-point"'; }
wait_for 150 "a warning" warns
kill "$holder"
q paris status db1 > "$work/status.txt"
check "it says why" grep -q "the guest agent of db1 does not answer" "$work/status.txt"
newest=$(newest_point lyon db1)
wait_points lyon db1 $((newest + 3))
ok "points are made all the same"
check "the log says so" grep -q "not application-consistent group=db1" "$work/paris.log"
q paris machine stop db1 > /dev/null
e2e_done
