#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The whole circle on real machines: fail over, commit, the old side becomes the replica, fail back,
# commit, protected again in the first direction; judged by the guests' own records and by comparing
# disks.
. "$(dirname "$0")/lib/e2e.sh"

e2e_two_sites
e2e_machine db1 1 raw
q paris protect db1 --to lyon --interval 1s --keep 10
wait_points lyon db1 2

state_is() { # SITE MACHINE STATE
    [ "$(q "$1" --json status "$2" | grep -o '"state":"[a-z-]*"' | head -1 | cut -d'"' -f4)" = "$3" ]
}
protected_at() { # SITE MACHINE
    wait_for 120 "$2 to be protected from $1" state_is "$1" "$2" protected
}

# lyon
q lyon failover db1 --planned --yes
wait_console lyon db1 'RECORDS '
check "db1 is whole at lyon" whole "$(records lyon db1)"
wait_new_records lyon db1
q lyon commit db1
protected_at lyon db1
ok "lyon sends to paris: $(q lyon status db1 | head -1)"
first=$(newest_point lyon db1)
wait_points lyon db1 $((first + 2))
ok "points go to paris, point $(newest_point lyon db1)"

# back to paris
q paris failback db1 --yes
last=$(acked lyon db1)
wait_console paris db1 'RECORDS '
line=$(records paris db1)
check "db1 is whole at paris" whole "$line"
check "it lost nothing: acknowledged $last at lyon, found $(field "$line" last)" \
    test "$(field "$line" last)" = "$last"
wait_new_records paris db1
q paris commit db1
protected_at paris db1
first=$(newest_point paris db1)
wait_points paris db1 $((first + 2))
ok "paris sends to lyon again, point $(newest_point paris db1)"

# and the whole thing once more
q lyon failover db1 --planned --yes
wait_console paris db1 'WRITER STOPPED'
last=$(acked paris db1)
wait_console lyon db1 'RECORDS '
line=$(records lyon db1)
check "db1 is whole at lyon again" whole "$line"
check "it lost nothing: acknowledged $last at paris, found $(field "$line" last)" \
    test "$(field "$line" last)" = "$last"
check "source and replica are the same" cmp "$work/db1-1.raw" "$work/lyon/replicas/db1/vda/head.raw"
e2e_done
