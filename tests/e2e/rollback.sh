#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Before a commit: another point, and back again; what is refused before and after it. Judged by the
# guests' own records.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/circle.sh

e2e_two_sites
e2e_machine db1 1 raw
q paris protect db1 --to lyon --interval 1s --keep 20
wait_points lyon db1 3
refused 3 "no failover of db1 was run here" lyon commit db1
refused 4 "did not come from lyon" lyon failback db1 --yes

# Another point: what the older one had is there, and nothing newer.
older=$(newest_point lyon db1)
wait_points lyon db1 $((older + 3))
q lyon failover db1 --planned --yes
no_loss paris db1 lyon
found=$last
refused 4 "awaiting-commit" lyon failover db1 --planned --yes
refused 2 "--point N is missing" lyon change-point db1 --yes
refused 3 "has no point 999" lyon change-point db1 --point 999 --yes
q lyon change-point db1 --point "$older" --yes
wait_console lyon db1 'RECORDS '
line=$(records lyon db1)
check "db1 is whole at point $older" whole "$line"
check "it has less than before: $(field "$line" last) of $found" \
    test "$(field "$line" last)" -lt "$found"
wait_new_records lyon db1

# Back: paris goes on where it was.
q lyon rollback db1 --yes
wait_console paris db1 'RECORDS '
line=$(records paris db1)
check "paris has all it had: $(field "$line" last) of $found" test "$(field "$line" last)" = "$found"
check "db1 is whole at paris" whole "$line"
wait_new_records paris db1
before=$(newest_point lyon db1)
wait_points lyon db1 $((before + 2))
ok "paris sends to lyon again, point $(newest_point lyon db1)"
check "nothing was compared byte by byte" test -z "$(grep -c 'copying' "$work/paris.log" | grep -v '^1$')"
refused 4 "rolled-back" lyon rollback db1 --yes
refused 4 "rolled-back" lyon commit db1
check "nothing of the recovered machine is left" test -z "$(ls "$work/lyon/instances")"

# Once more, and committed: then it is final.
q lyon failover db1 --planned --yes
no_loss paris db1 lyon
commits lyon db1
refused 4 "committed already" lyon commit db1
refused 4 "that is final" lyon rollback db1 --yes
refused 4 "that is final" lyon change-point db1 --point 1 --yes
e2e_done
