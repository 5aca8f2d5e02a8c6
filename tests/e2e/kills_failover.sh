#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Either daemon killed with SIGKILL in each stage of a planned and of an unplanned failover, again and
# again in the same run: it goes on to its end by itself, promotes once, starts one machine, and loses
# nothing that it promised to keep.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/kills.sh

e2e_two_sites

boot() { # MACHINE NUMBER: without waiting for its guest
    demo_machine "$1" "$2" raw
    q paris machine add "$work/$1.lua" > /dev/null
    q paris machine start "$1" > /dev/null
}

protected() { # MACHINE
    wait_console paris "$1" 'ACKED [0-9]'
    q paris protect "$1" --to lyon --interval 1s --keep 1000 > /dev/null
    wait_points lyon "$1" 2
    remember_points "$1"
}

# failover_killed KIND MACHINE SITE POINT...: one run, its site killed at one point after the other; each
# restart is a recovery from the last kill, too. `run` is its number. A last POINT with a "?" may be passed by
# nobody: a daemon settles what is marked by itself, and may do so after it answered.
failover_killed() {
    kind=$1
    machine=$2
    victim=$3
    shift 3
    point=
    for next in "$@"; do
        [ -z "$point" ] || died "$victim" "$point"
        arm "$victim" "${next#\?}"
        if [ -z "$point" ]; then
            # shellcheck disable=SC2086
            q lyon failover "$machine" $kind --yes > "$work/run.log" 2>&1 &
            command=$!
        else
            ok "$kind of $machine: $victim killed at $point"
        fi
        point=$next
    done
    over() { is_dead "$victim" || ! kill -0 "$command" 2> /dev/null; }
    case $point in "?"*) wait_for 180 "$victim to pass $point, or the run to end" over ;; esac
    if is_alive "$victim" && [ "$point" != "${point#\?}" ]; then
        kill_daemon "$victim"
        ok "$kind of $machine: the run ended without ${point#\?}"
    else
        died "$victim" "${point#\?}"
        ok "$kind of $machine: $victim killed at ${point#\?}"
    fi
    revive "$victim"
    wait "$command" || no "'failover $machine $kind' did not end well: $(tail -20 "$work/run.log")"
    run=$(newest_run)
}

