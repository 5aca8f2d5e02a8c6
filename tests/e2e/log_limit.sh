#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# More changes are pending than the policy allows: the machine is marked and gets no points, its older ones
# stay, and a test of one works meanwhile; it is compared when a person says so, or by itself in its window.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/kills.sh

state() { q paris --json status db1 | grep -o '"session":"[a-z-]*"' | cut -d'"' -f4; }
state_is_now() { [ "$(state)" = "$1" ]; }
reason() { # CODE: its text
    q paris --json status db1 | python3 -c "
import json, sys
print(next((r['reason'] for r in json.load(sys.stdin)['health_reasons'] if r['code'] == '$1'), ''))"
}
resynced() { [ "$(grep -c 'resynchronized group=db1' "$work/paris.log" || true)" -ge "$1" ]; }
at() { date -d "$1" +%H:%M; } # local time, as policies have it

# The other site is away until what the guest writes is more than 10 % of its disk.
pass_the_limit() {
    kill_daemon lyon
    from=$(acked paris db1)
    wrote() { [ "$(acked paris db1)" -gt $((from + 2500)) ]; }
    wait_for 120 "the guest to write" wrote
    demo_serve lyon
    wait_for 60 "the mark" state_is_now resync-required
}

e2e_two_sites
e2e_machine db1 1 raw
q paris protect db1 --to lyon --interval 1s --keep 40 --log-limit 10 --resync-window never > /dev/null
wait_points lyon db1 3

# --- By hand --------------------------------------------------------------------------------------

pass_the_limit
ok "a machine with too much pending is marked"
case $(reason resync-required) in
*"more than 10 % need a comparison"*"its policy starts none"*) ok "why, and what to do: $(reason resync-required)" ;;
*) no "health says: $(reason resync-required)" ;;
esac
check "status says how it begins" sh -c \
    "'$muster' --dir '$work/paris' status db1 | grep -q 'begins by .muster resync db1.'"
newest=$(newest_point lyon db1)
q lyon test-failover db1 > /dev/null
wait_console lyon db1 'RECORDS '
check "a test of the newest point works meanwhile" whole "$(records lyon db1)"
q lyon cleanup db1 > /dev/null
check "it gets no points" test "$(newest_point lyon db1)" = "$newest"
check "it still waits" state_is_now resync-required

q paris resync db1 --now > "$work/resync.log"
check "a person has it compared" grep -q "compared with its replica now" "$work/resync.log"
wait_for 60 "the comparison" resynced 1
wait_points lyon db1 $((newest + 2))
check "the older points are still there" sh -c "'$muster' --dir '$work/lyon' points db1 | grep -Eq '^ *$newest '"
check "the mark is gone" test -z "$(reason resync-required)"

# --- By itself, in its window ---------------------------------------------------------------------

q paris settings db1 --resync-window "$(at '+2 hours')-$(at '+4 hours')" > /dev/null
pass_the_limit
case $(reason resync-required) in
*"it goes on at"*) ok "outside of its window it waits: $(reason resync-required)" ;;
*) no "health says: $(reason resync-required)" ;;
esac
newest=$(newest_point lyon db1)
q paris settings db1 --resync-window "$(at '-1 hour')-$(at '+1 hour')" > /dev/null
wait_for 60 "the comparison in the window" resynced 2
ok "in its window it begins by itself"
wait_points lyon db1 $((newest + 2))
point=$(newest_point lyon db1)
q lyon export db1 --point "$point" --disk vda "$work/out.raw" > /dev/null
line=$(judge_images "$work/out.raw")
check "what was replicated is whole: $line" whole "$line"
q lyon verify db1 > /dev/null || no "verify"
ok "and verifies"
e2e_done
