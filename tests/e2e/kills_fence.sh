#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Paris' daemon is killed at every step of putting an old machine away: each next one does it again, and the
# last one has a branch that is whole, bit by bit, a machine that is gone, and nothing done twice.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/kills.sh
. tests/e2e/lib/fence.sh

e2e_two_sites
trap fence_end EXIT
e2e_machine db1 1 raw
q paris protect db1 --to lyon --interval 1s --keep 10 > /dev/null
wait_points lyon db1 2
lyon_takes_over db1
kill_daemon paris
cut_link -D
for point in source.fenced source.stopped branch.sealed branch.kept source.branched provider.ended; do
    arm paris "$point"
    died paris "$point"
    case $point in source.fenced) ;; *) written=${written:-$(acked paris db1)} ;; esac
    ok "killed at $point"
done
demo_serve paris > /dev/null
wait_for 60 "the old db1 to be settled" is_settled db1
check "it wrote nothing after it was stopped" test "$(acked paris db1)" = "$written"
check "there is one branch" test "$(ls "$work/paris/branches/db1" | wc -l)" = 1
branch_is_exact db1 "vda:$work/db1-1.raw:raw"
refused 4 "was failed over to lyon (generation 2)" paris machine start db1
e2e_done
