#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What can be wrong with the replica's directory: full, read-only, a foreign file, a damaged file. Each is
# said with the file, no point is lost, and replication goes on when the cause is removed. The machine is
# off: its disk is written here, so that each point can be compared bit by bit.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/kills.sh

store_end() {
    ended=$?
    set +e
    [ -z "${mounted:-}" ] || umount -l "$mounted"
    (exit "$ended")
    demo_end
}

demo_begin
trap store_end EXIT
demo_site paris > /dev/null
demo_site lyon > /dev/null
mkdir -p "$work/lyon/replicas"
mount -t tmpfs -o size=40M,mode=700 muster-e2e "$work/lyon/replicas"
mounted=$work/lyon/replicas
demo_serve paris > /dev/null
demo_serve lyon > /dev/null
q paris site pair join "$(q lyon site pair issue)" > /dev/null
dd if=/dev/urandom of="$work/disk.raw" bs=1M count=16 status=none
cat > "$work/db1.lua" << EOF_LUA
return { name = "db1", memory = "64MiB", disks = { { path = "$work/disk.raw", format = "raw" } } }
EOF_LUA
q paris machine add "$work/db1.lua" > /dev/null
q paris protect db1 --to lyon --interval 1s --keep 1000 > /dev/null
wait_points lyon db1 1
store=$work/lyon/replicas/db1

change() { # MIB: that much of the disk becomes something else
    dd if=/dev/urandom of="$work/disk.raw" bs=1M count="$1" conv=notrunc status=none
}

status_says() { # TEXT...
    status=$(q paris status db1 2>&1)
    for text in "$@"; do
        case $status in *"$text"*) ;; *) return 1 ;; esac
    done
}

stopped_with() { # TEXT...
    wait_for 30 "'$*' in the status of db1; it says: ${status:-}" status_says "$@"
    ok "db1: $*"
}

# The cause is gone: it goes on, has all points of before, and the disk as it is now.
mended() { # WHAT
    q paris retry db1 > /dev/null
    wait_for 60 "replication to go on after $1" goes_on
    points_are_kept db1
    cmp "$work/disk.raw" "$store/vda/head.raw" || no "$1: the replica is not the disk"
    ok "$1: went on, no point is lost, the replica is the disk"
}

goes_on() {
    status_says "session      protected" && cmp -s "$work/disk.raw" "$store/vda/head.raw"
}

point_is() { # POINT FILE: as it is shown to a machine
    nbdkit -r -U - "$build/nbdkit-muster-plugin.so" dir="$store" disk=vda point="$1" \
        keyfile="$work/lyon/keys/db1.key" --run "qemu-img compare -q -f raw -F raw $2 \"\$uri\""
}

change 1
wait_points lyon db1 2
cp "$work/disk.raw" "$work/point2.raw"

# --- Full --------------------------------------------------------------------------------------

full() {
    status_says "backing-off" "No space left"
}
rounds=0
until full; do
    rounds=$((rounds + 1))
    [ "$rounds" -lt 20 ] || no "40 MiB were never full: $(df "$store")"
    remember_points db1
    change 6
    newer() { full || has_points lyon db1 $(($(remembered_newest db1) + 1)); }
    wait_for 30 "a point, or word of the full disk" newer
done
stopped_with "backing-off" "lyon: " "No space left" "tried again at"
remember_points db1
mount -o remount,size=256M "$mounted"
mended "a full directory"
check "point 2 is what it was" point_is 2 "$work/point2.raw"

# --- Wrong at rest: found when the daemon starts again -----------------------------------------

# at_rest WHAT BREAK MEND TEXT...: lyon is down while both happen.
at_rest() {
    fault=$1
    break=$2
    mend=$3
    shift 3
    remember_points db1
    kill_daemon lyon
    $break
    change 1
    demo_serve lyon > /dev/null
    q paris retry db1 > /dev/null
    stopped_with "$@"
    kill_daemon lyon
    $mend
    demo_serve lyon > /dev/null
    mended "$fault"
}

read_only() { mount -o remount,ro "$mounted"; }
read_write() { mount -o remount,rw "$mounted"; }
at_rest "a read-only directory" read_only read_write "lyon: " "Read-only file system"

foreign() { echo mine > "$store/notes.txt"; }
no_foreign() { rm "$store/notes.txt"; }
at_rest "a foreign file" foreign no_foreign "critical" "notes.txt" "not a file of this replica"

# flip FILE: one bit of its middle byte, and back.
flip() {
    middle=$(($(stat -c %s "$1") / 2))
    byte=$(od -An -tu1 -j "$middle" -N 1 "$1")
    # shellcheck disable=SC2059
    printf "$(printf '\\%03o' $((byte ^ 1)))" |
        dd of="$1" bs=1 seek="$middle" conv=notrunc status=none
}

for file in manifests/00000000000000000002 generation applied replica; do
    flipped() { flip "$store/$file"; }
    at_rest "a damaged $file" flipped flipped "critical" "$file"
done
check "point 2 is what it was" point_is 2 "$work/point2.raw"
e2e_done