# both_killed KIND MACHINE POINT...: one run; paris dies at one point after the other, and lyon, which
# waits for its answer, with it.
both_killed() {
    kind=$1
    machine=$2
    shift 2
    arm paris "$1"
    # shellcheck disable=SC2086
    q lyon failover "$machine" $kind --yes > "$work/run.log" 2>&1 &
    command=$!
    while [ $# -gt 0 ]; do
        died paris "$1"
        kill_daemon lyon
        ok "$kind of $machine: paris killed at $1, and lyon with it"
        shift
        if [ $# -gt 0 ]; then
            arm paris "$1"
        else
            revive paris
        fi
        revive lyon
    done
    wait "$command" || no "'failover $machine $kind' did not end well: $(tail -20 "$work/run.log")"
    run=$(newest_run)
}

# Promoted once, started once, and the other side is out.
failed_over() { # MACHINE
    [ "$(run_text "$run" outcome)" = succeeded ] || no "run $run: $(q lyon run show "$run")"
    each_effect_once "$run"
    ok "$1: run $run did each step once"
    one_instance "$run" "$1" 1
    ok "$1: one machine at lyon"
    points_are_kept "$1"
    promotions=$(q lyon --json points "$1" | grep -o '"promotion":true' | wc -l)
    check "$1: promoted once, no point lost" test "$promotions" = 1
    wait_console lyon "$1" 'RECORDS '
    line=$(records lyon "$1")
    whole "$line" || no "$1 is damaged: $line"
    ok "$1 is whole: $line"
}

fenced_at_paris() { # MACHINE
    pgrep -f "$work/paris/machines/$1/qemu.pid" > /dev/null && no "$1 still runs at paris"
    wait_for 30 "paris to say that $1 was failed over" paris_says "$1" '"failed-over"'
    if q paris machine start "$1" > "$work/start.log" 2>&1; then
        no "$1 was started at paris after it was failed over"
    fi
    ok "$1: paris says that it was failed over, and does not start it: $(head -1 "$work/start.log")"
}

paris_says() {
    q paris --json status "$1" | grep -q "$2"
}

lost_nothing() { # MACHINE
    line=$(records lyon "$1")
    last=$(acked paris "$1")
    check "$1 lost nothing: acknowledged $last, found $(field "$line" last)" \
        test "$(field "$line" last)" = "$last"
    check "$1: source and replica are identical" cmp "$work/$1-1.raw" "$work/lyon/replicas/$1/vda/head.raw"
}

ended_at_lyon() { # MACHINE
    kill -9 "$(machine_pid lyon "$1")"
}

# --- Planned -----------------------------------------------------------------------------------

boot k1 1
boot k2 2
protected k1
before=$(newest_run)
arm lyon run.declared
q lyon failover k1 --planned --yes > "$work/run.log" 2>&1 && no "a run was told of that is not durable"
died lyon run.declared
revive lyon
check "lyon killed before the run was durable: there is no run" test "$(newest_run)" = "$before"
check "k1 was not touched" kill -0 "$(machine_pid paris k1)"
points_go_on k1

# Step by step: shut down, last changes, promote, retire, bring up.
failover_killed --planned k1 lyon run.state:1 run.intent run.committed run.result \
    run.intent run.committed:2 run.result \
    run.intent run.committed:2 replica.promote-record replica.promote-manifest \
    replica.promote-generation group.promote group.pin run.result \
    run.intent run.committed:2 run.result \
    run.intent run.committed:2 instance.made provider.server-spawned provider.overlay \
    instance.started instance.start instance.observe run.result run.state
failed_over k1
fenced_at_paris k1
lost_nothing k1
ended_at_lyon k1

boot k5 5
protected k2

# Taken back half-way, and killed in that.
arm paris group.final-sync
q lyon failover k2 --planned --yes > "$work/run.log" 2>&1 &
command=$!
died paris group.final-sync
run=$(newest_run)
q lyon run cancel "$run" --no-wait > /dev/null
arm paris group.release
died paris group.release
arm lyon run.result
revive paris
died lyon run.result
arm lyon run.result:2
died lyon run.result
arm paris machine.start
revive lyon
died paris machine.start
revive paris
q lyon run watch "$run" > "$work/run.log" 2>&1 || true
wait "$command" 2> /dev/null || true
check "cancelled, and either killed in that: run $run is cancelled" \
    test "$(run_text "$run" state)" = cancelled
wait_console paris k2 'ACKED [0-9]'
line=$(records paris k2)
check "k2 is back at paris and lost nothing: $line" whole "$line"
points_go_on k2 2
wait_for 30 "paris to say that k2 is protected" paris_says k2 '"protected"'
ok "its points go on"

boot k3 3
remember_points k2
failover_killed --planned k2 paris machine.shutdown source.held sync.outbox group.final-sync \
    source.fenced provider.ended '?group.retire'
failed_over k2
fenced_at_paris k2
lost_nothing k2
ended_at_lyon k2

# The power of both sites fails together.
boot k6 6
protected k5
both_killed --planned k5 machine.shutdown source.held group.final-sync provider.ended
failed_over k5
fenced_at_paris k5
lost_nothing k5
ended_at_lyon k5

# --- Unplanned ---------------------------------------------------------------------------------

# Both fail together while the old machine runs: it must not go on beside the new one.
protected k6
floor=$(acked paris k6)
points_go_on k6 2
both_killed --unplanned k6 group.hold source.fenced provider.ended
failed_over k6
fenced_at_paris k6
check "k6 has at least the $floor records of a durable point" test "$(field "$line" last)" -ge "$floor"
ended_at_lyon k6

# Paris can be reached, and is killed when it is asked.
boot k4 4
protected k3
failover_killed "--unplanned --last-delta" k3 paris machine.shutdown source.synced group.final-sync \
    group.hold source.fenced group.retire
failed_over k3
fenced_at_paris k3
lost_nothing k3
ended_at_lyon k3

# Paris is gone: hold, promote an older point, to which head goes back, retire, bring up.
protected k4
floor=$(acked paris k4)
points_go_on k4 2
older=$(newest_point lyon k4)
points_go_on k4 4
qemu=$(machine_pid paris k4)
kill_daemon paris
kill -9 "$qemu"
written=$(acked paris k4)
remember_points k4
failover_killed "--unplanned --point $older" k4 lyon run.intent run.committed run.result \
    run.intent run.committed:2 replica.promote-record replica.promote-generation \
    replica.apply-intent replica.apply-undo replica.apply-written replica.apply-head \
    group.promote run.result \
    run.intent run.committed:2 run.result \
    run.intent run.committed:2 instance.made provider.spawned instance.start \
    run.result run.state
failed_over k4
check "k4 is at the older point, with at least $floor records" test "$(field "$line" last)" -ge "$floor"
check "and with less than the $written it had acknowledged" test "$(field "$line" last)" -lt "$written"
revive paris
fenced_at_paris k4
ended_at_lyon k4

# Each stage alone, in a run of its own.
alone() { # KIND SITE POINT...
    alone_kind=$1
    alone_site=$2
    shift 2
    for alone_point in "$@"; do
        alone=$((alone + 1))
        boot "a$alone" $((alone % 9 + 1))
        protected "a$alone"
        failover_killed "$alone_kind" "a$alone" "$alone_site" "$alone_point"
        failed_over "a$alone"
        fenced_at_paris "a$alone"
        [ "$alone_kind" = --unplanned ] || lost_nothing "a$alone"
        ended_at_lyon "a$alone"
    done
}

if all_kills; then
    alone=0
    alone --planned lyon run.state run.intent:1 run.intent:2 run.intent:3 run.intent:4 run.intent:5 \
        run.committed:1 run.committed:2 run.committed:3 run.committed:4 run.committed:5 \
        run.result:1 run.result:2 run.result:3 run.result:4 run.result:5 replica.promote-record \
        replica.promote-manifest replica.promote-generation replica.apply-head group.promote \
        group.pin instance.made provider.server-spawned provider.overlay provider.spawned \
        instance.started instance.start run.state:2
    alone --planned paris machine.shutdown source.held sync.intent sync.cut sync.sealed sync.outbox \
        sync.sent sync.commit sync.durable sync.end sync.apply sync.prune source.synced \
        group.final-sync source.fenced provider.ended group.retire
    alone --unplanned lyon run.intent:2 run.committed:1 run.committed:2 run.committed:3 run.result:1 \
        run.result:2 run.result:3 replica.promote-record instance.start
    alone --unplanned paris source.held group.hold source.fenced provider.ended group.retire
    alone "--unplanned --last-delta" paris machine.shutdown sync.cut sync.commit group.final-sync
fi
for site in paris lyon; do
    check "the audit log of $site verifies" q "$site" audit verify
done
e2e_done
