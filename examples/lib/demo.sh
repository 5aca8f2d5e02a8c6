# SPDX-License-Identifier: Apache-2.0
# Sourced by examples/quickstart.sh and the benchmarks: two sites on loopback addresses, machines made
# of the demo guest, and reading what the guests' own records say.

root=$(pwd)
build=${MUSTER_BUILD:-$root/build}
muster=$build/muster
guest=$root/build/guest

heading() {
    printf '\n\033[1m== %s\033[0m\n' "$*"
}

note() {
    printf '   %s\n' "$*"
}

fail() {
    printf 'quickstart: %s\n' "$*" >&2
    exit 1
}

now_ms() {
    date +%s%3N
}

# m SITE COMMAND...: the program, at that site; prints what it runs.
m() {
    site=$1
    shift
    printf '\033[2m%s$ muster %s\033[0m\n' "$site" "$*" >&2
    "$muster" --dir "$work/$site" "$@"
}

# The same without printing, for our own questions.
q() {
    site=$1
    shift
    "$muster" --dir "$work/$site" "$@"
}

demo_build() {
    mkdir -p build
    cmake -S . -B build -G Ninja -DCMAKE_C_COMPILER=gcc > build/cmake.log 2>&1 || {
        cat build/cmake.log >&2
        exit 1
    }
    ninja -C build --quiet muster nbdkit-muster-plugin
    examples/guest/build.sh "$guest" > build/guest.log 2>&1 || {
        cat build/guest.log >&2
        exit 1
    }
}

# A work folder of our own, and everything in it taken down whatever happens.
demo_begin() {
    work=$(mktemp -d "${TMPDIR:-/tmp}/muster-demo.XXXXXX")
    # Addresses of our own, so that several runs do not meet.
    net=127.$(($$ % 200 + 30)).$(($$ / 200 % 250 + 1))
    trap demo_end EXIT
    trap 'exit 130' INT TERM
}

demo_address() {
    case $1 in paris) echo "$net.1:7700" ;; lyon) echo "$net.2:7700" ;; *) echo "$net.3:7700" ;; esac
}

demo_site() {
    m "$1" site init "$1" --listen "$(demo_address "$1")"
}

# Starts a daemon and waits until it says that it is ready.
demo_serve() {
    rm -f "$work/$1.ready"
    mkfifo "$work/$1.ready"
    "$muster" --dir "$work/$1" serve --ready-fd 3 3> "$work/$1.ready" 2>> "$work/$1.log" >> "$work/$1.log" &
    eval "pid_$1=$!"
    timeout 30 head -c 1 "$work/$1.ready" > /dev/null || {
        cat "$work/$1.log" >&2
        fail "the daemon of $1 did not start"
    }
    rm -f "$work/$1.ready"
    note "daemon of $1 is up ($(demo_address "$1"))"
}

# demo_machine NAME NUMBER FORMAT...: makes its disks and its definition.
demo_machine() {
    name=$1
    number=$2
    shift 2
    disks=
    index=0
    for format in "$@"; do
        index=$((index + 1))
        disk=$work/$name-$index.$format
        examples/guest/make-disk.sh "$disk" "$format" "${demo_disk_size:-64M}"
        disks="$disks    { path = \"$disk\", format = \"$format\" },
"
    done
    cat > "$work/$name.lua" << EOF
-- $name: made by the demo.
return {
  name = "$name",
  memory = "128MiB",
  cpus = 1,
  kernel = "$guest/vmlinuz",
  initrd = "$guest/initrd.gz",
  cmdline = "console=ttyS0 quiet ip=10.77.0.1$number/24 ${demo_cmdline:-writer.pause_us=2000 writer.slots=2048}",
  agent = true,
  disks = {
$disks  },
  nics = { { mac = "52:54:00:77:00:1$number", network = "user" } },
}
EOF
}

