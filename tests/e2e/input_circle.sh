#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Commit and the way back, asked for too early, too late, twice and at the wrong site; daemons that are
# restarted in between; and the old machine's disk written by hand, or gone, while it is off. Nothing
# is changed by what is refused, and what the text says one can do works.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/circle.sh
. tests/e2e/lib/kills.sh

disk_is_written() { # a file more, as somebody who mounts the image would
    debugfs -w -R "write $0 by-hand-$1" "$work/db1-1.raw" > "$work/debugfs.log" 2>&1
    sync "$work/db1-1.raw"
}

has_file() { # IMAGE NAME
    debugfs -R "stat $2" "$1" 2> /dev/null | grep -q 'Type: regular'
}

e2e_two_sites
e2e_machine db1 1 raw
q paris protect db1 --to lyon --interval 1s --keep 10 > /dev/null
wait_points lyon db1 2

# --- Too early, and at the wrong site ----------------------------------------------------------

refused 4 "there is nothing to reverse" lyon reprotect db1
refused 4 "there is nothing to reverse" paris reprotect db1
refused 3 "no failover of db1 was run here" lyon commit db1
refused 3 "no failover of db1 was run here" lyon rollback db1 --yes
refused 4 "paris" paris failover db1 --planned --yes
refused 4 "did not come from lyon" lyon failback db1 --yes
refused 4 "paris" paris failback db1 --yes
check "db1 was not touched" kill -0 "$(machine_pid paris db1)"

# --- Asked for at both sites at once, and twice -----------------------------------------------------

for site in paris lyon lyon; do
    q "$site" failover db1 --planned --yes >> "$work/$site.asked" 2>&1 &
    asked="${asked:-} $!"
done
succeeded=0
for pid in $asked; do
    if wait "$pid"; then succeeded=$((succeeded + 1)); fi
done
check "of three failovers at once one came about" test "$succeeded" = 1
check "paris says where to ask" grep -q "its replica is there" "$work/paris.asked"
check "lyon says who has db1" grep -q "has db1" "$work/lyon.asked"
check "one db1 runs" test "$(pgrep -cf -- "-pidfile $work/[a-z]*/(machines|instances)/([a-z]*-[0-9]*-)?db1/qemu.pid")" = 1

# --- Awaiting commit ---------------------------------------------------------------------------

no_loss paris db1 lyon
found=$last
refused 4 "muster commit db1" lyon reprotect db1
refused 4 "lyon" paris failback db1 --yes
refused 4 "lyon" paris failover db1 --unplanned --yes
refused 3 "no failover of db1 was run here" paris commit db1
qemu=$(machine_pid lyon db1)
for site in lyon paris; do
    kill_daemon $site
    demo_serve $site > /dev/null
done
check "daemons restarted: db1 awaits its commit" test "$(run_text "$(newest_run)" state)" = awaiting-commit
check "its machine did not notice" kill -0 "$qemu"
refused 4 "was failed over to lyon" paris machine start db1

# Taken back although paris' disk is not what it was.
disk_is_written 1
q lyon rollback db1 --yes > "$work/rollback.log"
wait_console paris db1 'RECORDS '
line=$(records paris db1)
check "paris has all it had: $(field "$line" last) of $found" test "$(field "$line" last)" = "$found"
check "db1 is whole at paris" whole "$line"
protected_at paris db1
points_go_beyond() { wait_points lyon db1 $(($(newest_point lyon db1) + 2)); }
points_go_beyond
said_all() { grep -q "resynchronizing group=db1 .*read=all" "$work/paris.log"; }
check "that all of it is compared was said" said_all

# --- Committed, and paris' disk written by hand before it is handed over --------------------------

q lyon failover db1 --planned --yes > /dev/null
no_loss paris db1 lyon
check "what was written by hand at paris is at lyon" has_file "$work/lyon/replicas/db1/vda/head.raw" by-hand-1
wait_new_records lyon db1
disk_is_written 2
kill_daemon paris
failover=$(newest_run)
q lyon commit db1 > /dev/null
refused 4 "committed already" lyon commit db1
refused 4 "that is final" lyon change-point db1 --point 1 --yes
refused 4 "that is final" lyon rollback db1 --yes
qemu=$(machine_pid lyon db1)
kill_daemon lyon
demo_serve lyon > /dev/null
check "lyon restarted: db1 is committed" test "$(run_text "$failover" state)" = committed
check "its machine did not notice" kill -0 "$qemu"
refused 4 "works on db1" lyon reprotect db1
demo_serve paris > /dev/null
protected_at lyon db1
has=$(newest_point lyon db1)
wait_points lyon db1 $((has + 2))
ok "paris' disk, written by hand before, became the replica"

# --- The way back, when something is amiss --------------------------------------------------------

qemu=$(machine_pid lyon db1)
kill_daemon lyon
refused 5 "lyon" paris failback db1 --yes
demo_serve lyon > /dev/null
refused 4 "paris" lyon failback db1 --yes
check "db1 runs at lyon as before" kill -0 "$qemu"

# Written by hand while it is the replica, or gone: said before the machine is shut down.
paused() { q lyon --json status db1 | grep -q '"session":"paused"'; }
run_at() { q "$1" --json run list | grep -o '"id":[0-9]*' | head -1 | cut -d: -f2; }
q lyon pause db1 > /dev/null
wait_for 60 "replication of db1 to rest" paused
mv "$work/db1-1.raw" "$work/aside"
q paris failback db1 --yes > "$work/run.log" 2>&1 && no "a failback onto a disk that is gone went ahead"
check "a disk that is gone is named" grep -q "disk vda of db1 is gone" "$work/run.log"
check "db1 runs at lyon as before" kill -0 "$qemu"
q paris run cancel "$(run_at paris)" > /dev/null 2>&1 || true
mv "$work/aside" "$work/db1-1.raw"
disk_is_written 3
q paris failback db1 --yes > "$work/run.log" 2>&1 && no "a failback onto a disk that others wrote to went ahead"
check "a disk that others wrote to is named" \
    grep -q "disk vda of db1 was written to, or replaced, since point" "$work/run.log"
check "db1 runs at lyon as before" kill -0 "$qemu"

# verify takes the disk over: what differs comes again, and the replica goes on.
q paris run cancel "$(run_at paris)" > /dev/null 2>&1 || true
q paris verify db1 > "$work/verify.log" 2>&1 && no "what was written by hand was not found"
check "verify names what was written by hand" grep -q "chunks of 64 KiB at its newest point" "$work/verify.log"
q lyon resume db1 > /dev/null
q lyon retry db1 > /dev/null
has=$(newest_point lyon db1)
wait_points lyon db1 $((has + 3))
q paris verify db1 > "$work/verify.log" 2>&1 || no "verify after the repair: $(cat "$work/verify.log")"
ok "the disk is the replica again, and whole"
e2e_done
