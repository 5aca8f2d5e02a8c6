#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The whole circle, again and again: test, planned failover, commit, failback, commit; and in each step
# either daemon is killed at a random moment, or at a random crash point. Each step ends as it would have,
# with every record there, one machine, and one promotion per failover.
#
# MUSTER_CYCLES (5) says how often, MUSTER_SEED (drawn, and printed) which moments: the same seed kills the
# same daemons at the same points and after the same times.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/circle.sh
. tests/e2e/lib/kills.sh

cycles=${MUSTER_CYCLES:-5}
seed=${MUSTER_SEED:-$(($(od -An -N2 -tu2 /dev/urandom)))}
RANDOM=$seed
echo "MUSTER_SEED=$seed MUSTER_CYCLES=$cycles"
spaces=

# pick WORD...: one of them, in `picked`. No subshell: that would draw from numbers of its own.
pick() {
    index=$((RANDOM % $# + 1))
    picked=${!index}
}

# --- Killing -------------------------------------------------------------------------------------

runs_points="run.declared run.state run.intent:1 run.intent:2 run.intent:3 run.intent:4 run.committed:1
    run.committed:2 run.committed:3 run.result:1 run.result:2 run.result:3 run.result:4 group.pin
    instance.made instance.arming instance.tracked instance.armed instance.started instance.start
    provider.spawned replica.promote-record replica.promote-manifest replica.promote-generation
    own.tracked own.started base.digests base.made replica.released stream.kept stream.begun
    stream.started stream.settled job.done replica.apply-head receiver.commit"
source_points="source.held source.synced source.fenced sync.cut sync.sealed sync.outbox sync.commit
    sync.durable sync.end sync.rescan sync.begin sync.track follow.stopped follow.taken
    replica.adopt-begun replica.adopt-manifest replica.follow-tip replica.apply-intent
    replica.apply-undo replica.apply-written replica.apply-head group.final-sync group.retire
    machine.shutdown provider.ended"

# Before a step: who dies in it, by a crash point or after some time.
aim() { # SITE: where the step is asked for
    pick paris lyon
    victim=$picked
    # shellcheck disable=SC2086
    if [ "$victim" = "$1" ]; then pick $runs_points; else pick $source_points; fi
    point=$picked
    pick 1 2 3
    if [ "$picked" = 1 ]; then point=; else arm "$victim" "$point"; fi
    patience=$((RANDOM % 60 + 1))
    shots=$((shots + 1))
}

# Dead at its point, or else when its time is over: tens of ms, up to some seconds.
strike() {
    while [ "$patience" -gt 0 ] && is_alive "$victim"; do
        sleep 0.05
        patience=$((patience - 1))
    done
    if [ -n "$point" ] && is_dead "$victim"; then hits=$((hits + 1)); fi
    kill_daemon "$victim"
    revive "$victim"
}

run_of() { # SITE
    q "$1" --json run list | grep -o '"id":[0-9]*' | head -1 | cut -d: -f2
}

# step SITE COMMAND...: asked for, and somebody dies. One whose site died before its run was durable left
# nothing, one that found the other site away says that it is to be started again: both are.
step() {
    at=$1
    shift
    before=$(run_of "$at")
    aim "$at"
    q "$at" "$@" > "$work/run.log" 2>&1 &
    command=$!
    strike
    answer=0
    wait "$command" || answer=$?
    run=$(run_of "$at")
    if [ "$run" != "$before" ] && [ "$answer" != 0 ]; then
        answer=0
        q "$at" run watch "$run" > "$work/run.log" 2>&1 || answer=$?
    fi
    [ "$run" = "$before" ] || [ "$answer" != 0 ] || return 0
    if [ "$run" != "$before" ] && ! grep -qE 'again: it goes on where it stopped|again brings it to' "$work/run.log"; then
        no "'$*', $victim killed at ${point:-random}: $(cat "$work/run.log")"
    fi
    again=$((again + 1))
    q "$at" "$@" > "$work/run.log" 2>&1 || no "'$*' after a kill at ${point:-random}: $(cat "$work/run.log")"
    run=$(run_of "$at")
}

# --- What must be so -----------------------------------------------------------------------------

generation() { # SITE MACHINE
    q "$1" --json status "$2" | grep -o '"generation":[0-9]*' | head -1 | cut -d: -f2
}

# Every step of the run is done, each with one try; but for the retiring of the old side, which may have met a
# site that was just being restarted: the daemon asks again.
once_at() { # SITE
    steps=$(q "$1" --json run show "$run" | grep -o '"steps":\[.*')
    tries=$(printf '%s' "$steps" | grep -o '"attempts":[0-9]*' | sort | uniq -c)
    case $tries in *'"attempts":1') ;; *) no "run $run did not do each step once: $(q "$1" run show "$run")" ;; esac
    states=$(printf '%s' "$steps" | grep -oE '"state":"[a-z-]*","title":"[^"]*"' |
        grep -vE '^"state":"failed","title":"Retire the old side of ' | grep -oE '"state":"[a-z-]*"' | sort -u)
    [ "$states" = '"state":"done"' ] || no "run $run has steps that are not done: $(q "$1" run show "$run")"
}

