#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A committed machine at the site it was failed over to is a machine like any other: stopped and started,
# ended like a power cut, its daemon killed while it gets disks of its own. Its replication goes on, and the
# way back loses nothing.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/circle.sh

e2e_two_sites
sed_iothread() { sed -i 's/format = "qcow2" }/format = "qcow2", iothread = true }/' "$work/web1.lua"; }
e2e_machine db1 1 raw
demo_machine web1 2 qcow2
sed_iothread
q paris machine add "$work/web1.lua" > /dev/null
q paris machine start web1 > /dev/null
wait_console paris web1 'ACKED [0-9]'
for name in db1 web1; do
    q paris protect $name --to lyon --interval 1s --keep 20
    wait_points lyon $name 2
done

goes_on() { # NAME: points that were cut since now arrive at paris
    first=$(newest_point lyon "$1")
    wait_points lyon "$1" $((first + 2))
}
streamed() { q lyon --json jobs list | tr '{' '\n' | grep '"stream"' | grep "\"$1\"" | grep -q succeeded; }

for name in db1 web1; do
    q lyon failover $name --planned --yes
    no_loss paris $name lyon
    wait_new_records lyon $name
    q lyon commit $name
    # In the middle of the reverse sync and of the stream.
    kill_daemon lyon
    demo_serve lyon
    protected_at lyon $name
    goes_on $name
    wait_for 90 "the disks of $name to be its own" streamed $name
    ok "$name has disks of its own at lyon"
    check "nobody serves $name a point any more" test -z "$(pgrep -f "pidfile $work/lyon/instances/[a-z0-9-]*-$name/nbd" || true)"

    q lyon machine stop $name
    before=$(grep -c "resynchronizing group=$name" "$work/lyon.log")
    q lyon machine start $name
    wait_console lyon $name 'RECORDS '
    check "$name is whole after a stop and a start" whole "$(records lyon $name)"
    goes_on $name
    check "nothing had to be compared" \
        test "$before" = "$(grep -c "resynchronizing group=$name" "$work/lyon.log")"

    kill -9 "$(machine_pid lyon $name)"
    gone() { q lyon machine show $name | grep -q off; }
    wait_for 30 "$name to be off" gone
    q lyon machine start $name
    wait_console lyon $name 'RECORDS '
    check "$name is whole after its QEMU was killed" whole "$(records lyon $name)"
    wait_new_records lyon $name
    goes_on $name
    ok "$name is sent on, point $(newest_point lyon $name)"
done
for name in db1 web1; do
    q paris failback $name --yes
    no_loss lyon $name paris
done
e2e_done
