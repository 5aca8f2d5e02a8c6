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
refused 4 "failed over to lyon" paris failover db1 --unplanned --yes
refused 4 "awaits commit" lyon failover db1 --planned --yes

# What paris wrote alone is listed, at both sites, and can be looked at.
point=$(ls "$work/paris/branches/db1")
list=$(q paris branches db1)
case $list in *"$point"*vda*paris*) ok "the branch is listed" ;; *) no "branches: $list" ;; esac
check "at lyon, too" test "$(q lyon --json branches db1)" = "$(q paris --json branches db1)"
refused 1 "several disks" paris view db1 --branch "$point"
view_begins paris db1 --branch "$point" --disk vdb
qemu-img compare -f raw -F qcow2 "$uri" "$work/db1-2.qcow2" > "$work/compare.log" || no "$(cat "$work/compare.log")"
ok "the branch's view is paris' own disk"
view_killed paris
view_begins lyon db1 --point "$((point - 1))" --disk vda
check "a point that is looked at is kept" pinned "$((point - 1))"
qemu-img info "$uri" > /dev/null || no "point $((point - 1)) cannot be read"
kill "$viewer"
wait "$viewer" || no "the view ended with $?"
check "and nothing is left of a view that ended" nothing_viewed lyon
view_begins lyon db1 --point "$((point - 1))" --disk vda
view_killed lyon
check "a view that was killed keeps no point" not_pinned "$((point - 1))"

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
