#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Protect two real machines, drill, fail over as planned; judged by the guests' own records.
. "$(dirname "$0")/lib/e2e.sh"

e2e_two_sites
e2e_machine db1 1 raw
e2e_machine web1 2 qcow2 qcow2
q paris protect db1 --to lyon --interval 1s --keep 10
q paris protect web1 --to lyon --interval 1s --keep 10
wait_points lyon db1 2
wait_points lyon web1 2
ok "both machines have points at lyon"
q lyon plan add plans/shop.lua

# A test failover beside replication.
before=$(newest_point lyon db1)
before_web=$(newest_point lyon web1)
q lyon run shop --kind test
for name in db1 web1; do
    wait_console lyon "$name" 'RECORDS '
    check "the test instance of $name has whole records" whole "$(records lyon "$name")"
done
wait_points lyon db1 $((before + 2))
wait_points lyon web1 $((before_web + 2))
ok "points went on arriving while the test ran"
space=$(demo_spaces)
check "the test has a network namespace: $space" test -e "/run/netns/$space"
dirs=$(ls -d "$work"/lyon/instances/*)
q lyon cleanup shop
for dir in $dirs; do
    check "$(basename "$dir") is gone" test ! -e "$dir"
done
check "no process of the test is left" test -z "$(pgrep -f "$work/lyon/instances" || true)"
check "no namespace is left" test "$(ip netns list | grep -c "^$space" || true)" = 0
check "nothing is left" demo_leftovers

# Planned failover: nothing is lost.
q lyon run shop --kind planned --yes
for name in db1 web1; do
    wait_console paris "$name" 'WRITER STOPPED'
    last=$(acked paris "$name")
    wait_console lyon "$name" 'RECORDS '
    line=$(records lyon "$name")
    check "$name is whole after the planned failover" whole "$line"
    check "$name lost nothing: acknowledged $last, found $(field "$line" last)" \
        test "$(field "$line" last)" = "$last"
    wait_new_records lyon "$name"
    ok "$name writes new records at lyon"
done
check "source and replica of db1 are bit-identical" \
    cmp "$work/db1-1.raw" "$work/lyon/replicas/db1/vda/head.raw"
for disk in 1:vda 2:vdb; do
    check "source and replica of web1 ${disk#*:} are identical" qemu-img compare -q -U -f qcow2 -F raw \
        "$work/web1-${disk%:*}.qcow2" "$work/lyon/replicas/web1/${disk#*:}/head.raw"
done
e2e_done
