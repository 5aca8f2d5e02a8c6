#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Either daemon killed with SIGKILL while a machine is protected, copied, sent, applied, unprotected:
# all of it goes on by itself, no point is lost, and what arrives is a whole instant of the guest.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/kills.sh

e2e_two_sites
e2e_machine db1 1 raw qcow2
qemu=$(machine_pid paris db1)
nodes=$(block_nodes paris db1)

# --- Protect and unprotect: the job, the initial copy ------------------------------------------

# job_killed SITE POINT COMMAND...: the command's daemon or its peer dies at POINT, comes back, and the
# command, which watches the job, ends well.
job_killed() {
    victim=$1
    point=$2
    shift 2
    arm "$victim" "$point"
    q paris "$@" > "$work/job.log" 2>&1 &
    command=$!
    died "$victim" "$point"
    revive "$victim"
    wait "$command" || no "$victim killed at $point: '$*' failed: $(tail -5 "$work/job.log")"
    ok "$victim killed at $point: '$1' went on to its end"
}

nothing_left() {
    for dir in paris/sessions lyon/replicas; do
        [ -z "$(ls "$work/$dir")" ] || no "unprotect left in $dir: $(ls "$work/$dir")"
    done
    [ -z "$(find "$work/paris/keys" "$work/lyon/keys" -name 'db1*')" ] || no "unprotect left a key"
}

copy_killed() { # SITE POINT, and where the unprotect is killed: SITE POINT
    floor=$(acked paris db1)
    job_killed "$1" "$2" protect db1 --to lyon --interval 1s --keep 1000
    wait_points lyon db1 2
    remember_points db1
    points_are_kept db1
    replica_is_whole db1 "$floor"
    if [ $# -gt 2 ]; then
        job_killed "$3" "$4" unprotect db1
    else
        q paris unprotect db1 > /dev/null
    fi
    nothing_left
}

copy_killed paris job.done:1 paris job.done:1
copy_killed paris job.done:2 paris job.done:2
copy_killed paris job.done:3 paris job.done:3
copy_killed paris job.done:4 lyon replica.remove
copy_killed lyon replica.create
copy_killed lyon replica.state
copy_killed paris sync.begin
copy_killed paris sync.track
copy_killed paris sync.base-sync:2
copy_killed paris sync.base-end
copy_killed lyon receiver.base-begin
copy_killed lyon receiver.base-frame:3
copy_killed lyon receiver.base-sync:2
copy_killed lyon receiver.base-end

# --- Deltas and their apply --------------------------------------------------------------------

q paris protect db1 --to lyon --interval 1s --keep 1000 > /dev/null
wait_points lyon db1 2

# The second pass: the first one's cycle got through.
delta_killed() { # SITE POINT
    remember_points db1
    arm "$1" "$2:2"
    died "$1" "$2"
    revive "$1"
    points_go_on db1 2
    ok "$1 killed at $2: points go on, none is lost"
}

# The first pass after a kill is in the recovery from it.
delta_killed_twice() { # SITE POINT POINT
    remember_points db1
    arm "$1" "$2:2"
    died "$1" "$2"
    arm "$1" "$3"
    died "$1" "$3"
    revive "$1"
    points_go_on db1 2
    ok "$1 killed at $2, then at $3: points go on, none is lost"
}

at_paris="sync.intent source.cut.prepared source.cut.made source.cut.staged sync.cut sync.sealed
    sync.outbox sync.sent sync.commit sync.durable source.end.merged sync.end sync.apply sync.prune"
at_lyon="receiver.segment-open receiver.segment-write receiver.segment-close receiver.commit
    replica.apply-intent replica.apply-undo replica.apply-written replica.apply-head
    replica.apply-done receiver.apply receiver.prune"
for point in $at_paris; do
    delta_killed paris "$point"
done
for point in $at_lyon; do
    delta_killed lyon "$point"
done
delta_killed_twice paris sync.cut sync.merged
delta_killed_twice paris sync.cut source.end.merged
delta_killed_twice paris sync.outbox sync.sent
delta_killed_twice lyon replica.apply-undo replica.apply-written
delta_killed_twice lyon replica.apply-written replica.apply-head
if all_kills; then
    for point in $at_paris; do
        delta_killed_twice paris sync.cut "$point"
        delta_killed_twice paris sync.outbox "$point"
    done
    for point in $at_lyon; do
        delta_killed_twice lyon replica.apply-intent "$point"
        delta_killed_twice lyon receiver.segment-write "$point"
    done
fi

remember_points db1
kill_daemon paris
kill_daemon lyon
revive paris
revive lyon
points_go_on db1 2
ok "both killed at once: points go on, none is lost"

# --- The machine did not notice ----------------------------------------------------------------

check "db1 is the process it was" test "$(machine_pid paris db1)" = "$qemu"
before=$(acked paris db1)
newer() { [ "$(acked paris db1)" -gt "$before" ]; }
wait_for 30 "db1 to write" newer
ok "db1 writes on"
floor=$(acked paris db1)
remember_points db1
points_go_on db1 2
replica_is_whole db1 "$floor"
ok "the replica is a whole instant"
check "nothing is left in QEMU of cuts that were cut short: $nodes block nodes" \
    test "$(block_nodes paris db1)" = "$nodes"
q paris resume db1 > /dev/null

# --- Off: compared as a whole ------------------------------------------------------------------

arm paris sync.rescan
q paris machine stop db1 > /dev/null 2>&1 || true
died paris sync.rescan
# Only now: points of the machine while it ran would do for the one that is waited for below.
remember_points db1
revive paris
q paris machine stop db1 > /dev/null
points_go_on db1
ok "paris killed while it compares the disks of a machine that is off: a point arrives"
q paris pause db1 > /dev/null
wait_for 60 "replication of db1 to rest" rests db1
check "source and replica of its raw disk are identical" \
    cmp "$work/db1-1.raw" "$work/lyon/replicas/db1/vda/head.raw"
check "source and replica of its qcow2 disk are identical" qemu-img compare -q -f qcow2 -F raw \
    "$work/db1-2.qcow2" "$work/lyon/replicas/db1/vdb/head.raw"

for site in paris lyon; do
    check "the audit log of $site verifies" q "$site" audit verify
done
e2e_done
