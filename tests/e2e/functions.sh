#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A plan whose steps are functions, on a real machine: drilled, with the daemon killed in the middle of
# a function, and the child that runs it killed while its action is under way.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/kills.sh

e2e_two_sites
e2e_machine db1 1 raw
q paris protect db1 --to lyon --interval 1s --keep 100 > /dev/null
wait_points lyon db1 2
spaces=

cat > "$work/ask.lua" << 'EOT'
local within = "3m"
return plan "ask" {
  stage "Machine" {
    step "Bring it up" { failover "db1" },
    step "Wait for it" {
      function(act)
        local first = act(check { console = "db1", line = "RECORDS" }).answer
        act(wait_until { console = "db1", line = "RECORDS", within = within })
        return { first = first, now = act(check { console = "db1", line = "RECORDS" }).answer }
      end,
    },
    step "Take its word" {
      function(act)
        if not result("Wait for it").now then
          act(wait_until { agent = "db1", within = within })
        end
        return "it is up"
      end,
    },
  },
}
EOT
q lyon plan add "$work/ask.lua" > /dev/null
check "the runbook names the lines of the functions" \
    grep -q 'Runs a function (lines 6-10)' <(q lyon plan show ask --kind test)

said() { # RUN TEXT...
    json=$(run_json "$1")
    shift
    for text in "$@"; do
        case $json in *"$text"*) ;; *) no "the run lacks '$text': $json" ;; esac
    done
}

# The child that runs a function of lyon's daemon now.
function_child() {
    pgrep -P "$pid_lyon" -f 'lua-host' | head -1
}

function_waits() {
    case $(run_json "$(newest_run)" 2> /dev/null) in
        *'"state":"started","verb":"wait_until"'*) [ -n "$(function_child)" ] ;;
        *) return 1 ;;
    esac
}

q lyon run ask --kind test > "$work/run.log" 2>&1 &
command=$!
wait_for 120 "a function to wait for its action" function_waits
kill -9 "$(function_child)"
wait "$command" || no "the drill failed: $(cat "$work/run.log")"
run=$(newest_run)
each_effect_once "$run"
said "$run" '"now":true' '"value":"it is up"'
check "lyon says that a function was begun anew" grep -q 'its function is begun anew' "$work/lyon.log"
ok "the drill ends well although the child of its function was killed"
q lyon cleanup ask > /dev/null
no_instance_left db1
ok "nothing is left of it"

for point in run.heard:2 run.intent:5 run.result:4; do
    killed_run lyon "$point" run ask --kind test
    each_effect_once "$run"
    said "$run" '"now":true' '"value":"it is up"'
    check "no child of a function is left" test -z "$(function_child || true)"
    ok "lyon killed at $point: the function goes on where it was, and does nothing twice"
    q lyon cleanup ask > /dev/null
done
e2e_done
