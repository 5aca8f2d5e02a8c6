#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A point is written to a file of its own, raw or qcow2, while replication goes on: the guest's records in it are
# whole. Nothing is written over, and one that was cut leaves nothing.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/kills.sh

e2e_two_sites
e2e_machine db1 1 raw qcow2
q paris protect db1 --to lyon --interval 1s --keep 30 > /dev/null
wait_points lyon db1 4
point=$(newest_point lyon db1)
to=$work/out
mkdir "$to"

for disk in vda vdb; do
    q lyon export db1 "$to/$disk.raw" --point "$point" --disk $disk > "$work/export.log" || no "export: $(cat "$work/export.log")"
    q lyon export db1 "$to/$disk.qcow2" --point "$point" --disk $disk --format qcow2 > /dev/null
    check "both formats of $disk hold the same" qemu-img compare -q -f raw -F qcow2 "$to/$disk.raw" "$to/$disk.qcow2"
done
check "it says what it wrote" grep -q "disk vdb is in $to/vdb.raw (raw, " "$work/export.log"
line=$(judge_images "$to/vda.raw" "$to/vdb.raw")
check "the guest's records in it are whole: $line" whole "$line"
check "a raw file is as sparse as its disk" test "$(stat -c %b "$to/vda.raw")" -lt "$(($(stat -c %s "$to/vda.raw") / 512))"
nothing_kept() { ! q lyon --json points db1 | grep -q "view-"; }
check "the point is kept no longer than it was looked at" nothing_kept
refused 4 "is there already" lyon export db1 "$to/vda.raw" --point "$point" --disk vda
refused 2 "say which" lyon export db1 "$to/x.raw"
refused 2 "raw" lyon export db1 "$to/x.raw" --point "$point" --disk vda --format vmdk
refused 3 "99999" lyon export db1 "$to/x.raw" --point 99999 --disk vda
refused 3 "vdz" lyon export db1 "$to/x.raw" --point "$point" --disk vdz
q lyon export db1 "$to/no/x.raw" --point "$point" --disk vda > "$work/export.log" 2>&1 && no "it wrote to a folder that is not there"
check "a folder that is not there is named" grep -q "$to/no/x.raw" "$work/export.log"

# A file system that is full, and a command that is ended.
mkdir "$work/small"
mount -t tmpfs -o size=256k none "$work/small"
small_end() {
    ended=$?
    set +e
    umount "$work/small" 2> /dev/null || true
    (exit "$ended")
    demo_end
}
trap small_end EXIT
q lyon export db1 "$work/small/x.raw" --point "$point" --disk vda > "$work/export.log" 2>&1 && no "it fitted"
check "a full file system is named: $(head -1 "$work/export.log")" grep -q "No space left on device" "$work/export.log"
check "nothing is left of it" test -z "$(ls "$work/small")"
check "nothing else is left" test "$(ls "$to" | wc -l)" = 4
points_go() { wait_points lyon db1 $((point + 3)); }
points_go
ok "points went on meanwhile"
e2e_done
