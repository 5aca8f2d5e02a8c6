#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# An initial copy that begins from older copies of the disks at the other site: few bytes travel, and what is
# there in the end is the source, bit by bit. A wrong seed costs time and nothing else, one that may not be one is
# refused before anything is made, and either daemon may die in the middle.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/circle.sh
. tests/e2e/lib/kills.sh

e2e_two_sites
seeds=$work/lyon/seeds/paris
mkdir -p "$seeds"

# Disks that hold something: 24 MiB each that no compression makes smaller. The guest writes slowly, so that
# what travels can be told from what it wrote meanwhile.
demo_cmdline="writer.pause_us=200000 writer.slots=2048"
demo_machine db1 1 raw qcow2
head -c 24M /dev/urandom > "$work/bulk"
debugfs -w -R "write $work/bulk bulk" "$work/db1-1.raw" > /dev/null 2>&1
qemu-img convert -q -O raw "$work/db1-2.qcow2" "$work/second.raw"
debugfs -w -R "write $work/bulk bulk" "$work/second.raw" > /dev/null 2>&1
qemu-img convert -q -f raw -O qcow2 "$work/second.raw" "$work/db1-2.qcow2"
q paris machine add "$work/db1.lua" > /dev/null
q paris machine start db1 > /dev/null
wait_console paris db1 'ACKED [0-9]'

number_of() { # FIELD
    q paris --json show db1 | grep -o "\"$1\":[0-9]*" | head -1 | cut -d: -f2
}
protect() {
    q paris protect db1 --to lyon --interval 1s --keep 30 "$@" > "$work/protect.log" 2>&1 ||
        no "protect $*: $(cat "$work/protect.log")"
    number_of sent_bytes > "$work/sent"
}
arrives() { # WHAT
    floor=$(acked paris db1)
    wait_points lyon db1 $(($(newest_point lyon db1) + 2))
    replica_is_whole db1 "$floor"
    q lyon verify db1 > /dev/null || no "$1: the replica does not verify"
    ok "$1: the replica is a whole instant, and verifies"
    q paris unprotect db1 > /dev/null
}

# --- Without, to compare; and what later is the seed ---------------------------------------------

protect
whole_copy=$(cat "$work/sent")
point=$(newest_point lyon db1)
q lyon export db1 "$seeds/vda.raw" --point "$point" --disk vda > /dev/null
q lyon export db1 "$seeds/vdb.qcow2" --point "$point" --disk vdb --format qcow2 > /dev/null
arrives "a plain copy"
(cd "$seeds" && sha256sum vda.raw vdb.qcow2) > "$work/sums"

# --- What may be one ------------------------------------------------------------------------------

q paris protect db1 --to lyon --dry-run --seed vda=vda.raw --seed vdb="$seeds/vdb.qcow2" > "$work/dry" ||
    no "dry run: $(cat "$work/dry")"
check "a dry run shows what it found" grep -q "seed of disk vdb.*qcow2" "$work/dry"
check "and makes nothing" test ! -e "$work/lyon/replicas/db1"
truncate -s 65M "$seeds/large.raw"
ln -s "$work/db1-1.raw" "$seeds/link.raw"
qemu-img create -q -f qcow2 -F raw -b "$work/db1-1.raw" "$seeds/backed.qcow2" 64M
: > "$seeds/empty.raw"
mkdir "$seeds/folder"
denied() { # TEXT SEED
    refused 4 "not met" paris protect db1 --to lyon --dry-run --seed "vda=$2"
    case $out in *"$1"*) ok "a seed is refused: $1" ;; *) no "$2: $out lacks '$1'" ;; esac
}
denied "is not there" missing.raw
denied "leads out of" ../../keys/site.key
mkdir "$work/lyon/seeds/rome"
cp "$seeds/vda.raw" "$work/lyon/seeds/rome/theirs.raw"
denied "leads out of" ../rome/theirs.raw
denied "leads out of" link.raw
denied "is not in paris/" "$work/db1-1.raw"
denied "67108864" large.raw
denied "backing file" backed.qcow2
denied "is empty" empty.raw
denied "is no file" folder
refused 1 "no disk \"vdz\"" paris protect db1 --to lyon --seed vdz=vda.raw
refused 1 "2 disks" paris protect db1 --to lyon --seed vda.raw
refused 2 "two seeds" paris protect db1 --to lyon --seed vda=vda.raw,vda=other.raw
refused 4 "is not there" paris protect db1 --to lyon --seed vda=missing.raw
check "nothing was made for it" test ! -e "$work/lyon/replicas/db1"

