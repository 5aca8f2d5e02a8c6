#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Machines are protected by policies, which change while they run: the next points come by the new interval, the
# other site hears of it, and what is a machine's own stays. Health names each cause with its time, over restarts.
. "$(dirname "$0")/lib/e2e.sh"

setting() { # SITE FIELD
    q "$1" --json status db1 | grep -o "\"$2\":[^,}]*" | head -1
}

e2e_two_sites
e2e_machine db1 1 raw

# --- What it takes, looked at first --------------------------------------------------------------

q paris protect db1 --to lyon --dry-run > "$work/check.log" || no "dry run: $(cat "$work/check.log")"
check "a dry run shows the room that is needed" grep -q "^room for the disks  *lyon" "$work/check.log"
check "and what its QEMU can" grep -q "^change tracking  *paris .* its QEMU has them  *ok" "$work/check.log"
check "and what the other host has" grep -q "^memory  *lyon" "$work/check.log"
check "and protects nothing" test -z "$(ls "$work/lyon/replicas")"
refused 4 "prerequisite of protecting db1 is not met" paris protect db1 --to berlin --dry-run

# --- A policy, and what is the machine's own -----------------------------------------------------

refused 3 'no policy "gold"' paris protect db1 --to lyon --policy gold
refused 2 "--rpo: 40d is out of range" paris policy add gold --rpo 40d
refused 1 "cannot be met by a point every 15.0 s" paris policy add gold --rpo 10s
q paris policy add gold --interval 2s --keep 20 --rpo 30s > /dev/null
q paris protect db1 --to lyon --policy gold --keep 7 > /dev/null
wait_points lyon db1 2
check "it uses the policy" test "$(setting paris policy)" = '"policy":"gold"'
check "and keeps its own" test "$(setting paris keep)" = '"keep":7'
check "the other site knows by which policy" test "$(setting lyon policy)" = '"policy":"gold"'
q paris policy show gold > "$work/show.log"
check "the policy knows who uses it" grep -q "used by      db1, with its own keep" "$work/show.log"
refused 4 "gold is used by db1" paris policy remove gold
refused 4 "it is used by db1" paris policy change gold --encryption at-rest

# --- Changed while it runs -----------------------------------------------------------------------

q paris policy change gold --interval 1s --keep 99 > "$work/change.log"
check "a change says whom it changed" grep -q "changed with it: db1" "$work/change.log"
check "here at once" test "$(setting paris interval_ms)" = '"interval_ms":1000'
told() { [ "$(setting lyon interval_ms)" = '"interval_ms":1000' ]; }
for i in $(seq 50); do told && break || sleep 0.2; done
check "and at the other site" told
check "what is its own stays" test "$(setting lyon keep)" = '"keep":7'
before=$(newest_point lyon db1)
wait_points lyon db1 $((before + 3))
ok "points go on"
q paris settings db1 --reset keep > "$work/settings.log"
check "what is given back is the policy's" grep -q "^keep  *99  *policy gold" "$work/settings.log"
q paris show db1 > "$work/show.log"
check "a machine shows its policy" grep -q "^policy       gold$" "$work/show.log"

# --- Its networks at the other site --------------------------------------------------------------

net_at() { q "$1" --json status db1 | grep -o '"networks":{[^}]*}'; }
q paris settings db1 --networks "user=bridge recovery" > /dev/null
mapped() { [ "$(net_at lyon)" = '"networks":{"user":"bridge recovery"}' ]; }
for i in $(seq 50); do mapped && break || sleep 0.2; done
check "the other site knows its networks" mapped
refused 4 "there is no bridge recovery" paris protect db1 --to lyon --dry-run --networks "user=bridge recovery"
kill_daemon lyon
demo_serve lyon
check "also after a restart" mapped
q paris settings db1 --networks none > /dev/null
for i in $(seq 50); do mapped || break; sleep 0.2; done
check "and that it has none of its own" test "$(net_at lyon)" = '"networks":{}'
wait_points lyon db1 $(($(newest_point lyon db1) + 2))

# --- Health: every cause, with its time ------------------------------------------------------------

q paris pause db1 > /dev/null
since() { q paris --json status db1 | grep -o '"code":"paused"[^}]*"since_ms":[0-9]*' | grep -o '[0-9]*$'; }
check "a pause is listed" test -n "$(since)"
was=$(since)
kill_daemon paris
demo_serve paris
check "since when survives a restart" test "$(since)" = "$was"
q paris settings db1 --rpo 1s > /dev/null
late() { q paris --json status db1 | grep -q '"code":"point-too-old"'; }
for i in $(seq 50); do late && break || sleep 0.2; done
check "two causes are two lines" sh -c "'$muster' --dir '$work/paris' status db1 | grep -c ' since ' | grep -q '[3-9]'"
q paris resume db1 > /dev/null
e2e_done
