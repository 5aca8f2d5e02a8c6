# SPDX-License-Identifier: Apache-2.0
# Sourced after e2e.sh: two sites whose link is cut while both go on, and what became of the old machine.

# Nothing passes between the sites from now on (cut_link -I), or again (cut_link -D).
cut_link() {
    for site in "$net.1" "$net.2"; do
        iptables -w "$1" INPUT -p tcp -d "$site" --dport 7700 -j DROP
        iptables -w "$1" INPUT -p tcp -s "$site" --sport 7700 -j DROP
    done
    is_cut=$1
}

fence_end() {
    ended=$?
    set +e
    [ "${is_cut:-}" != -I ] || cut_link -D
    (exit "$ended")
    demo_end
}

machine_state() { # SITE MACHINE
    q "$1" --json machine show "$2" | grep -o '"state":"[a-z-]*"' | head -1 | cut -d'"' -f4
}

stands_still() { # at paris
    case $(machine_state paris "$1") in paused | off) ;; *) return 1 ;; esac
}

is_settled() { # at paris
    [ "$(machine_state paris "$1")" = off ] && grep -q '"settled":[1-9]' "$work/paris/sessions/$1.mark"
}

# With the link cut, paris writes on, and lyon takes over: what lyon has of db1 before is kept as a copy.
lyon_takes_over() { # MACHINE
    newer_than=$(acked paris "$1")
    cut_link -I
    wrote_on() { [ "$(acked paris "$1")" -gt $((newer_than + 200)) ]; }
    wait_for 60 "$1 to write on at paris" wrote_on "$1"
    quiet() { [ -z "$(find "$work/lyon/replicas/$1" -newermt '-2 seconds' -type f)" ]; }
    wait_for 60 "lyon's replica to rest" quiet "$1"
    cp -a --sparse=always "$work/lyon/replicas/$1" "$work/copy"
    q lyon failover "$1" --unplanned --yes > "$work/failover.log" 2>&1 || no "failover: $(cat "$work/failover.log")"
    wait_console lyon "$1" 'RECORDS '
    wait_new_records lyon "$1"
}

# In at most MS from now the machine at paris stands still.
stopped_within() { # MS MACHINE
    begun=$(now_ms)
    wait_for 60 "the old $2 to stop" stands_still "$2"
    took=$(($(now_ms) - begun))
    check "the old $2 stands still $took ms after the link is back" test "$took" -le "$1"
}

# The branch: what lyon had plus the branch is, bit by bit, what paris' disks hold.
branch_is_exact() { # MACHINE DISK:IMAGE:FORMAT...
    name=$1
    shift
    point=$(ls "$work/paris/branches/$name")
    [ -f "$work/paris/branches/$name/$point/manifest" ] || no "branch $point of $name has no manifest"
    "$build/tests/branch_apply" "$work/copy" "$name" "$work/paris/keys/$name.key" \
        "$work/paris/branches/$name/$point" || no "branch $point of $name cannot be applied"
    for disk; do
        image=$(echo "$disk" | cut -d: -f2)
        qemu-img compare -f raw -F "$(echo "$disk" | cut -d: -f3)" \
            "$work/copy/$(echo "$disk" | cut -d: -f1)/head.raw" "$image" > "$work/compare.log" ||
            no "$image is not point and branch together: $(cat "$work/compare.log")"
    done
    ok "branch $point of $name: what lyon had and the branch are paris' disks, bit by bit"
}
