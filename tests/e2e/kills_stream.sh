#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# lyon's daemon is killed at each step of giving a recovered machine disks of its own, while reverse sync and
# the machine's writes go on. Started again it goes on with it; in the end nobody serves the machine a point,
# and the way back finds every record.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/circle.sh
. tests/e2e/lib/kills.sh

# The newest one: each circle has one of its own.
has_streamed() {
    q lyon --json jobs | tr '{' '\n' | grep '"kind":"stream"' | head -1 | grep -q '"state":"succeeded"'
}

is_protected() { # SITE MACHINE
    state_is "$1" "$2" protected
}

e2e_two_sites
e2e_machine db1 1 raw qcow2
q paris protect db1 --to lyon --interval 1s --keep 50 > /dev/null
wait_points lyon db1 2
for point in stream.kept stream.begun stream.started stream.settled stream.own; do
    q lyon failover db1 --planned --yes > "$work/run.log" 2>&1 || no "failover: $(cat "$work/run.log")"
    no_loss paris db1 lyon
    wait_new_records lyon db1
    qemu=$(machine_pid lyon db1)
    arm lyon "$point"
    q lyon commit db1 > "$work/run.log" 2>&1 || true # lyon may be dead before it answers
    died lyon "$point"
    revive lyon
    wait_for 60 "db1 to have disks of its own after $point" has_streamed
    check "$point: nobody serves db1 a point any more" \
        test -z "$(pgrep -f "pidfile $work/lyon/instances/[a-z0-9-]*-db1/nbd" || true)"
    check "$point: its machine did not notice" kill -0 "$qemu"
    wait_for 120 "db1 to be protected from lyon" is_protected lyon db1
    wait_points lyon db1 $(($(newest_point lyon db1) + 2))
    q paris failback db1 --yes > "$work/run.log" 2>&1 || no "failback: $(cat "$work/run.log")"
    no_loss lyon db1 paris
    wait_new_records paris db1
    q paris commit db1 > "$work/run.log" 2>&1 || no "commit: $(cat "$work/run.log")"
    wait_for 120 "db1 to be protected from paris" is_protected paris db1
done
e2e_done
