#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A drill with a real machine: its address is set in its guest, a program is run while the daemon is
# killed, a person is asked over a restart.
. "$(dirname "$0")/lib/e2e.sh"

e2e_two_sites
e2e_machine db1 1 raw
q paris protect db1 --to lyon --interval 1s --keep 10 > /dev/null
wait_points lyon db1 2

cat > "$work/slow.sh" << EOF
#!/bin/sh
echo "begun \$1 \$MUSTER_KIND" >> "$work/slow.log"
while [ ! -e "$work/go" ]; do sleep 0.1; done
echo "ended" >> "$work/slow.log"
EOF
chmod +x "$work/slow.sh"
cat > "$work/shop.lua" << EOF
return plan "shop" {
  stage "All" {
    step "Bring up db1" { failover "db1" },
    step "Wait until it is up" { wait_until { agent = "db1", within = "3m" } },
    step "Give it its address" {
      assign_ip {
        "db1",
        address = { lyon = { "10.20.0.11/24", "fd00:20::11/64" }, paris = "10.77.0.11/24" },
        gateway = { lyon = "10.20.0.1", paris = "10.77.0.1" },
      },
    },
    step "Open the shop" { run_command { "$work/slow.sh", args = { "lyon" }, within = "5m" } },
    step "Ask the duty manager" {
      approve { "Send users here?", by = "$(id -un)", within = "1h" },
    },
  },
}
EOF
q lyon plan add "$work/shop.lua" > /dev/null
run_of() { q lyon --json run list | grep -o '"id":[0-9]*' | head -1 | cut -d: -f2; }
state_is() { q lyon --json run show "$run" | grep -q "\"state\":\"$1\""; }

# Nothing is run that the site's own config does not allow.
q lyon run shop --kind test > "$work/denied.out" 2>&1 || true
check "a program that config.lua does not name is refused" \
    grep -q "lyon does not allow \"$work/slow.sh\" to be run" "$work/denied.out"
check "it says how to allow it" grep -q "commands = { \"$work/slow.sh\" }" "$work/denied.out"
q lyon cleanup shop > /dev/null
sed -i "s|^}|  commands = { \"$work/slow.sh\" },\n}|" "$work/lyon/config.lua"
kill_daemon lyon
demo_serve lyon

# The daemon is killed while the program runs; the program ends while there is none.
q lyon run shop --kind test --no-wait > /dev/null
run=$(run_of)
begun() { [ -e "$work/slow.log" ]; }
wait_for 180 "the program to begin" begun
kill_daemon lyon
touch "$work/go"
ended() { grep -q ended "$work/slow.log"; }
wait_for 20 "the program to end" ended
demo_serve lyon
wait_for 60 "the run to ask" state_is paused
check "the program was begun once" test "$(grep -c begun "$work/slow.log")" = 1
check "it was told what kind of run it is" grep -q "begun lyon test" "$work/slow.log"
q lyon --json run show "$run" > "$work/run.json"
check "the guest shows its new addresses" \
    grep -q '10.20.0.11/24, gateway 10.20.0.1, fd00:20::11/64' "$work/run.json"
check "what it had before was kept" grep -q '"before".*10.77.0.11/24' "$work/run.json"
q lyon run show "$run" > "$work/run.txt"
check "the run shows the question" grep -q '"Send users here?" .* answers until' "$work/run.txt"

# Asked over a restart.
kill_daemon lyon
demo_serve lyon
wait_for 20 "the run to ask again" state_is paused
refused 4 "it asks nobody" lyon run approve "$run" --step 1 --no-wait
q lyon run approve "$run" --note "looks well" > /dev/null
check "yes lets the run end" state_is cleanup-due
q lyon audit > "$work/audit.txt"
check "the answer is in the audit log" grep -q "run.approve" "$work/audit.txt"
q lyon cleanup shop > /dev/null

# No.
q lyon run shop --kind test --no-wait > /dev/null
run=$(run_of)
wait_for 180 "the second run to ask" state_is paused
q lyon run deny "$run" --note "not today" > "$work/denied.out" 2>&1 || true
check "no fails the step" grep -q "was denied by $(id -un): not today" "$work/denied.out"
q lyon cleanup shop > /dev/null
check "nothing is left" demo_leftovers
e2e_done
