#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Daemons are killed in the initial copy, stay away, come back, are started twice. The machine is off and
# has one raw disk, so that nothing but the daemons is tried here.
. "$(dirname "$0")/lib/e2e.sh"

demo_begin
demo_site paris > /dev/null
demo_site lyon > /dev/null
demo_serve paris
demo_serve lyon
q paris site pair join "$(q lyon site pair issue)" > /dev/null
dd if=/dev/urandom of="$work/disk.raw" bs=1M count=192 status=none
cat > "$work/db1.lua" << EOF
return {
  name = "db1",
  memory = "64MiB",
  disks = { { path = "$work/disk.raw", format = "raw" } },
}
EOF
q paris machine add "$work/db1.lua" > /dev/null

refused 4 "locked by process" lyon serve

# Each daemon in turn, at a different moment of the copy.
(q paris protect db1 --to lyon --interval 1s --keep 3 > "$work/protect.out" 2>&1 || true) &
watcher=$!
begun() { q paris jobs list | grep -q 'protect  *db1'; }
wait_for 20 "the job to begin" begun
for moment in 0.1 0.3 0.5 0.2; do
    for site in paris lyon; do
        sleep "$moment"
        kill_daemon "$site"
        demo_serve "$site" > /dev/null
    done
done
watched() { ! kill -0 "$watcher" 2> /dev/null; }
wait_for 120 "the command that watches the job to end" watched
protected() { q paris jobs list | grep -q 'protect  *db1  *succeeded'; }
wait_for 60 "the protection that was cut by eight kills" protected
ok "the job went on over eight kills and succeeded"
check "there is one such job" test "$(q paris jobs list | grep -c 'protect  *db1')" = 1
wait_points lyon db1 1
check "the replica is the disk, bit by bit" cmp "$work/disk.raw" "$work/lyon/replicas/db1/vda/head.raw"

# A peer that is away for longer than the first tries.
kill_daemon lyon
state() { q paris status | grep -q "$1"; }
wait_for 20 "paris to notice" state backing-off
ok "paris backs off while lyon is away"
demo_serve lyon > /dev/null
wait_for 10 "replication to go on at once" state protected
ok "replication goes on when lyon is back, before its retry was due"

kill_daemon lyon
code=0
out=$(q paris unprotect db1 2>&1) || code=$?
case $out in *--force*) ok "unprotect without the peer says what can be done" ;; *) no "$code: $out" ;; esac
demo_serve lyon > /dev/null
q paris unprotect db1 > /dev/null
for left in paris/sessions paris/keys lyon/replicas lyon/keys; do
    check "nothing is left in $left" test -z "$(ls "$work/$left")"
done
check "the audit of paris verifies" q paris audit verify
e2e_done
