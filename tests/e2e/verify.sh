#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Somebody writes into the head of a running protection. verify names it, points that need it are not
# promoted nor tested, the source brings it again with the next point, and points go on meanwhile.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/kills.sh

e2e_two_sites
e2e_machine db1 1 raw qcow2
q paris protect db1 --to lyon --interval 2s --keep 40 --verify-every 7d > /dev/null
wait_points lyon db1 3

# By itself, as its policy says: a part a day, the first at once.
kill_daemon lyon
demo_serve lyon
first_part() { q lyon status db1 | grep -q "^verified .* part 1 of 7: all as it was written"; }
wait_for 60 "the first part" first_part
ok "the first part of a week's verification is read by itself"
check "the others are to come" sh -c \
    "'$muster' --dir '$work/lyon' status db1 | grep -q '^ *all of it: never yet; 1 of 7 parts since'"
check "the job says who wanted it" sh -c "'$muster' --dir '$work/lyon' jobs | grep -q 'verify .* policy'"
wait_points lyon db1 $(($(newest_point lyon db1) + 1))

q lyon verify db1 > "$work/verify.log" || no "verify of a healthy replica: $(cat "$work/verify.log")"
check "a healthy replica is said to be so" grep -q "db1 was read: all of it is as it was written" "$work/verify.log"
q paris verify db1 > /dev/null || no "verify at the site that sends"
ok "the site that sends has its peer's replica verified"
for part in 1 2 3; do
    q lyon verify db1 --subset $part/3 > /dev/null || no "part $part of 3"
done
ok "a third at a time is fine"
check "and three of them are all of it" sh -c \
    "'$muster' --dir '$work/lyon' status db1 | grep -q '^ *all of it: 20'"
refused 2 "1/5 to 5/5" lyon verify db1 --subset 4/3
refused 3 "99999" lyon verify db1 --point 99999

# A foreign write, in chunks that the guest hardly touches, while points are held back.
q paris pause db1 > /dev/null
newest=$(newest_point lyon db1)
head=$work/lyon/replicas/db1/vda/head.raw
size=$(stat -c %s "$head")
for chunk in $((size / 65536 - 3)) $((size / 65536 - 9)); do
    printf 'written by hand' | dd of="$head" bs=1 seek=$((chunk * 65536 + 4321)) conv=notrunc 2> /dev/null
done
code=0
q lyon verify db1 > "$work/verify.log" 2>&1 || code=$?
check "damage is an error ($code)" test "$code" != 0
check "how much, and where: $(tail -1 "$work/verify.log")" grep -q "2 chunks of 64 KiB at its newest point.*vda/head.raw: the 65536 bytes at $(((size / 65536 - 9) * 65536))" "$work/verify.log"
damaged_at() { # POINT: chunks
    q lyon --json points db1 | python3 -c "
import json, sys
print(next(p['damaged'] for p in json.load(sys.stdin) if p['point'] == $1))"
}
check "the point says it" test "$(damaged_at "$newest")" = 2
check "so does its table" sh -c "'$muster' --dir '$work/lyon' points db1 | grep -q 'damaged, ready'"
health() { q "$1" --json status | python3 -c "
import json, sys
print(next(p['health'] + ': ' + '; '.join(r['reason'] for r in p['health_reasons']) for p in json.load(sys.stdin) if p['name'] == 'db1'))"; }
case $(health lyon) in critical*"2 chunks"*) ok "health is critical there: $(health lyon)" ;; *) no "health at lyon: $(health lyon)" ;; esac
refused 1 "damaged" lyon test-failover db1 --point "$newest"
refused 1 "damaged" lyon export db1 "$work/x.raw" --disk vda --point "$newest"
check "nothing was written" test ! -e "$work/x.raw"

q paris resume db1 > /dev/null
wait_points lyon db1 $((newest + 2))
check "the source brought it again: the old point is whole" test "$(damaged_at "$newest")" = 0
check "the session said so" grep -q "repairing group=db1 peer=lyon damaged_chunks=2" "$work/paris.log"
q lyon verify db1 > "$work/verify.log" || no "verify after the repair: $(cat "$work/verify.log")"
ok "verify is clean again"
to=$work/out
mkdir "$to"
for disk in vda vdb; do
    q lyon export db1 "$to/$disk.raw" --point "$newest" --disk $disk > /dev/null || no "export of $disk"
done
line=$(judge_images "$to/vda.raw" "$to/vdb.raw")
check "the guest's records in the point that was damaged are whole: $line" whole "$line"
wait_points lyon db1 $((newest + 5))
ok "points go on"
case $(health lyon) in healthy*) ok "and health is well" ;; *) no "health at lyon: $(health lyon)" ;; esac
e2e_done
