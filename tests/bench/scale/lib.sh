# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Sourced by tests/bench/scale.sh and memory.sh: disks of storage daemons, protected by two daemons.
. examples/lib/packages.sh
. examples/lib/demo.sh

storages=""

scale_build() {
    if [ -z "${MUSTER_BUILD:-}" ]; then
        # shellcheck disable=SC2086
        muster_install $muster_build_packages $muster_run_packages
        mkdir -p build
        cmake -S . -B build -G Ninja -DCMAKE_C_COMPILER=gcc > build/cmake.log
        ninja -C build --quiet muster storage_site storage_writer nbdkit-muster-plugin
    fi
    muster=$build/tests/storage_site
}

scale_begin() {
    demo_begin
    trap scale_end EXIT
    export MUSTER_STORAGE=$work/storage
    mkdir -p "$work/disks" "$work/storage" "$work/machines"
}

scale_end() {
    set +e
    # shellcheck disable=SC2086
    [ -z "$storages" ] || kill $storages 2> /dev/null
    demo_end
}

scale_sites() {
    demo_site paris > /dev/null
    demo_site lyon > /dev/null
    demo_serve paris
    demo_serve lyon
    q paris site pair join "$(q lyon site pair issue)" > /dev/null
}

# scale_machine NAME: defines it; its disk is $work/disks/NAME.raw.
scale_machine() {
    mkdir -p "$work/storage/$1"
    printf 'return { name = "%s", memory = "64MiB", cpus = 1, disks = {{ name = "d", path = "%s", format = "raw" }} }\n' \
        "$1" "$work/disks/$1.raw" > "$work/machines/$1.lua"
}

# scale_storage NUMBER NAME...: one storage daemon with these disks; returns when all can be reached.
scale_storage() {
    number=$1
    names=${*:2}
    set -- --nbd-server "addr.type=unix,addr.path=$work/storage/nbd-$number.sock,max-connections=0"
    for name in $names; do
        rm -f "$work/storage/$name/qmp"
        set -- "$@" --blockdev "driver=raw,node-name=$name,discard=unmap,file.driver=file,file.filename=$work/disks/$name.raw" \
            --export "type=nbd,id=x$name,node-name=$name,name=$name,writable=on" \
            --chardev "socket,id=c$name,path=$work/storage/$name/qmp,server=on,wait=off" --monitor "chardev=c$name"
    done
    qemu-storage-daemon "$@" > "$work/storage/$number.log" 2>&1 &
    storage_pid=$!
    storages="$storages $storage_pid"
    for name in $names; do
        for _ in $(seq 300); do
            [ -S "$work/storage/$name/qmp" ] && break
            sleep 0.1
        done
    done
}

# memory SITE FIELD: of its daemon, KiB.
memory() {
    eval "awk -v what=$2: '\$1 == what { print \$2 }' /proc/\$pid_$1/status"
}

# scale_look FILE: "NAME STATE AGE_MS POINT" of every disk, as the replica's site tells it.
scale_look() {
    # Each protection on a line of its own, what is nested in it left out.
    q lyon --json status | sed -E 's/"[a-z_]+":\[[^][]*\],?//g; s/"[a-z_]+":\{[^{}]*\},?//g' |
        sed -E 's/^.*"protections":\[//' | tr '{' '\n' > "$work/status"
    awk '
        /"role":"replica"/ {
            match($0, /"name":"[^"]*"/); name = substr($0, RSTART + 8, RLENGTH - 9)
            match($0, /"state":"[^"]*"/); state = substr($0, RSTART + 9, RLENGTH - 10)
            match($0, /"durable_age_ms":-?[0-9]+/); age = substr($0, RSTART + 17, RLENGTH - 17)
            match($0, /"durable_point":[0-9]+/); point = substr($0, RSTART + 16, RLENGTH - 16)
            print name, state, age, point }' "$work/status" > "$1"
}
