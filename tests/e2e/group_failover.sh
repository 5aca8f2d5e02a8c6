#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Two real machines as one group, all the way: drilled from one instant, failed over as planned without a
# loss on either, committed, brought back to their own disks, failed over while their site is cut off, and
# fenced when it returns. Each acts for both; judged by the guests' own records, which tell what the other
# had acknowledged.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/circle.sh
. tests/e2e/lib/kills.sh
. tests/e2e/lib/fence.sh

bridge=mus$$
trap 'ip link delete "$bridge" 2> /dev/null || true; fence_end' EXIT

bridged() { # NAME NUMBER FOLLOWED FORMAT...
    name=$1 number=$2 followed=$3
    shift 3
    demo_cmdline="writer.pause_us=1000 writer.slots=2048 writer.follow=10.77.0.1$followed"
    demo_machine "$name" "$number" "$@"
    sed -i "s/network = \"user\"/network = \"bridge $bridge\"/" "$work/$name.lua"
    q paris machine add "$work/$name.lua" > /dev/null
    q paris machine start "$name" > /dev/null
}

# Neither knows more of the other than the other has.
one_instant() { # SITE WHAT
    db=$(records "$1" db1)
    web=$(records "$1" web1)
    check "$2: db1 is whole: $db" whole "$db"
    check "$2: web1 is whole: $web" whole "$web"
    check "$2: they have seen each other" test "$(field "$web" seen)" -gt 0 -a "$(field "$db" seen)" -gt 0
    check "$2: web1 knows of $(field "$web" seen), db1 has $(field "$db" last)" \
        test "$(field "$web" seen)" -le "$(field "$db" last)"
    check "$2: db1 knows of $(field "$db" seen), web1 has $(field "$web" last)" \
        test "$(field "$db" seen)" -le "$(field "$web" last)"
}

group_commits() { # SITE: and it is protected to the other one, with points that go on
    wait_new_records "$1" db1
    wait_new_records "$1" web1
    q "$1" commit web1
    protected_at "$1" shop
    first=$(newest_point "$1" shop)
    wait_points "$1" shop $((first + 2))
    ok "shop is sent from $1, point $(newest_point "$1" shop)"
}

# --- Protect, plan --------------------------------------------------------------------------------

e2e_two_sites
ip link add name "$bridge" type bridge
ip link set "$bridge" up
bridged db1 1 2 raw
bridged web1 2 1 qcow2 raw
for machine in db1 web1; do
    wait_console paris $machine 'ACKED [0-9]'
done
q paris protect db1 web1 --to lyon --group shop --interval 1s --keep 600 > /dev/null
wait_points lyon shop 5

cat > "$work/part.lua" << 'END'
return plan "part" { stage "All" { step "Bring up db1" { failover "db1" } } }
END
cat > "$work/all.lua" << 'END'
return plan "all" {
  stage "Database" { step "Bring up db1" { failover "db1" } },
  stage "Web" { step "Bring up web1" { failover "web1" } },
}
END
refused 1 "the plan covers a part of group shop: db1, but not web1" lyon plan add "$work/part.lua"
q lyon plan add "$work/all.lua" > /dev/null
q lyon plan show all --kind planned > "$work/runbook.txt"
check "the runbook promotes the group once" test "$(grep -c 'Promote ' "$work/runbook.txt")" = 1
check "and says what is in it" grep -q 'Promote shop (db1, web1) here' "$work/runbook.txt"

# --- Test -------------------------------------------------------------------------------------------

before=$(newest_point lyon shop)
q lyon test-failover web1 > "$work/test.txt" 2>&1 || no "$(cat "$work/test.txt")"
for name in db1 web1; do
    wait_console lyon "$name" 'RECORDS '