one_machine() { # SITE MACHINE
    count=$(pgrep -cf -- "-pidfile $work/[a-z]*/(machines|instances)/([a-z]*-[0-9]*-)?$2/qemu.pid" || true)
    [ "$count" = 1 ] || no "$count processes of $2: $(pgrep -af "$work/.*$2/qemu.pid")"
    kill -0 "$(machine_pid "$1" "$2")" || no "$2 does not run at $1"
}

# goes_over FROM TO MACHINE COMMAND...
goes_over() {
    from=$1
    to=$2
    name=$3
    shift 3
    was=$(generation "$to" "$name")
    step "$to" "$@" "$name" --yes
    once_at "$to"
    one_machine "$to" "$name"
    wait_console "$from" "$name" 'WRITER STOPPED'
    last=$(acked "$from" "$name")
    wait_console "$to" "$name" 'RECORDS '
    line=$(records "$to" "$name")
    whole "$line" || no "$name is damaged at $to: $line"
    [ "$(field "$line" last)" = "$last" ] ||
        no "$name lost something: acknowledged $last at $from, found $(field "$line" last) at $to"
    is=$(generation "$to" "$name")
    [ "$is" = $((was + 1)) ] || no "$name is at generation $is, it was $was before one failover"
}

is_protected() { # SITE MACHINE
    state_is "$1" "$2" protected
}

commit_killed() { # SITE MACHINE
    wait_new_records "$1" "$2"
    was=$(generation "$1" "$2")
    step "$1" commit "$2"
    once_at "$1"
    # What follows is a job: it is killed, too.
    aim "$1"
    strike
    wait_for 300 "$2 to be protected from $1" is_protected "$1" "$2"
    has=$(newest_point "$1" "$2")
    wait_points "$1" "$2" $((has + 2))
    one_machine "$1" "$2"
    [ "$(generation "$1" "$2")" = "$was" ] || no "a commit changed the generation of $2"
}

# --- Cycles --------------------------------------------------------------------------------------

demo_cmdline="writer.pause_us=10000 writer.slots=2048"
e2e_two_sites
for number in 1 2; do
    format=raw
    [ "$number" = 1 ] || format=qcow2
    demo_machine "db$number" "$number" "$format"
    q paris machine add "$work/db$number.lua" > /dev/null
    q paris machine start "db$number" > /dev/null
done
for name in db1 db2; do
    wait_console paris $name 'ACKED [0-9]'
    q paris protect $name --to lyon --interval 1s --keep 1000 > /dev/null
    wait_points lyon $name 2
done
shots=0
hits=0
again=0
for cycle in $(seq "$cycles"); do
    db=db$((cycle % 2 + 1))
    begun=$(now_ms)
    step lyon test-failover "$db"
    test=$run
    [ "$(run_text "$test" state) $(run_text "$test" outcome)" = "cleanup-due succeeded" ] || no "test $test: $(q lyon run show "$test")"
    once_at lyon
    one_instance "$test" "$db" 1
    step lyon cleanup "$test"
    once_at lyon
    [ "$(run_text "$test" state)" = clean ] || no "test $test: $(q lyon run show "$test")"
    no_instance_left "$db"
    one_machine paris "$db"
    goes_over paris lyon "$db" failover --planned
    found=$last
    commit_killed lyon "$db"
    goes_over lyon paris "$db" failback
    commit_killed paris "$db"
    ok "cycle $cycle, $db: records $found and $last came over, generation $is, $(($(now_ms) - begun)) ms"
done
for site in paris lyon; do
    check "the audit log of $site verifies" q "$site" audit verify
done
echo "$shots kills, $hits of them at the crash point aimed at; $again times asked again"
e2e_done