# --- An older export ------------------------------------------------------------------------------

protect --seed vda=vda.raw,vdb=vdb.qcow2
seeded=$(cat "$work/sent")
printf '   sent: %s bytes without seeds, %s with\n' "$whole_copy" "$seeded"
check "less than a tenth travels" test $((seeded * 10)) -lt "$whole_copy"
same=$(number_of seed_same_bytes)
check "and it says how much was there: $(q paris show db1 | grep seeded)" test "$same" -gt 40000000
check "the job says so, too" grep -q "were there already" <(q paris jobs show "$(q paris --json jobs | grep -o '"id":[0-9]*' | head -1 | cut -d: -f2)"; q paris show db1)
check "the seeds are what they were" sh -c "cd '$seeds' && sha256sum --quiet -c '$work/sums'"
arrives "from an export"

# --- Of another disk, and a smaller one -----------------------------------------------------------

head -c 64M /dev/urandom > "$seeds/wrong.raw"
protect --seed vda=wrong.raw
arrives "from another disk's"
head -c 10000000 "$seeds/vda.raw" > "$seeds/short.raw"
protect --seed vda=short.raw --seed vdb=vdb.qcow2
check "a part of a disk is used as far as it goes" test "$(cat "$work/sent")" -lt "$whole_copy"
arrives "from a part of it"

# --- Killed in the middle -------------------------------------------------------------------------

killed() { # SITE POINT
    arm "$1" "$2"
    q paris protect db1 --to lyon --interval 1s --keep 30 --seed vda=vda.raw,vdb=vdb.qcow2 > "$work/protect.log" 2>&1 &
    command=$!
    died "$1" "$2"
    revive "$1"
    q paris retry db1 > /dev/null 2>&1 || true
    wait "$command" || no "$1 killed at $2: $(tail -5 "$work/protect.log")"
    sent=$(number_of sent_bytes)
    check "$1 killed at $2: it went on, $sent bytes sent" test $((sent * 5)) -lt "$whole_copy"
    arrives "$1 killed at $2"
}
killed lyon store.seeded
killed lyon receiver.base-seed:2
killed lyon receiver.base-end
killed paris sync.seeded:2
killed paris sync.base-end
killed paris sync.rescan

# --- Encrypted at rest, and compared bit by bit ---------------------------------------------------

protect --encryption at-rest --seed vda=vda.raw,vdb=vdb.qcow2
check "containers are seeded, too: $(cat "$work/sent") bytes" test $(($(cat "$work/sent") * 10)) -lt "$whole_copy"
rm -r "$seeds"
wait_points lyon db1 $(($(newest_point lyon db1) + 2))
q lyon verify db1 > /dev/null || no "the containers do not verify"
q lyon failover db1 --planned --yes > "$work/failover.log" 2>&1 || no "failover: $(tail -5 "$work/failover.log")"
no_loss paris db1 lyon
kill_daemon lyon
same_as() { # DISK FORMAT FILE
    qemu-img compare -q -U --object "secret,id=k,file=$work/lyon/keys/db1.luks,format=raw" --image-opts \
        "driver=luks,key-secret=k,file.driver=file,file.filename=$work/lyon/replicas/db1/$1/head.luks" \
        "driver=$2,file.driver=file,file.filename=$3"
}
check "vda is what the source has, bit by bit" same_as vda raw "$work/db1-1.raw"
check "and vdb" same_as vdb qcow2 "$work/db1-2.qcow2"
demo_serve lyon
e2e_done
