#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Either daemon killed with SIGKILL in each stage of a test failover and of its cleanup: both go on by
# themselves, there is one copy of the machine and no second, replication does not notice, and nothing
# is left in the end.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/kills.sh

e2e_two_sites
e2e_machine db1 1 raw qcow2
q paris protect db1 --to lyon --interval 1s --keep 1000 > /dev/null
wait_points lyon db1 2
spaces=

# One that is over when the copy runs, so that many fit into some minutes; one that looks at it.
printf 'return plan "drill" { stage "Machine" { step "Bring it up" { failover "db1" } } }\n' \
    > "$work/drill.lua"
cat > "$work/look.lua" << 'EOT'
return plan "look" {
  stage "Machine" {
    step "Bring it up" { failover "db1" },
    step "Wait for its writer" { wait_until { console = "db1", line = "RECORDS", within = "3m" } },
    step "Look at its agent" { wait_until { agent = "db1", within = "2m" } },
  },
}
EOT
for plan in drill look; do
    q lyon plan add "$work/$plan.lua" > /dev/null
done

test_is_up() { # RUN
    [ "$(run_text "$1" state)" = cleanup-due ] && [ "$(run_text "$1" outcome)" = succeeded ] ||
        no "test $1 is $(run_text "$1" state), $(run_text "$1" outcome): $(q lyon run show "$1")"
    each_effect_once "$1"
    one_instance "$1" db1 2
    space=$(run_json "$1" | grep -o '"netns":"[^"]*"' | head -1 | cut -d'"' -f4)
    [ -e "/run/netns/$space" ] || no "test $1 has no network $space"
    spaces="$spaces $space"
}

boots_whole() { # RUN
    line=$(records lyon db1)
    whole "$line" || no "test $1 found a damaged disk: $line"
}

cleanup_is_done() { # CLEANUP TEST
    [ "$(run_text "$1" state)" = succeeded ] && [ "$(run_text "$2" state)" = clean ] ||
        no "cleanup $1 is $(run_text "$1" state), its test $(run_text "$2" state): $(q lyon run show "$1")"
    each_effect_once "$1"
    no_instance_left db1
}

# drill_killed SITE POINT SITE POINT [PLAN]: a test and its cleanup, and where each is killed.
drill_killed() {
    plan=${5:-drill}
    remember_points db1
    killed_run "$1" "$2" run "$plan" --kind test
    test=$run
    test_is_up "$test"
    [ "$plan" = drill ] || boots_whole "$test"
    ok "test: $1 killed at $2, it goes on, once"
    killed_run "$3" "$4" cleanup "$plan"
    cleanup_is_done "$run" "$test"
    points_go_on db1
    ok "cleanup: $3 killed at $4, nothing is left"
}

drill_killed lyon run.declared lyon run.declared
drill_killed lyon run.state:1 lyon run.state:1
drill_killed lyon run.intent:1 lyon run.intent:1
drill_killed lyon run.committed:1 lyon run.committed:1
drill_killed lyon group.pin lyon provider.ended
drill_killed lyon run.result:1 lyon instance.stopped
drill_killed lyon run.intent:2 lyon instance.remove
drill_killed lyon run.committed:2 lyon run.result:1
drill_killed lyon net.create lyon run.intent:2
drill_killed lyon run.result:2 lyon group.unpin
drill_killed lyon run.intent:3 lyon run.result:2
drill_killed lyon run.committed:3 lyon run.intent:3
drill_killed lyon instance.made lyon net.remove
drill_killed lyon provider.server-spawned:1 lyon run.result:3
drill_killed lyon provider.overlay:1 lyon run.intent:4
drill_killed lyon provider.server-spawned:2 lyon instance.leftovers
drill_killed lyon provider.overlay:2 lyon run.result:4
drill_killed lyon provider.spawned lyon run.state:2 look
drill_killed lyon instance.started lyon run.committed:2
drill_killed lyon instance.start lyon run.committed:3 look
drill_killed lyon instance.observe lyon run.committed:4
drill_killed lyon run.result:3 lyon run.committed:1
drill_killed lyon run.state:2 lyon run.state:1

drill_killed lyon probe.console lyon run.committed:4 look

if all_kills; then
    for first in run.intent:2 run.committed:3 provider.server-spawned:2 instance.start run.result:3; do
        for second in run.intent:1 provider.ended instance.remove group.unpin net.remove; do
            drill_killed lyon "$first" lyon "$second" look
        done
    done
fi

# Cancelled while it waits for what never comes; taken back piece by piece.
cat > "$work/never.lua" << 'EOT'
return plan "never" {
  stage "Machine" {
    step "Bring it up" { failover "db1" },
    step "Wait for ever" { wait_until { console = "db1", line = "NO SUCH LINE", within = "1h" } },
  },
}
EOT
q lyon plan add "$work/never.lua" > /dev/null
waits() { run_json "$run" | grep -q '"state":"running","title":"Wait for ever"'; }
cancel_killed() { # POINT...
    remember_points db1
    q lyon run never --kind test --no-wait > /dev/null
    run=$(newest_run)
    wait_for 60 "run $run to wait" waits
    space=$(run_json "$run" | grep -o '"netns":"[^"]*"' | head -1 | cut -d'"' -f4)
    spaces="$spaces $space"
    arm lyon "$1"
    q lyon run cancel "$run" --no-wait > "$work/run.log" 2>&1 || true
    while [ $# -gt 1 ]; do
        died lyon "$1"
        shift
        arm lyon "$1"
    done
    died lyon "$1"
    revive lyon
    q lyon run watch "$run" > "$work/run.log" 2>&1 || true
    [ "$(run_text "$run" state)" = cancelled ] || no "run $run is $(run_text "$run" state)"
    no_instance_left db1
    points_go_on db1
}
cancel_killed provider.ended instance.stopped instance.remove run.result run.result:2 net.remove \
    run.result run.committed group.unpin run.result run.state
ok "cancelled: lyon killed in each part of taking it back, nothing is left"

# The daemon is back before what it started is up.
mkdir "$work/slow"
for program in nbdkit qemu-system-x86_64; do
    printf '#!/bin/sh\nsleep 1\nexec %s "$@"\n' "$(command -v "$program")" > "$work/slow/$program"
    chmod +x "$work/slow/$program"
done
quick=$PATH
PATH=$work/slow:$PATH
drill_killed lyon provider.server-spawned:1 lyon run.committed:1
drill_killed lyon provider.server-spawned:2 lyon run.committed:1
drill_killed lyon provider.spawned lyon run.committed:1
PATH=$quick

# Replication is in the middle of something when the test is asked for.
drill_killed paris sync.cut:2 paris sync.commit:2
drill_killed lyon replica.apply-head:2 lyon receiver.commit:2
for site in paris lyon; do
    check "the audit log of $site verifies" q "$site" audit verify
done
e2e_done
