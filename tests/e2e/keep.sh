#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Paris is gone for good: what was failed over to lyon becomes an ordinary machine there, with every record, and
# is protected to a third site, tours, and fails over to it like any other.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/circle.sh
. tests/e2e/lib/kills.sh

# Of the machine as it runs now: recovered, or from its definition.
console() {
    newest=$(ls -t "$work/$1"/instances/*-"$2"/console.log 2> /dev/null | head -1)
    echo "${newest:-$work/$1/machines/$2/console.log}"
}

newest_job() { # KIND, at lyon
    q lyon --json jobs | tr '{' '\n' | grep "\"kind\":\"$1\"" | head -1
}

e2e_two_sites
demo_site tours > /dev/null
demo_serve tours
q lyon site pair join "$(q tours site pair issue)" > /dev/null
e2e_machine db1 1 raw qcow2
refused 3 "was not failed over to here" lyon machine keep db1
refused 4 "ordinary machine of this site already" paris machine keep db1
q paris protect db1 --to lyon --interval 1s --keep 10 > /dev/null
wait_points lyon db1 2
q lyon failover db1 --planned --yes > /dev/null
no_loss paris db1 lyon
refused 4 "is shared with paris" lyon machine keep db1
wait_new_records lyon db1

kill_daemon paris
q lyon commit db1 > /dev/null
has_streamed() { newest_job stream | grep -q '"state":"succeeded"'; }
wait_for 60 "db1 to have disks of its own" has_streamed
refused 4 'muster machine keep db1' lyon unprotect db1
q lyon jobs cancel "$(newest_job reprotect | grep -o '"id":[0-9]*' | cut -d: -f2)" > /dev/null
has_ended() { newest_job reprotect | grep -q '"state":"cancelled"'; }
wait_for 60 "the reprotect job to end" has_ended
q lyon unprotect db1 --force > "$work/run.log" 2>&1 || no "unprotect: $(cat "$work/run.log")"
refused 4 "db1 is running" lyon machine keep db1
wait_new_records lyon db1
q lyon machine stop db1 > /dev/null
last=$(acked lyon db1)

# A daemon that is killed in the middle of it; the answer was lost, so it is asked for again.
arm lyon keep.moved
q lyon machine keep db1 > "$work/run.log" 2>&1 && no "a dead daemon answered"
died lyon keep.moved
revive lyon
q lyon machine keep db1 > "$work/run.log" || no "keep: $(cat "$work/run.log")"
check "its disks are named" grep -qx "  $work/lyon/instances/kept/db1/vda.qcow2" "$work/run.log"
check "nothing else is left of its way here" test -z "$(find "$work/lyon/instances" "$work/lyon/replicas" "$work/lyon/keys" -mindepth 1 -not -path "*/kept*")"
check "lyon has one db1" test "$(q lyon machine list | grep -c '^db1 ')" = 1
refused 4 "ordinary machine of this site already" lyon machine keep db1
q lyon machine start db1 > /dev/null
wait_console lyon db1 'RECORDS '
line=$(records lyon db1)
check "db1 is whole" whole "$line"
check "db1 has all it had: $(field "$line" last) of $last" test "$(field "$line" last)" = "$last"

# Paris is back, as it was: it can be the other site again, once it has forgotten its old db1.
demo_serve paris > /dev/null
cannot_protect() { # TEXT
    q lyon protect db1 --to paris > "$work/run.log" 2>&1 && no "db1 was protected to a site that has one"
    check "protect says: $1" grep -q "$1" "$work/run.log"
}
cannot_protect "db1 is a group of paris's own"
refused 4 "--force" paris unprotect db1
q paris unprotect db1 --force > /dev/null
cannot_protect "paris has a machine of its own called db1"
q paris machine remove db1 > /dev/null
q lyon protect db1 --to paris --interval 1s > /dev/null
wait_points lyon db1 2
q lyon unprotect db1 > /dev/null

q lyon protect db1 --to tours --interval 1s > /dev/null
wait_points tours db1 3
q tours failover db1 --planned --yes > "$work/run.log" || no "failover: $(cat "$work/run.log")"
no_loss lyon db1 tours
commits tours db1
q lyon failback db1 --yes > "$work/run.log" || no "failback: $(cat "$work/run.log")"
no_loss tours db1 lyon
for site in lyon tours; do
    check "the audit log of $site verifies" q "$site" audit verify
done
e2e_done
