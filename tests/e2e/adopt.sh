#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Machines that somebody else started, by hand and with one monitor each: adopted without a restart,
# protected, drilled, failed over as planned, given back. Judged by the guests' own records.
. "$(dirname "$0")/lib/e2e.sh"

# Of a machine started by hand the console is where that hand put it.
console() {
    if [ "$1" = paris ]; then
        echo "$work/$2.console"
    else
        # shellcheck disable=SC2012
        ls -t "$work/$1"/instances/*-"$2"/console.log 2> /dev/null | head -1
    fi
}

cmdline() {
    echo "console=ttyS0 quiet ip=10.77.0.1$1/24 writer.pause_us=2000 writer.slots=2048"
}

# by_hand NAME NUMBER OPTION...: what is alike in both machines. In the folder of its files, so that
# relative paths are as its owner wrote them.
by_hand() {
    hand=$1
    number=$2
    shift 2
    rm -f "$work/$hand.pid"
    (cd "$work" && exec setsid qemu-system-x86_64 -name "$hand" -accel tcg -cpu max -m 128 -display none \
        -pidfile "$work/$hand.pid" -serial "file:$hand.console" -kernel "$guest/vmlinuz" \
        -initrd "$guest/initrd.gz" \
        -append "$(cmdline "$number")" \
        -qmp "unix:$hand.qmp,server=on,wait=off" -chardev "socket,id=ga,path=$hand.ga,server=on,wait=off" \
        -device virtio-serial-pci -device virtserialport,chardev=ga,name=org.qemu.guest_agent.0 \
        -netdev user,id=lan -device "virtio-net-pci,netdev=lan,mac=52:54:00:77:00:1$number" "$@" \
        > "$work/$hand.err" 2>&1) &
    disown $!
    wait_for 30 "the QEMU of $hand" test -s "$work/$hand.pid"
}

db1_by_hand() {
    by_hand db1 1 -machine pc -drive file=db1.raw,if=virtio,format=raw -cdrom empty.iso
}

web1_by_hand() {
    by_hand web1 2 -nodefaults -machine q35 -object iothread,id=io \
        -blockdev driver=qcow2,node-name=data,file.driver=file,file.filename="$work/web1.qcow2" \
        -device virtio-blk-pci,id=data,drive=data,iothread=io
}

pid_of() {
    read -r hand_pid < "$work/$1.pid"
    echo "$hand_pid"
}

# A process that ended, with all its threads, although nobody may have asked for its exit code yet.
gone() {
    ! grep -q '^State:[[:space:]]*[DIRSTt]' "/proc/$1"/task/*/status 2> /dev/null
}

runs() {
    ! gone "$1"
}

state_of() {
    q paris machine show "$1" --json | grep -oE '"state": ?"[a-z-]*"' | tail -1
}

is_state() {
    case $(state_of "$1") in *"\"$2\"") return 0 ;; *) return 1 ;; esac
}

# What the owner himself says to his monitor.
monitor() { # NAME COMMAND
    printf '{"execute":"qmp_capabilities"}\n{"execute":"%s"}\n' "$2" \
        | timeout 20 socat -t 2 - "UNIX-CONNECT:$work/$1.qmp"
}

e2e_two_sites
examples/guest/make-disk.sh "$work/db1.raw" raw 64M
examples/guest/make-disk.sh "$work/web1.qcow2" qcow2 64M
truncate -s 1M "$work/empty.iso"
db1_by_hand
web1_by_hand
wait_console paris db1 'ACKED [0-9]'
wait_console paris web1 'ACKED [0-9]'
db1_pid=$(pid_of db1)
web1_pid=$(pid_of web1)

# What cannot be.
refused 3 "No such file" paris machine adopt db1 --qmp "$work/none.qmp"
refused 1 "is no socket" paris machine adopt db1 --qmp "$work/db1.raw"
cat > "$work/web1.lua" << EOF
return {
  name = "web1", memory = "64MiB", cpus = 1, agent = true,
  kernel = "$guest/vmlinuz", initrd = "$guest/initrd.gz", cmdline = "$(cmdline 2)",
  disks = { { path = "$work/web1.raw", format = "raw" } },
  nics = { { mac = "52:54:00:77:00:19", network = "user" } },
}
EOF
refused 4 "memory: \"64MiB\" in the definition, but it runs with \"128MiB\"" \
    paris machine adopt web1 --qmp "$work/web1.qmp" --definition "$work/web1.lua"
case $out in
    *"it has the disk $work/web1.qcow2, which is not in the definition"*"52:54:00:77:00:12"*)
        ok "every difference was named" ;;
    *) no "not every difference was named: $out" ;;
esac
check "nothing is known of it" test "$(q paris machine list | grep -c web1 || true)" = 0

# Adopted: as its owner says, learned whole, or with what a recovered one will not have.
out=$(q paris machine adopt db1 --qmp "$work/db1.qmp")
case $out in
    *"read-only and left out"*) ok "the CD-ROM is left out, and that is said" ;;
    *) no "nothing is said of the CD-ROM: $out" ;;
esac
sed -i -e 's/64MiB/128MiB/' -e "s/web1.raw\", format = \"raw\"/web1.qcow2\", format = \"qcow2\", iothread = true/" \
    -e 's/77:00:19/77:00:12/' "$work/web1.lua"
