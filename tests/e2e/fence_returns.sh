#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Paris' daemon dies and lyon takes over. Then paris comes back: db1 has run on all the time, db2's QEMU
# died meanwhile, and the state database is gone. And a host that went down: db3 waits for lyon.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/kills.sh
. tests/e2e/lib/fence.sh

e2e_two_sites
trap fence_end EXIT
for n in 1 2 3; do
    e2e_machine "db$n" "$n" raw
    q paris protect "db$n" --to lyon --interval 1s --keep 10 > /dev/null
done
for n in 1 2 3; do wait_points lyon "db$n" 2; done
described() { grep -q '"peer":"lyon"' "$work/paris/sessions/db1/group.json"; }
wait_for 10 "db1 to be described" described

kill_daemon paris
kill -9 "$(machine_pid paris db2)"
quiet() { [ -z "$(find "$work/lyon/replicas/db1" -newermt '-2 seconds' -type f)" ]; }
wait_for 60 "lyon's replica to rest" quiet
cp -a --sparse=always "$work/lyon/replicas/db1" "$work/copy"
for n in 1 2; do
    q lyon failover "db$n" --unplanned --yes > "$work/failover.log" 2>&1 || no "failover: $(cat "$work/failover.log")"
done
wait_new_records lyon db1
there=$(acked paris db1)

# --- Running, stopped, and nobody's database ------------------------------------------------------

rm -f "$work"/paris/state.db*
demo_serve paris > /dev/null
stopped_within 5000 db1
wait_for 60 "the old db1 to be settled" is_settled db1
check "the old db1 had written on, beyond record $there" test "$(acked paris db1)" -ge "$there"
branch_is_exact db1 "vda:$work/db1-1.raw:raw"
log_has() { grep -q "$1" "$work/paris.log"; }
check "the log says that rows were made again" log_has "rows made again from sessions/db1/group.json"
for n in 1 2 3; do q paris machine show "db$n" > "$work/show" || no "db$n is not known any more"; done
ok "all machines are known again"
status=$(q paris status db3)
case $status in *"made again"*) ok "the status says so" ;; *) no "status: $status" ;; esac
wait_for 30 "the old db2 to be settled" is_settled db2
for n in 1 2; do
    refused 4 "was failed over to lyon (generation 2), as is known here since 20" paris machine start "db$n"
done
list=$(q paris branches db2)
case $list in *unknown*"protected again"*) ok "db2, which died, has a branch of unknown extent" ;; *) no "branches: $list" ;; esac
point=$(ls "$work/paris/branches/db2")
view_begins paris db2 --branch "$point"
qemu-img compare -f raw -F raw "$uri" "$work/db2-1.raw" > "$work/compare.log" || no "$(cat "$work/compare.log")"
view_killed paris
printf 'x' | dd of="$work/db2-1.raw" conv=notrunc status=none
refused 4 "was changed since its machine was stopped" paris view db2 --branch "$point"
wait_new_records lyon db1
line=$(records lyon db1)
check "lyon's db1 is whole: $line" whole "$line"

# --- The host went down ----------------------------------------------------------------------------

newest=$(newest_point lyon db3)
wait_points lyon db3 $((newest + 1))
ok "db3 is replicated again, after its rows were made again"
kill_daemon paris
kill -9 "$(machine_pid paris db3)"
sed -i 's/"boot":"[^"]*"/"boot":"another"/' "$work/paris/boot.json"
cut_link -I
demo_serve paris > /dev/null
refused 4 "was not shut down cleanly" paris machine start db3
check "db3 is off" test "$(machine_state paris db3)" = off
q paris machine start db3 --without-peer > /dev/null
check "db3 runs when somebody takes it on himself" test "$(machine_state paris db3)" = running
q paris audit > "$work/audit"
check "and it is recorded" grep -q "machine.start.*db3.*without-peer" "$work/audit"
e2e_done
