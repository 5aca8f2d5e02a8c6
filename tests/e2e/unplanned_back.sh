#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# db1 was failed over to lyon and committed, and lyon dies: the unplanned failover back to paris starts it on
# its own disks, with what lyon had sent. What can be done then is said as it is, at both sites.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/circle.sh

allowed_now() { # SITE OPERATION
    q "$1" --json show db1 | tr '{' '\n' | grep "\"operation\":\"$2\"" | grep -q '"allowed":true'
}

e2e_two_sites
e2e_machine db1 1 raw
q paris protect db1 --to lyon --interval 1s --keep 10 > /dev/null
wait_points lyon db1 2
q lyon failover db1 --planned --yes > /dev/null
no_loss paris db1 lyon
check "a rollback is offered" grep -q 'muster rollback' <(q lyon run show 1)
check "and shown as allowed" allowed_now lyon rollback
commits lyon db1
floor=$(acked lyon db1)
wait_points lyon db1 $(($(newest_point lyon db1) + 2))
qemu=$(machine_pid lyon db1)
kill_daemon lyon
kill -9 "$qemu"

q paris failover db1 --unplanned --yes > "$work/run.log" || no "failover: $(cat "$work/run.log")"
wait_console paris db1 'RECORDS '
line=$(records paris db1)
check "db1 is whole at paris" whole "$line"
check "at least the $floor records of a durable point are there" test "$(field "$line" last)" -ge "$floor"
check "the commit is offered" grep -q 'next: `muster commit 1` makes it final' "$work/run.log"
check "no rollback is offered" test -z "$(grep rollback "$work/run.log" || true)"
for operation in rollback change-point; do
    allowed_now paris $operation && no "$operation is shown as allowed"
done
check "the commit is shown as allowed" allowed_now paris commit
refused 1 "runs on its own disks here again" paris rollback db1 --yes
refused 1 "runs on its own disks here again" paris change-point db1 --point 1 --yes
check "one db1 is listed" test "$(q paris machine list | grep -c '^db1 ')" = 1
refused 4 "points come again with its next protection" paris points db1
q paris commit db1 > /dev/null
refused 4 "it was given up" paris test-failover db1

# Lyon comes back: its db1 stays off, and what it may have written alone is named.
demo_serve lyon
is_failed_over() { q lyon status | grep -q failed-over; }
wait_for 30 "lyon to learn of it" is_failed_over
says_branch() { q paris jobs show "$(q paris --json jobs | tr '{' '\n' | grep '"kind":"reprotect"' | grep -o '"id":[0-9]*' | head -1 | cut -d: -f2)" | grep -q -- '--accept-branch'; }
wait_for 60 "paris to ask what to do with lyon's branch" says_branch
q lyon status > "$work/status"
check "lyon is not told to try again" test -z "$(grep retry "$work/status" || true)"
refused 4 "failed over to paris" lyon machine start db1
q paris reprotect db1 --accept-branch > "$work/reprotect.log" || no "reprotect: $(cat "$work/reprotect.log")"
wait_points paris db1 $(($(newest_point paris db1) + 2))
ok "db1 is protected from paris again"
e2e_done
