#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The link is cut in the middle of a segment: closed by the network, and silent. The sender backs off and
# says when it tries again; what was sent is not sent again; no point is lost. The sites talk through a
# relay: killed, it is a closed connection; stopped for a moment, a stall. A network that swallows
# everything is made by iptables, for the relay's address only. The machine is off: its disk is written
# here, so that source and replica can be compared bit by bit.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/kills.sh

relay_start() {
    setsid socat "TCP-LISTEN:7700,bind=$net.3,reuseaddr,fork" "TCP:$net.2:7700" 2> /dev/null &
    relay=$!
    disown "$relay"
    listening() { (exec 3<> "/dev/tcp/$net.3/7700") 2> /dev/null; }
    wait_for 10 "the relay" listening
}

# The relay leads a process group of its own: one process for each connection.
relay_signal() {
    kill "-$1" -- "-$relay" 2> /dev/null || true
}

# The listener dies first, while the connections stand still: a peer that connects again at once must find
# nobody, not a listener about to die.
relay_kill() {
    relay_signal STOP
    kill -KILL "$relay"
    refused() { ! listening; }
    wait_for 10 "the relay's listener to be gone" refused
    relay_signal KILL
}

# swallow -I|-D: from now on nothing passes between paris and the relay, in either direction; or again.
swallow() {
    iptables -w "$1" INPUT -p tcp -d "$net.3" -j DROP && swallows=$1
    iptables -w "$1" INPUT -p tcp -s "$net.3" -j DROP
}

link_end() {
    ended=$?
    set +e
    [ "${swallows:-}" != -I ] || swallow -D
    [ -z "${relay:-}" ] || relay_signal KILL
    (exit "$ended")
    demo_end
}

demo_begin
trap link_end EXIT
demo_site paris > /dev/null
q lyon site init lyon --listen "$net.2:7700" --advertise "$net.3:7700" > /dev/null
demo_serve paris > /dev/null
demo_serve lyon > /dev/null
relay_start
q paris site pair join "$(q lyon site pair issue)" > /dev/null
truncate -s 256M "$work/disk.raw"
dd if=/dev/urandom of="$work/disk.raw" bs=1M count=8 conv=notrunc status=none
cat > "$work/db1.lua" << EOF_LUA
return { name = "db1", memory = "64MiB", disks = { { path = "$work/disk.raw", format = "raw" } } }
EOF_LUA
q paris machine add "$work/db1.lua" > /dev/null
q paris protect db1 --to lyon --interval 1s --keep 1000 > /dev/null
wait_points lyon db1 1
store=$work/lyon/replicas/db1

status_says() { # TEXT...
    status=$(q paris status db1 2>&1)
    for text in "$@"; do
        case $status in *"$text"*) ;; *) return 1 ;; esac
    done
}

arrived() { # bytes of the segment that is on its way
    du -sb "$store/vda/segments" | cut -f1
}

# A delta of 96 MiB, and the link is hit when some of it has arrived.
in_mid_segment() { # COMMAND...
    remember_points db1
    # One file that appears at once, so that it is one point.
    q paris pause db1 > /dev/null
    dd if=/dev/urandom of="$work/disk.raw" bs=1M count=96 seek=$((cuts % 2 * 100)) conv=notrunc status=none
    cuts=$((cuts + 1))
    q paris resume db1 > /dev/null
    left=6000
    until [ "$(arrived)" -gt 4000000 ]; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || no "no segment arrives"
    done
    "$@"
    there=$(arrived)
    check "the cut is in the middle of a segment: $there of 96 MiB are there" test "$there" -lt 96000000
    check "and the point is not there yet" test "$(newest_point lyon db1)" = "$(remembered_newest db1)"
}

same() {
    status_says "session      protected" && cmp -s "$work/disk.raw" "$store/vda/head.raw"
}

went_on() { # WHAT
    wait_for 60 "replication to go on after $1" same
    points_go_on db1 0
    ok "$1: went on, no point is lost, source and replica are the same"
}
cuts=0

# --- Closed ------------------------------------------------------------------------------------

in_mid_segment relay_kill
wait_for 20 "paris to back off" status_says "session      backing-off"
check "it names the peer, the failure and the next try" \
    status_says "lyon at $net.3:7700: cannot reach" "Connection refused" "tried again at" "muster retry db1"
check "json has the time of the next try" test -n "$(q paris --json status db1 | grep -oE '"(retry|again)[a-z_]*":[0-9]+' || true)"
relay_start
q paris retry db1 > /dev/null
went_on "a closed link"

# --- Silent ------------------------------------------------------------------------------------

in_mid_segment swallow -I
wait_for 90 "paris to back off" status_says "session      backing-off"
ok "silence is noticed: $(printf '%s' "$status" | grep -m 1 '^  db1: ')"
swallow -D
q paris retry db1 > /dev/null
went_on "a silent link"

# --- A short silence is none -------------------------------------------------------------------

in_mid_segment relay_signal STOP
sleep 2
relay_signal CONT
went_on "a link that was silent for 2 s"

# --- Told to stop while it connects --------------------------------------------------------------

swallow -I
kill_daemon paris
demo_serve paris > /dev/null
connects() { [ "$(ss -Htn state syn-sent dst "$net.3" | wc -l)" -ge 2 ]; } # its greeting, and the session
wait_for 20 "paris to try" connects
kill "$pid_paris"
ended=0
wait "$pid_paris" || ended=$?
check "a daemon that is told to stop while it connects ends well" test "$ended" = 0
swallow -D
e2e_done
