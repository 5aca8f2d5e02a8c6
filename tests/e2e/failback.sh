#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The whole circle on real machines: fail over, commit, the old side becomes the replica, fail back,
# commit, protected again in the first direction; judged by the guests' own records and by comparing
# disks.
. "$(dirname "$0")/lib/e2e.sh"

e2e_two_sites
e2e_machine db1 1 raw
e2e_machine web1 2 qcow2 qcow2
for name in db1 web1; do
    q paris protect $name --to lyon --interval 1s --keep 10
    wait_points lyon $name 2
done

state_is() { # SITE MACHINE STATE
    [ "$(q "$1" --json status "$2" | grep -o '"state":"[a-z-]*"' | head -1 | cut -d'"' -f4)" = "$3" ]
}
protected_at() { # SITE MACHINE
    wait_for 60 "$2 to be protected from $1" state_is "$1" "$2" protected
}

no_loss() { # FROM NAME TO: what was acknowledged last at FROM was found at TO, whole
    wait_console "$1" "$2" 'WRITER STOPPED'
    last=$(acked "$1" "$2")
    wait_console "$3" "$2" 'RECORDS '
    line=$(records "$3" "$2")
    check "$2 is whole at $3" whole "$line"
    check "$2 lost nothing: acknowledged $last at $1, found $(field "$line" last)" \
        test "$(field "$line" last)" = "$last"
}
commits() { # SITE NAME: and is protected to the other one, with points that go on
    wait_new_records "$1" "$2"
    q "$1" commit "$2"
    protected_at "$1" "$2"
    first=$(newest_point "$1" "$2")
    wait_points "$1" "$2" $((first + 2))
    ok "$2 is sent from $1, point $(newest_point "$1" "$2")"
}

for name in db1 web1; do
    q lyon failover $name --planned --yes
    no_loss paris $name lyon
    commits lyon $name
done
for name in db1 web1; do
    q paris failback $name --yes
    no_loss lyon $name paris
    commits paris $name
done
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
e2e_done
