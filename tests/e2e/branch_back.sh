#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# An unplanned failover while the old side is alive: what it wrote beyond the last common point is a
# branch, a person accepts it, the disks become the replica, the branch stays mountable, and the way back
# loses nothing of the other site's.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/circle.sh

e2e_two_sites
for name in db1:1:raw web1:2:qcow2; do
    IFS=: read -r name number format <<< "$name"
    e2e_machine "$name" "$number" "$format"
    q paris protect "$name" --to lyon --interval 2s --keep 20
    wait_points lyon "$name" 2
    q lyon failover "$name" --unplanned --yes
    wait_console lyon "$name" 'RECORDS '
    check "$name is whole at lyon" whole "$(records lyon "$name")"
    settled() { q paris branches "$name" | grep -q sealed || q paris --json branches "$name" | grep -q '"point"'; }
    wait_for 60 "the branch of $name" settled
    off() { q paris machine show "$name" | grep -q off; }
    wait_for 60 "the old $name to be gone" off
    qemu-img convert -f "$format" -O raw "$work/$name-1.$format" "$work/$name.branch"

    wait_new_records lyon "$name"
    q lyon commit "$name"
    refused_job() { q lyon --json jobs list | grep -q 'accept-branch'; }
    wait_for 30 "the job that asks about the branch" refused_job
    q lyon reprotect "$name" --accept-branch
    protected_at lyon "$name"
    first=$(newest_point lyon "$name")
    wait_points lyon "$name" $((first + 2))
    branch=$(q paris --json branches "$name" | grep -o '"point":[0-9]*' | head -1 | cut -d: -f2)
    "$muster" --dir "$work/paris" view "$name" --branch "$branch" > "$work/$name.view" 2>&1 &
    viewer=$!
    uri() { grep -o 'nbd+unix://[^ ]*' "$work/$name.view" > "$work/$name.uri"; }
    wait_for 30 "the view of the branch" uri
    nbdcopy "$(cat "$work/$name.uri")" "$work/$name.seen"
    kill "$viewer" && wait "$viewer" || true
    check "the branch of $name, point $branch, is what its disk was" cmp "$work/$name.branch" "$work/$name.seen"

    q paris failback "$name" --yes
    no_loss lyon "$name" paris
    commits paris "$name"
    check "the branch of $name is still listed" test -n "$(q paris --json branches "$name" | grep -o '"point"')"
done
e2e_done
