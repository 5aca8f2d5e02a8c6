#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The way back, ten times, each cut twice. Paris' daemon is killed while its own disk becomes a replica or
# takes the first reverse point: started again, without lyon, it has the disk at the old point or at the new
# one, bit by bit; resumed, no more than the difference is sent. And it is killed in the failback that
# follows: the machine that boots on the disk has every record.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/circle.sh
. tests/e2e/lib/kills.sh
. tests/e2e/lib/fence.sh

# To the recovered machine at lyon, by the monitor that nobody else uses.
instance_monitor() { # MACHINE COMMAND
    printf '%s\n' '{"execute":"qmp_capabilities"}' "{\"execute\":\"$2\"}" |
        socat -t 5 - "UNIX-CONNECT:$(dirname "$(console lyon "$1")")/qmp-spare" > "$work/monitor.log"
}

# What an image holds, as a raw copy.
copy_of() { # IMAGE FORMAT COPY
    rm -f "$3"
    qemu-img convert -U -f "$2" -O raw "$1" "$3"
}

same() { # A B, both raw
    cmp -s "$1" "$2"
}

differing_bytes() { # A B: in blocks of 4 KiB
    cmp -l "$1" "$2" | awk '{ block[int(($1 - 1) / 4096)] = 1 } END { print length(block) * 4096 }'
}

sent_bytes() { # SITE MACHINE
    q "$1" --json status "$2" | grep -o '"sent_bytes":[0-9]*' | head -1 | cut -d: -f2
}

# All there is to apply at paris is applied; or it is no replica yet.
paris_rests() {
    status=$(q paris --json status "$1")
    case $status in *'"role":"source"'*) return 0 ;; esac
    durable=$(printf '%s' "$status" | grep -o '"durable_point":[0-9]*' | cut -d: -f2)
    case $status in *"\"applied_point\":$durable,"*) ;; *) return 1 ;; esac
}

is_protected() { # SITE MACHINE
    state_is "$1" "$2" protected
}

# One circle: POINT is passed on the way from commit to protected, BACK in the failback.
cut_back() { # MACHINE FORMAT POINT BACK
    name=$1
    own=$work/$name-1.$2
    q lyon failover "$name" --planned --yes > "$work/run.log" 2>&1 || no "failover: $(cat "$work/run.log")"
    no_loss paris "$name" lyon
    wait_new_records lyon "$name"
    copy_of "$own" "$2" "$work/old"
    wrote() { [ "$(acked lyon "$name")" -gt $((last + 100)) ]; }
    wait_for 60 "$name to write at lyon" wrote
    instance_monitor "$name" stop

    arm paris "$3"
    q lyon commit "$name" > "$work/run.log" 2>&1 || no "commit: $(cat "$work/run.log")"
    died paris "$3"
    cut_link -I
    revive paris
    wait_for 120 "paris to rest after $3" paris_rests "$name"
    copy_of "$own" "$2" "$work/now"
    cut_link -D
    wait_for 300 "$name to be protected from lyon" is_protected lyon "$name"
    recovered_copy "$name" "$work/new"
    copy_of "$own" "$2" "$work/end"
    at=
    if same "$work/now" "$work/old"; then at=old; fi
    if same "$work/now" "$work/new"; then at=new; fi
    [ -n "$at" ] || no "$3: the disk of $name is neither at the old point nor at the new one"
    same "$work/end" "$work/new" || no "$3: resumed, the disk of $name is not what lyon has"
    sent=$(sent_bytes lyon "$name")
    difference=$(differing_bytes "$work/old" "$work/new")
    ok "$3: the disk of $name is at the $at point, and in the end at the new one"
    check "$3: sent $sent bytes, the difference is $difference" test $((sent * 10)) -lt $((difference * 11))
    instance_monitor "$name" cont

    arm paris "$4"
    q paris failback "$name" --yes > "$work/run.log" 2>&1 &
    command=$!
    died paris "$4"
    revive paris
    wait "$command" || no "failback, killed at $4: $(cat "$work/run.log")"
    ok "$4: the failback of $name went on"
    no_loss lyon "$name" paris
    wait_new_records paris "$name"
    q paris commit "$name" > "$work/run.log" 2>&1 || no "commit: $(cat "$work/run.log")"
    wait_for 300 "$name to be protected from paris" is_protected paris "$name"
}

# Of the recovered machine, whether its disk has been streamed by now or not.
recovered_copy() { # MACHINE COPY
    overlay=$(dirname "$(console lyon "$1")")/vda.qcow2
    head=$work/lyon/replicas/$1/vda/head.raw
    rm -f "$2"
    qemu-img convert -U -O raw "json:{\"driver\":\"qcow2\",
        \"file\":{\"driver\":\"file\",\"filename\":\"$overlay\"},
        \"backing\":{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"$head\"}}}" "$2"
}

e2e_two_sites
trap fence_end EXIT
e2e_machine db1 1 raw
q paris protect db1 --to lyon --interval 1s --keep 50 --compression none > /dev/null
wait_points lyon db1 2
cut_back db1 raw follow.stopped replica.released
cut_back db1 raw replica.adopt-begun base.digests
cut_back db1 raw replica.adopt-manifest base.made
cut_back db1 raw follow.taken own.started
cut_back db1 raw replica.apply-intent own.tracked
q paris machine stop db1 --force > /dev/null
e2e_machine db2 2 qcow2
q paris protect db2 --to lyon --interval 1s --keep 50 --compression none > /dev/null
wait_points lyon db2 2
cut_back db2 qcow2 replica.adopt-copied own.started
cut_back db2 qcow2 replica.apply-undo replica.released
cut_back db2 qcow2 replica.apply-written base.made
cut_back db2 qcow2 replica.apply-head own.tracked
cut_back db2 qcow2 replica.apply-done replica.promote-generation
for site in paris lyon; do
    check "the audit log of $site verifies" q "$site" audit verify
done
e2e_done
