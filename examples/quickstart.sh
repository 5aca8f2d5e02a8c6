#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# From nothing to a failover and back on one machine, as root on Debian 12: two sites, two real QEMU
# machines whose disks change all the time, protection, a test failover, a planned failover and its
# commit, the way back and its commit, and a table of what was promised and what the guests' own
# records say. Leaves nothing behind but build/.
#
#   sh examples/quickstart.sh          KEEP=1 keeps the work folder (and says where)
set -eu
cd "$(dirname "$0")/.."
. examples/lib/packages.sh
. examples/lib/demo.sh

began=$(date +%s)
heading "Packages and build"
# shellcheck disable=SC2086
muster_install $muster_build_packages $muster_run_packages $muster_guest_packages
demo_build
prepared=$(date +%s)

heading "Two sites: paris and lyon"
demo_begin
demo_site paris
demo_site lyon
demo_serve paris
demo_serve lyon
m lyon site pair issue > "$work/token"
m paris site pair join - < "$work/token"
rm "$work/token"
m paris site show

heading "Two machines at paris: db1 (raw disk), web1 (two qcow2 disks)"
demo_machine db1 1 raw
demo_machine web1 2 qcow2 qcow2
for name in db1 web1; do
    m paris machine add "$work/$name.lua"
    m paris machine start "$name"
done
m paris machine list
for name in db1 web1; do
    wait_console paris "$name" 'ACKED [0-9][0-9]'
done
note "Their writers run: numbered, checksummed, fsynced records, one after the other."

heading "Protect them: initial copy, then a point every second"
m paris protect db1 --to lyon --interval 1s --keep 200
m paris protect web1 --to lyon --interval 1s --keep 200
for round in 1 2 3; do
    wait_points lyon db1 "$round"
    m paris status
done
m lyon points db1

heading "The plan, as a runbook"
m lyon plan add plans/shop.lua
m lyon plan show shop --kind planned

heading "Test failover at lyon, on an isolated network, while replication goes on"
points_before=$(point_count lyon db1)
m lyon run shop --kind test
for name in db1 web1; do
    remember_records "test of $name" lyon "$name"
done
wait_points lyon db1 $((points_before + 2))
m paris status
heading "Cleanup: nothing of the test is left"
m lyon cleanup shop
demo_leftovers

heading "Planned failover to lyon"
m paris status
rpo_worst=$(worst_rpo lyon db1)
rpo_web=$(worst_rpo lyon web1)
[ "$rpo_worst" -ge "$rpo_web" ] || rpo_worst=$rpo_web
planned_began=$(now_ms)
m lyon run shop --kind planned --yes
planned_ms=$(($(now_ms) - planned_began))
for name in db1 web1; do
    remember_acked "failover of $name" paris "$name"
    remember_records "failover of $name" lyon "$name"
done

heading "New records are written at lyon"
for name in db1 web1; do
    wait_new_records lyon "$name"
done
m lyon status

heading "Commit: lyon has them for good; paris becomes the replica, by what differs"
m lyon commit shop
for name in db1 web1; do
    remember_reverse "reverse sync of $name" lyon "$name"
done
m lyon status
m lyon jobs
for name in db1 web1; do
    wait_new_records lyon "$name"
done

heading "Failback: the same plan, at paris, in the other direction"
failback_began=$(now_ms)
m paris run shop --kind failback --yes
failback_ms=$(($(now_ms) - failback_began))
for name in db1 web1; do
    remember_acked "failback of $name" lyon "$name"
    remember_records "failback of $name" paris "$name"
done

heading "New records at paris, and commit: protected to lyon again, by what differs"
for name in db1 web1; do
    wait_new_records paris "$name"
done
m paris commit shop
for name in db1 web1; do
    remember_reverse "protection of $name again" paris "$name"
done
for name in db1 web1; do
    wait_points lyon "$name" $(($(newest_point lyon "$name") + 2))
done
m paris status
note "lyon keeps $(point_count lyon db1) points of db1, of before, and of after its way back."

heading "Promised and measured"
verdict=0
demo_table || verdict=1
demo_end
finished=$(date +%s)
note "Took $((finished - prepared)) s, and $((prepared - began)) s for packages and build."
exit "$verdict"
