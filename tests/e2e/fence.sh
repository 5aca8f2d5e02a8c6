#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Paris lives, but is cut off: lyon takes db1 over, paris' db1 writes on. When the link is back, paris'
# machine is stopped at once, what it wrote alone is kept as a branch, and nothing of lyon's is lost.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/kills.sh
. tests/e2e/lib/fence.sh

e2e_two_sites
trap fence_end EXIT
e2e_machine db1 1 raw qcow2
q paris protect db1 --to lyon --interval 1s --keep 10 > /dev/null
wait_points lyon db1 3
lyon_takes_over db1
ok "db1 runs at both sites: paris is cut off"
before=$(acked lyon db1)
there=$(acked paris db1)

cut_link -D
stopped_within 5000 db1
wait_for 60 "the old db1 to be settled" is_settled db1
stopped=$(acked paris db1)
check "its process is gone" test -z "$(pgrep -f -- "-pidfile $work/paris/machines/db1/qemu.pid" || true)"
branch_is_exact db1 "vda:$work/db1-1.raw:raw" "vdb:$work/db1-2.qcow2:qcow2"
refused 4 "was failed over to lyon (generation 2)" paris machine start db1
wait_new_records lyon db1
check "lyon's db1 wrote on all the time" test "$(acked lyon db1)" -gt "$before"
q lyon machine stop db1 --force > /dev/null
at_lyon=$(acked lyon db1)
q lyon machine start db1 > /dev/null
wait_console lyon db1 'RECORDS '
line=$(records lyon db1)
check "lyon's db1 is whole: $line" whole "$line"
check "and has all it had acknowledged, $at_lyon" test "$(field "$line" last)" -ge "$at_lyon"
check "paris wrote alone up to record $stopped, at least $there of it before the link was back" test "$stopped" -ge "$there"
marked() { q paris status | grep -q failed-over; }
wait_for 30 "paris to show db1 as failed over" marked
check "lyon does not ask any more" test ! -e "$work/lyon/sessions/db1.retiring"
e2e_done
