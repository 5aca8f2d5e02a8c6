# SPDX-License-Identifier: Apache-2.0
# Sourced by tests/e2e/kills_*.sh, after e2e.sh: a daemon that kills itself with SIGKILL at a named
# crash point (base/fault.h), started again, and what must be so afterwards. A point that is never
# passed fails the test: else a case could come to test nothing.
#
# MUSTER_KILLS=all runs the cases, too, that differ only a little from others.

all_kills() { [ "${MUSTER_KILLS:-}" = all ]; }

# arm SITE POINT[:N]: its daemon again, to die at the N-th pass of POINT. It may be dead at once.
arm() {
    kill_daemon "$1"
    MUSTER_CRASH=$2 demo_serve "$1" > /dev/null
}

# revive SITE: its daemon again, to live.
revive() {
    demo_serve "$1" > /dev/null
    is_alive "$1" || no "the daemon of $1 does not live after its restart"
}

is_alive() {
    eval "pid=\$pid_$1"
    kill -0 "$pid" 2> /dev/null
}

is_dead() {
    ! is_alive "$1"
}

# died SITE POINT: by its own hand; neither by an assertion nor by itself.
died() {
    wait_for 180 "the daemon of $1 to pass $2" is_dead "$1"
    eval "pid=\$pid_$1"
    code=0
    wait "$pid" 2> /dev/null || code=$?
    [ "$code" = 137 ] || no "the daemon of $1 ended with $code at $2, not by SIGKILL"
}

# --- Points ------------------------------------------------------------------------------------

# What lyon lists: "number cut hash" a line, oldest first.
points_listed() {
    q lyon --json points "$1" | tr '{' '\n' |
        sed -n 's/.*"cut_ms":\([0-9]*\).*"hash":"\([0-9a-f]*\)".*"point":\([0-9]*\),.*/\3 \1 \2/p' |
        sort -n
}

remember_points() {
    points_listed "$1" > "$work/points.$1"
    [ -s "$work/points.$1" ] || no "lyon lists no point of $1"
}

# All that was remembered is there, unchanged; numbers count up, times never go back.
points_are_kept() {
    points_listed "$1" > "$work/points.$1.now"
    lost=$(sort "$work/points.$1" | comm -23 - <(sort "$work/points.$1.now"))
    [ -z "$lost" ] || no "points of $1 are lost or changed: $lost"
    awk 'NR > 1 && ($1 <= number || $2 < cut) { exit 1 } { number = $1; cut = $2 }' \
        "$work/points.$1.now" || no "points of $1 do not follow each other: $(cat "$work/points.$1.now")"
}

remembered_newest() {
    tail -1 "$work/points.$1" | cut -d' ' -f1
}

# New points arrive beyond those that were remembered, and those are all there.
points_go_on() { # MACHINE [HOW-MANY]
    wait_points lyon "$1" $(($(remembered_newest "$1") + ${2:-1}))
    points_are_kept "$1"
}

# --- Images ------------------------------------------------------------------------------------

# judge_images FILE...: what the guest's writer would find on these raw images, without booting: a
# copy's journal is played, its records file taken out.
judge_images() {
    files=
    rm -rf "$work/judge"
    mkdir "$work/judge"
    for image in "$@"; do
        copy=$work/judge/$(echo "$image" | tr '/' '_')
        cp --sparse=always "$image" "$copy"
        e2fsck -fy "$copy" > "$copy.log" 2>&1 || [ $? -le 1 ] || no "$image: $(cat "$copy.log")"
        debugfs -R "dump /records $copy.records" "$copy" > "$copy.log" 2>&1
        files="$files $copy.records"
    done
    # shellcheck disable=SC2086
    "$guest/writer" judge 2048 $files
    rm -rf "$work/judge"
}

# Replication of the machine rests, and all that is durable is applied.
rests() {
    status=$(q paris --json status "$1")
    durable=$(printf '%s' "$status" | grep -o '"durable_point":[0-9]*' | cut -d: -f2)
    case $status in *'"session":"paused"'*) ;; *) return 1 ;; esac
    case $status in *"\"applied_point\":$durable,"*) ;; *) return 1 ;; esac
}