done
one_instant lyon "the test"
wait_points lyon shop $((before + 2))
ok "points went on arriving while the test ran"
refused 4 "muster cleanup" lyon run all --kind test
dirs=$(ls -d "$work"/lyon/instances/*)
check "both have a copy" test "$(echo "$dirs" | wc -l)" = 2
q lyon cleanup db1 > /dev/null
check "nothing is left of the test" test -z "$(ls "$work/lyon/instances")"
check "no process of the test is left" test -z "$(pgrep -f "$work/lyon/instances" || true)"
check "no point is kept for it" test "$(q lyon --json points shop | grep -c '"pinned":true')" = 0
check "nothing is left" demo_leftovers

# --- Planned, from another point, back, and once more ---------------------------------------------------

q lyon run all --kind planned --yes > "$work/run.txt" 2>&1 || no "$(cat "$work/run.txt")"
for name in db1 web1; do
    no_loss paris $name lyon
done
one_instant lyon "the planned failover"
check "source and replica of db1 are the same" cmp "$work/db1-1.raw" "$work/lyon/replicas/shop/db1.vda/head.raw"
check "source and replica of web1 vda are the same" qemu-img compare -q -U -f qcow2 -F raw \
    "$work/web1-1.qcow2" "$work/lyon/replicas/shop/web1.vda/head.raw"
check "source and replica of web1 vdb are the same" cmp "$work/web1-2.raw" "$work/lyon/replicas/shop/web1.vdb/head.raw"
refused 4 "was failed over to lyon" paris machine start web1
refused 4 "was failed over to lyon" paris machine start db1
q lyon change-point all --point "$before" --yes > "$work/change.txt" 2>&1 || no "$(cat "$work/change.txt")"
for name in db1 web1; do
    wait_console lyon $name 'RECORDS '
done
one_instant lyon "point $before"
q lyon rollback shop --yes > "$work/rollback.txt" 2>&1 || no "$(cat "$work/rollback.txt")"
for name in db1 web1; do
    wait_console paris $name 'RECORDS '
    check "$name goes on at paris, whole" whole "$(records paris $name)"
    wait_new_records paris $name
done
check "nothing of the recovered machines is left" test -z "$(ls "$work/lyon/instances")"
point=$(newest_point lyon shop)
wait_points lyon shop $((point + 2))
q lyon failover db1 --planned --yes > "$work/run.txt" 2>&1 || no "$(cat "$work/run.txt")"
for name in db1 web1; do
    no_loss paris $name lyon
done
group_commits lyon
streamed() { [ "$(q lyon --json points shop 2> /dev/null | grep -c '"pins":\["')" = 0 ] &&
    [ "$(grep -h -o '"own"' "$work"/lyon/instances/*/stream.json | wc -l)" = 3 ]; }
wait_for 180 "the disks of both machines to be their own" streamed
ok "both have disks of their own, and no point is kept for them"

# --- Back -----------------------------------------------------------------------------------------------

q paris failback web1 --yes > "$work/run.txt" 2>&1 || no "$(cat "$work/run.txt")"
for name in db1 web1; do
    no_loss lyon $name paris
    check "$name runs on its own disks again" test -z "$(ls "$work/paris/instances")" -o -e "$work/paris/machines/$name/qemu.pid"
done
one_instant paris "the failback"
group_commits paris
check "nothing was compared whole" test "$(grep -c 'tracked machine=' "$work/lyon.log")" -ge 2

# --- Cut off, taken over, fenced ---------------------------------------------------------------------------

at_paris=$(acked paris web1)
cut_link -I
wrote_on() { [ "$(acked paris web1)" -gt $((at_paris + 200)) ]; }
wait_for 60 "both to write on at paris" wrote_on
quiet() { [ -z "$(find "$work/lyon/replicas/shop" -newermt '-2 seconds' -type f)" ]; }
wait_for 60 "lyon's replica to rest" quiet
cp -a --sparse=always "$work/lyon/replicas/shop" "$work/copy"
q lyon failover shop --unplanned --yes > "$work/run.txt" 2>&1 || no "$(cat "$work/run.txt")"
for name in db1 web1; do
    wait_console lyon $name 'RECORDS '
done
one_instant lyon "the unplanned failover"
cut_link -D
stopped_within 5000 web1
stopped_within 5000 db1
both_settled() { [ "$(machine_state paris db1)" = off ] && [ "$(machine_state paris web1)" = off ] &&
    grep -q '"settled":[1-9]' "$work/paris/sessions/shop.mark"; }
wait_for 60 "the old machines to be settled" both_settled
branch_is_exact shop "db1.vda:$work/db1-1.raw:raw" "web1.vda:$work/web1-1.qcow2:qcow2" "web1.vdb:$work/web1-2.raw:raw"
refused 4 "was failed over to lyon" paris machine start db1
q lyon commit shop > /dev/null
waits() { q lyon jobs list | grep -q accept-branch || q lyon --json jobs list | grep -q accept-branch; }
wait_for 60 "the branch to be told" waits
q lyon reprotect shop --accept-branch > /dev/null
protected_at lyon shop
point=$(newest_point lyon shop)
wait_points lyon shop $((point + 2))
ok "lyon sends to paris again, whose branch is kept"
q paris failback shop --yes > "$work/run.txt" 2>&1 || no "$(cat "$work/run.txt")"
for name in db1 web1; do
    no_loss lyon $name paris
done
group_commits paris
e2e_done
