#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The whole circle on real machines: fail over, commit, the old side becomes the replica, fail back,
# commit, protected again in the first direction; judged by the guests' own records and by comparing
# disks.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/circle.sh

e2e_two_sites
e2e_machine db1 1 raw
e2e_machine web1 2 qcow2 qcow2
q paris policy add gold --interval 1s --keep 10 > /dev/null
for name in db1 web1; do
    q paris protect $name --to lyon --policy gold --keep 12
    wait_points lyon $name 2
done

for name in db1 web1; do
    q lyon failover $name --planned --yes
    no_loss paris $name lyon
    commits lyon $name
done
q lyon policy show gold > "$work/gold.txt"
for name in db1 web1; do
    check "its policy came with $name, and what is its own stays" \
        grep -q "used by  *$name, with its own keep" "$work/gold.txt"
done
for name in db1 web1; do
    q paris failback $name --yes
    no_loss lyon $name paris
    commits paris $name
done
refused 4 "it need not come back" paris failback db1 --yes
for name in db1 web1; do
    q lyon failover $name --planned --yes
    no_loss paris $name lyon
done
check "source and replica of db1 are the same" \
    cmp "$work/db1-1.raw" "$work/lyon/replicas/db1/vda/head.raw"
for disk in 1:vda 2:vdb; do
    check "source and replica of web1 ${disk#*:} are the same" qemu-img compare -q -U -f qcow2 -F raw \
        "$work/web1-${disk%:*}.qcow2" "$work/lyon/replicas/web1/${disk#*:}/head.raw"
done

# The second time round, its disks are taken over once more.
commits lyon db1
q paris failback db1 --yes
no_loss lyon db1 paris
commits paris db1
e2e_done
