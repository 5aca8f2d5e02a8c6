#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A replica that is encrypted at rest: QEMU's own luks driver opens its heads and reads what the source's disks
# hold, nothing of the guest can be read in its folder, its key is at the recovery site alone, and test failover,
# failover and failback work from it.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/circle.sh

e2e_two_sites
e2e_machine db1 1 raw qcow2
key=$work/lyon/keys/db1.luks
replica=$work/lyon/replicas/db1
refused 2 "none or at-rest" paris protect db1 --to lyon --encryption luks
q paris protect db1 --to lyon --interval 1s --keep 30 --encryption at-rest
wait_points lyon db1 3

check "its key is at lyon, for nobody else to read" test "$(stat -c %a "$key")" = 600
check "and not at paris" test ! -e "$work/paris/keys/db1.luks"
check "heads are containers" test -f "$replica/vda/head.luks" -a ! -e "$replica/vda/head.raw"
shows() { q "$1" show db1 | grep -q "encryption   at rest"; }
check "paris shows it" shows paris
check "lyon shows it" shows lyon
no_key_in() { ! grep -qraF "$(cat "$key")" "$@"; }
check "no log, no database and no folder holds the key" no_key_in \
    "$work/paris" "$work/paris.log" "$work/lyon.log" "$replica" "$work/lyon/state.db"

# The guest's own words are in its disk and nowhere in the replica.
pattern=lost+found
check "the source's disk has \"$pattern\" of its file system" grep -qaF "$pattern" "$work/db1-1.raw"
nowhere() { ! grep -qraF -e "$pattern" "$replica"; }
check "the replica's folder has it not" nowhere

# A drill, from the newest point, and a point as a file.
q lyon test-failover db1 > /dev/null
wait_console lyon db1 'RECORDS '
line=$(records lyon db1)
check "a test failover finds its records whole: $line" whole "$line"
q lyon cleanup db1 > /dev/null
q lyon export db1 "$work/point.raw" --point "$(newest_point lyon db1)" --disk vda > /dev/null
check "a point is exported in the clear" grep -qaF "$pattern" "$work/point.raw"
q lyon verify db1 > /dev/null
ok "its bytes verify"

# The source stands still: the containers are its disks, bit by bit, to QEMU alone.
q lyon failover db1 --planned --yes
no_loss paris db1 lyon
kill_daemon lyon # nobody else reads, and nothing of ours helps
luks() { echo "driver=luks,key-secret=k,file.driver=file,file.filename=$replica/$1/head.luks"; }
same() { # DISK FORMAT FILE
    qemu-img compare -q -U --object "secret,id=k,file=$key,format=raw" --image-opts \
        "$(luks "$1")" "driver=$2,file.driver=file,file.filename=$3"
}
check "QEMU's luks driver reads vda as the source has it" same vda raw "$work/db1-1.raw"
check "and vdb" same vdb qcow2 "$work/db1-2.qcow2"
printf wrong > "$work/wrong"
wrong_key() { qemu-img compare -U --object "secret,id=k,file=$work/wrong,format=raw" --image-opts "$(luks vda)" "$(luks vda)" 2>&1 || true; }
refused_by_qemu() { wrong_key | grep -q "Invalid password"; }
check "another key opens nothing" refused_by_qemu
demo_serve lyon

# And back: the machine's own disks are heads, as they are.
commits lyon db1
q paris failback db1 --yes
no_loss lyon db1 paris
commits paris db1
check "lyon's heads are containers again" test -f "$replica/vda/head.luks"
check "still nothing of it is readable" nowhere

# Without its key it says so; with it, it goes on.
mv "$key" "$work/aside"
kill_daemon lyon
demo_serve lyon
says_key() { q paris status db1 2>&1 | grep -q "db1.luks" || q paris show db1 2>&1 | grep -q "db1.luks" || grep -q "db1.luks" "$work/lyon.log"; }
tries=0
until says_key; do
    tries=$((tries + 1))
    [ $tries -lt 120 ] || no "nobody says that the key is gone: $(q paris show db1)"
    sleep 0.5
done
ok "a key that is gone is named"
mv "$work/aside" "$key"
q paris retry db1 > /dev/null 2>&1 || true
first=$(newest_point lyon db1)
wait_points lyon db1 $((first + 1))
ok "with its key back it goes on"

q paris unprotect db1 > /dev/null
check "with the replica its key goes" test ! -e "$key" -a ! -e "$replica"
e2e_done