q paris machine adopt web1 --qmp "$work/web1.qmp" --definition "$work/web1.lua"
refused 4 "was adopted already, as db1" paris machine adopt again --qmp "$work/db1.qmp"
check "db1 runs on in its process" test "$db1_pid" = "$(pid_of db1)"
check "that process lives" runs "$db1_pid"
check "db1 is seen running" is_state db1 running
check "web1 is seen running" is_state web1 running

q paris protect db1 --to lyon --interval 1s --keep 10
q paris protect web1 --to lyon --interval 1s --keep 10
wait_points lyon db1 3
wait_points lyon web1 3
ok "both have points at lyon"
check "their owner's tools have their monitor between our calls" \
    test "$(for _ in 1 2 3 4 5; do monitor db1 query-status; done | grep -c '"running": true')" = 5

# A test failover beside it.
q lyon plan add plans/shop.lua
q lyon run shop --kind test
for name in db1 web1; do
    wait_console lyon "$name" 'RECORDS '
    check "the test instance of $name has whole records" whole "$(records lyon "$name")"
done
q lyon cleanup shop

# Its owner starts it anew behind our back: found again, compared, and protected on.
runs "$web1_pid" || no "the QEMU of web1 ended by itself: $(cat "$work/web1.err")"
kill -9 "$web1_pid"
wait_for 20 "the QEMU of web1 to be gone" gone "$web1_pid"
rm -f "$work/web1.console"
web1_by_hand
wait_console paris web1 'ACKED [0-9]'
web1_pid=$(pid_of web1)
before=$(newest_point lyon web1)
wait_points lyon web1 $((before + 3))
check "its tracking was lost, and that was said" \
    grep -q 'resynchronizing group=web1 .*no change map' "$work/paris.log"

# Given back: a machine that Muster knows whole, and starts itself when it is told to.
examples/guest/make-disk.sh "$work/lab.raw" raw 64M
lab_by_hand() {
    rm -f "$work/lab.console"
    by_hand lab 3 -nodefaults -machine q35 -drive "file=$work/lab.raw,if=none,id=d,format=raw" \
        -device virtio-blk-pci,drive=d
    wait_console paris lab 'ACKED [0-9]'
    wait_console paris lab 'READY [0-9]' # from here on it hears the power button
    lab_pid=$(pid_of lab)
}
lab_by_hand
q paris machine adopt lab --qmp "$work/lab.qmp"
monitor lab system_powerdown > /dev/null
wait_for 60 "the guest of lab to shut down" is_state lab shutdown
check "its process stayed when its guest shut down" runs "$lab_pid"
before=$(acked paris lab)
q paris machine start lab > /dev/null
more() { [ "$(acked paris lab)" -gt "$before" ]; }
wait_for 60 "lab to write on" more
check "it began again in its own process" runs "$lab_pid"
check "its records are whole" whole "$(records paris lab)"
q paris machine stop lab > /dev/null
check "stopped, its process is gone" gone "$lab_pid"
check "it is seen off" is_state lab off
q paris machine start lab > /dev/null
check "Muster started it" test -s "$work/paris/machines/lab/qemu.pid"
refused 4 "was started by Muster" paris machine remove lab
refused 4 "is the monitor of a machine that Muster runs" \
    paris machine adopt again --qmp "$work/paris/machines/lab/qmp"
q paris machine stop lab --force > /dev/null
lab_by_hand
check "its owner started it: seen running" is_state lab running
q paris protect lab --to lyon --interval 1s --keep 3
wait_points lyon lab 2
q paris unprotect lab > /dev/null
q paris machine remove lab > /dev/null
check "given back, it runs on" runs "$lab_pid"
check "nothing of ours is in it" test "$(monitor lab query-block | grep -c '"muster-lab' || true)" = 0
monitor lab system_powerdown > /dev/null
wait_for 60 "lab to end with its guest, as its owner had it" gone "$lab_pid"
ok "its process ends with its guest again"

# A daemon that was away finds both again.
kill_daemon paris
demo_serve paris
before=$(newest_point lyon db1)
wait_points lyon db1 $((before + 2))
ok "replication went on after a kill of the daemon"

# Planned failover: nothing is lost, and the old processes are gone.
q lyon run shop --kind planned --yes
for name in db1 web1; do
    wait_console paris "$name" 'WRITER STOPPED'
    last=$(acked paris "$name")
    wait_console lyon "$name" 'RECORDS '
    line=$(records lyon "$name")
    check "$name is whole after the planned failover" whole "$line"
    check "$name lost nothing: acknowledged $last, found $(field "$line" last)" \
        test "$(field "$line" last)" = "$last"
    wait_new_records lyon "$name"
done
check "source and replica of db1 are bit-identical" cmp "$work/db1.raw" "$work/lyon/replicas/db1/vda/head.raw"
check "source and replica of web1 are identical" qemu-img compare -q -U -f qcow2 -F raw \
    "$work/web1.qcow2" "$work/lyon/replicas/web1/vda/head.raw"
check "the old process of db1 has ended" gone "$db1_pid"
check "the old process of web1 has ended" gone "$web1_pid"
check "db1 is seen off" is_state db1 off
refused 4 "failed over" paris machine start db1
e2e_done
