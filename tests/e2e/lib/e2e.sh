# SPDX-License-Identifier: Apache-2.0
# Sourced by tests/e2e/*.sh: the demo's two sites and machines, plus assertions. Each script prints one
# line per check and ends with "N passed, 0 failed".
set -eu
cd "$(dirname "$0")/../.."
. examples/lib/demo.sh

passed=0

ok() {
    passed=$((passed + 1))
    printf 'ok %d - %s\n' "$passed" "$*"
}

no() {
    printf 'not ok - %s\n' "$*"
    for site in paris lyon tours; do
        [ -f "$work/$site.log" ] || continue
        echo "--- log of $site"
        tail -40 "$work/$site.log"
    done
    for said in "$work"/*.err; do # what a QEMU that was started by hand said
        [ -s "$said" ] || continue
        echo "--- ${said##*/}"
        tail -20 "$said"
    done
    exit 1
}

# What the demo's helpers give up with.
fail() {
    no "$@"
}

check() { # WHAT COMMAND...
    what=$1
    shift
    if "$@"; then ok "$what"; else no "$what"; fi
}

# refused CODE TEXT SITE COMMAND...: exits with that code and says TEXT.
refused() {
    want=$1
    text=$2
    shift 2
    code=0
    out=$(q "$@" 2>&1) || code=$?
    [ "$code" = "$want" ] || no "'$*' exited $code, wanted $want: $out"
    case $out in *"$text"*) ok "'$*' says: $text" ;; *) no "'$*' lacks '$text': $out" ;; esac
}

e2e_done() {
    printf '%d passed, 0 failed\n' "$passed"
}

e2e_two_sites() {
    examples/guest/build.sh "$guest" > /dev/null
    demo_begin
    demo_site paris > /dev/null
    demo_site lyon > /dev/null
    demo_serve paris
    demo_serve lyon
    q paris site pair join "$(q lyon site pair issue)" > /dev/null
}

e2e_machine() { # NAME NUMBER FORMAT...
    demo_machine "$@"
    q paris machine add "$work/$1.lua" > /dev/null
    q paris machine start "$1" > /dev/null
    wait_console paris "$1" 'ACKED [0-9]'
}

# kill_daemon SITE: SIGKILL, as a power cut of the process would be.
kill_daemon() {
    eval "pid=\$pid_$1"
    kill -9 "$pid" 2> /dev/null || true
    wait "$pid" 2> /dev/null || true
}

machine_pid() { # SITE MACHINE: QEMU's pid, from its folder
    read -r pid rest < "$(dirname "$(console "$1" "$2")")/qemu.pid"
    echo "$pid"
}

# The records line must judge itself whole.
whole() { # LINE
    [ "$(field "$1" missing)" = 0 ] && [ "$(field "$1" damaged)" = 0 ] && [ "$(field "$1" last)" -gt 0 ]
}