heads() { # MACHINE: its disks' newest images at lyon
    ls "$work/lyon/replicas/$1"/*/head.raw
}

# The replica as it stands is a whole instant of the guest's history, not older than record FLOOR.
replica_is_whole() { # MACHINE FLOOR
    q paris pause "$1" > /dev/null
    wait_for 60 "replication of $1 to rest" rests "$1"
    # shellcheck disable=SC2046
    line=$(judge_images $(heads "$1"))
    whole "$line" || no "the replica of $1 is damaged: $line"
    [ "$(field "$line" last)" -ge "$2" ] || no "the replica of $1 lacks records below $2: $line"
}

# --- The machine -------------------------------------------------------------------------------

# How many block nodes its QEMU has, by the monitor that nobody else uses. What a cut needs is gone
# with its end.
block_nodes() { # SITE MACHINE
    printf '%s\n' '{"execute":"qmp_capabilities"}' \
        '{"execute":"query-named-block-nodes","arguments":{"flat":true}}' |
        socat -t 5 - "UNIX-CONNECT:$work/$1/machines/$2/qmp-spare" | grep -o '"node-name"' | wc -l
}

# --- Runs at lyon ------------------------------------------------------------------------------

newest_run() {
    q lyon --json run list | grep -o '"id":[0-9]*' | head -1 | cut -d: -f2
}

run_json() { # RUN
    q lyon --json run show "$1"
}

# The value of a text field of the run itself, which stands before the steps', or after them.
run_text() { # RUN FIELD
    run_json "$1" | sed 's/"steps":\[.*\],"who"/"who"/' | grep -o "\"$2\":\"[^\"]*\"" | tail -1 |
        cut -d'"' -f4
}

# killed_run SITE POINT COMMAND...: the command starts a run at lyon, SITE dies at POINT and comes
# back; the run goes on to its end. A daemon that died before the run was durable leaves nothing of
# it; then it is asked for again. `run` is its number.
killed_run() {
    victim=$1
    point=$2
    shift 2
    before=$(newest_run)
    arm "$victim" "$point"
    q lyon "$@" > "$work/run.log" 2>&1 &
    command=$!
    died "$victim" "$point"
    revive "$victim"
    answer=0
    wait "$command" || answer=$?
    run=$(newest_run)
    if [ "$run" = "$before" ]; then
        q lyon "$@" > "$work/run.log" 2>&1 || no "'$*' did not start anew after $point: $(cat "$work/run.log")"
        run=$(newest_run)
    elif [ "$answer" != 0 ]; then
        q lyon run watch "$run" > "$work/run.log" 2>&1 || no "run $run did not end well: $(cat "$work/run.log")"
    fi
}

# Every step is done, and what has an effect was tried once.
each_effect_once() { # RUN
    steps=$(run_json "$1" | grep -o '"steps":\[.*')
    tries=$(printf '%s' "$steps" | grep -o '"attempts":[0-9]*' | sort | uniq -c)
    case $tries in
        *'"attempts":1') ;;
        *) no "run $1 did not do each step once: $(q lyon run show "$1")" ;;
    esac
    case $(printf '%s' "$steps" | grep -oE '"state":"[a-z-]*"' | sort -u) in
        '"state":"done"') ;;
        *) no "run $1 has steps that are not done: $(q lyon run show "$1")" ;;
    esac
}

# One process each for the machine and for its disks, and no other folder of instances.
one_instance() { # RUN MACHINE DISKS
    dir=$work/lyon/instances/lyon-$1-$2
    count=$(pgrep -cf -- "-pidfile $dir/qemu.pid" || true)
    [ "$count" = 1 ] || no "$count processes of $2: $(pgrep -af "$dir")"
    count=$(pgrep -cf -- "nbdkit.*--pidfile $dir/nbd-" || true)
    [ "$count" = "$3" ] || no "$count servers for $3 disks of $2: $(pgrep -af "$dir")"
}

# Nothing of any instance at lyon: processes, folders, namespaces, pins.
no_instance_left() { # MACHINE
    left=$(pgrep -af "$work/lyon/instances/" || true)
    left="$left$(ls "$work/lyon/instances")"
    for space in $spaces; do
        [ ! -e "/run/netns/$space" ] || left="$left $space"
    done
    case $(q lyon --json points "$1") in *'"pinned":true'*) left="$left a kept point" ;; esac
    [ -z "$left" ] || no "left behind: $left"
}