# The console of a machine: its own instance at paris, the newest recovered one at lyon.
console() {
    if [ "$1" = paris ]; then
        echo "$work/paris/machines/$2/console.log"
    else
        # shellcheck disable=SC2012
        ls -t "$work/$1"/instances/*-"$2"/console.log 2> /dev/null | head -1
    fi
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
    left=$(($1 * 10))
    what=$2
    shift 2
    until "$@"; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || fail "waited too long for $what"
        sleep 0.1
    done
}

console_has() {
    file=$(console "$1" "$2")
    [ -n "$file" ] && grep -qE "$3" "$file" 2> /dev/null
}

wait_console() {
    wait_for 120 "'$3' on the console of $2" console_has "$1" "$2" "$3"
}

point_count() {
    q "$1" --json points "$2" | grep -o '"point":[0-9]*' | wc -l
}

newest_point() {
    q "$1" --json points "$2" | grep -o '"point":[0-9]*' | cut -d: -f2 | sort -n | tail -1
}

has_points() {
    [ "$(newest_point "$1" "$2")" -ge "$3" ] 2> /dev/null
}

wait_points() {
    wait_for 120 "point $3 of $2" has_points "$1" "$2" "$3"
}

# worst_rpo SITE MACHINE: how old the newest point ever was before the next one arrived, in ms: over the
# points that are kept, when the next arrived minus when this one was cut.
worst_rpo() {
    q "$1" --json points "$2" | tr '{' '\n' | awk -F'[:,}]' '
        { cut = ""; received = ""
          for (i = 1; i < NF; i++) {
              if ($i == "\"cut_ms\"") cut = $(i + 1)
              if ($i == "\"received_ms\"") received = $(i + 1)
          }
          if (cut == "") next
          if (newer != "" && newer - cut > worst) worst = newer - cut
          newer = received }
        END { printf "%d\n", worst }'
}

# What the guest found on its disks when it started.
records() {
    grep -o 'RECORDS .*' "$(console "$1" "$2")" | tail -1 | tr -d '\r'
}

acked() {
    grep -oE 'ACKED [0-9]+' "$(console "$1" "$2")" | tail -1 | cut -d' ' -f2
}

remember_records() { # WHAT SITE MACHINE
    wait_console "$2" "$3" 'RECORDS '
    line=$(records "$2" "$3")
    note "$1: $line"
    printf '%s|%s\n' "$1" "$line" >> "$work/found"
}

# What the machine acknowledged last at the site that it left; found again under the same WHAT.
remember_acked() { # WHAT SITE MACHINE
    wait_console "$2" "$3" 'WRITER STOPPED'
    printf '%s|%s\n' "$1" "$(acked "$2" "$3")" >> "$work/acked"
}

field() { # LINE NAME
    printf '%s\n' "$1" | grep -oE "$2=[0-9]+" | head -1 | cut -d= -f2
}

wait_new_records() {
    last=$(field "$(records "$1" "$2")" last)
    wait_console "$1" "$2" 'ACKED'
    newer() { [ "$(acked "$1" "$2")" -gt "$last" ]; }
    wait_for 60 "a record of $2 after $last" newer "$1" "$2"
    note "$2 at $1: record $(acked "$1" "$2"), written after $last"
}

state_is() { # SITE MACHINE STATE
    [ "$(q "$1" --json status "$2" | grep -o '"state":"[a-z-]*"' | head -1 | cut -d'"' -f4)" = "$3" ]
}

protected_at() { # SITE MACHINE
    wait_for 90 "$2 to be protected from $1" state_is "$1" "$2" protected
}

# remember_reverse WHAT SITE MACHINE: what the way back has sent of disks of how many bytes.
remember_reverse() {
    protected_at "$2" "$3"
    text=$(q "$2" --json status "$3")
    sent=$(printf '%s\n' "$text" | grep -oE '"sent_bytes":[0-9]+' | cut -d: -f2)
    size=$(printf '%s\n' "$text" | grep -oE '"size":[0-9]+' | awk -F: '{ sum += $2 } END { print sum }')
    note "$1: $(mib "$sent") sent, the disks have $(mib "$size")"
    printf '%s|%s|%s\n' "$1" "$sent" "$size" >> "$work/reverse"
}

mib() {
    awk -v bytes="$1" 'BEGIN { printf "%.1f MiB", bytes / 1048576 }'
}

# demo_table: promises against what the guests' own records say; 1 when one was not kept.
demo_table() {
    kept=0
    row() { # PROMISE MEASURED GOOD
        if [ "$3" = yes ]; then mark=kept; else mark=BROKEN kept=1; fi
        printf '   %-36s %-42s %s\n' "$1" "$2" "$mark"
    }
    is() { if "$@"; then echo yes; else echo no; fi; }
    printf '   %-36s %-42s %s\n' PROMISED MEASURED ""
    while IFS='|' read -r what line; do
        missing=$(field "$line" missing)
        damaged=$(field "$line" damaged)
        row "$what: no gap, no damage" "records to $(field "$line" last): $missing missing, $damaged damaged" \
            "$(is test "$missing$damaged" = 00)"
    done < "$work/found"
    while IFS='|' read -r what last; do
        line=$(grep "^$what|" "$work/found" | tail -1)
        row "$what loses 0" "acknowledged $last, found $(field "$line" last)" \
            "$(is test "$(field "$line" last)" -ge "$last")"
    done < "$work/acked"
    while IFS='|' read -r what sent size; do
        row "$what: by delta" "sent $(mib "$sent") of $(mib "$size")" \
            "$(is test "$sent" -lt $((size / 2)))"
    done < "$work/reverse"
    row "RPO of at most 5 s" "worst seen $(printf '%d.%03d' $((rpo_worst / 1000)) $((rpo_worst % 1000))) s" \
        "$(is test "$rpo_worst" -le 5000)"
    row "RTO of at most 2 min (planned)" "$((planned_ms / 1000)).$((planned_ms % 1000 / 100)) s" \
        "$(is test "$planned_ms" -le 120000)"
    row "RTO of at most 2 min (failback)" "$((failback_ms / 1000)).$((failback_ms % 1000 / 100)) s" \
        "$(is test "$failback_ms" -le 120000)"
    return "$kept"
}

# The network namespaces that this demo's tests made, by what their runs wrote down.
demo_spaces() {
    for run in $(q lyon --json run list | grep -o '"id":[0-9]*' | cut -d: -f2); do
        q lyon --json run show "$run" | grep -o 'muster-t-[a-z0-9.-]*' || true
    done | sort -u
}

# Fails when a test left anything: its network, folders of its machines, their processes.
demo_leftovers() {
    left=
    for space in $(demo_spaces); do
        ! ip netns list | grep -q "^$space\b" || left="$left namespace:$space"
    done
    for dir in "$work"/lyon/instances/*; do
        [ ! -e "$dir" ] || left="$left $dir"
    done
    for pid in $(pgrep -f "$work/lyon/instances" || true); do
        left="$left process:$pid"
    done
    [ -z "$left" ] || fail "left behind:$left"
    note "Networks, folders and processes left: none. (Made and removed: $(demo_spaces | tr '\n' ' '))"
}

# Ends daemons and machines, removes the folder. Safe to call twice.
demo_end() {
    code=$?
    trap - EXIT
    [ -n "${work:-}" ] && [ -d "$work" ] || return 0
    for site in paris lyon tours; do
        eval "pid=\${pid_$site:-}"
        [ -n "$pid" ] || continue
        kill "$pid" 2> /dev/null || continue
        ended=0
        wait "$pid" 2> /dev/null || ended=$?
        # 142: its own alarm, when what it does does not end in time; 137: killed before.
        case $ended in 0 | 127 | 137 | 142) continue ;; esac
        printf 'the daemon of %s ended with %s when it was told to stop\n' "$site" "$ended" >&2
        tail -60 "$work/$site.log" >&2
        [ "$code" != 0 ] || code=1
    done
    # Machines and served disks outlive the daemons: each has its pid in its folder.
    find "$work" -name '*.pid' 2> /dev/null | while read -r file; do
        read -r pid rest < "$file" || continue
        # Its number may be another's by now, or nobody's.
        if { tr '\0' ' ' < "/proc/$pid/cmdline"; } 2> /dev/null | grep -qF "$work"; then
            kill -9 "$pid" 2> /dev/null || true
        fi
    done
    if [ -n "${KEEP:-}" ]; then
        note "kept: $work"
    else
        rm -rf "$work"
    fi
    work=
    [ "$code" = 0 ] || exit "$code"
}
