#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The layers check itself: it must find an offence of each kind in a tree that has one.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree/replication/base" "$tree/replication/link" "$tree/engine/run" "$tree/lua/host"
expect() { # FILE TEXT MESSAGE: the check must fail and say MESSAGE
    printf '%s\n' "$2" > "$tree/$1"
    if out=$(sh "$here/layers.sh" "$tree" 2>&1); then
        echo "layers_test: not found in $1: $2" >&2
        exit 1
    fi
    case $out in *"$3"*) ;; *) echo "layers_test: wanted '$3', got: $out" >&2; exit 1 ;; esac
    rm "$tree/$1"
}
printf '#include "base/err.h"\n' > "$tree/engine/run/good.c"
sh "$here/layers.sh" "$tree" > /dev/null
expect replication/base/up.c '#include "link/link.h"' 'base (layer 0) includes link/link.h'
expect replication/link/side.c '#include "state/state.h"' 'link (layer 1) includes state/state.h'
expect engine/run/bare.c '#include "run.h"' 'an include names its room'
expect engine/run/lua.c '#include <lua.h>' 'lua.h belongs to lua/host'
expect engine/run/sql.c 'x = "SELECT a FROM b";' 'SQL belongs to engine/state'
expect engine/run/time.c 'clock_gettime(0, 0);' 'the clock is read through'
expect engine/run/thread.c 'pthread_create(0, 0, 0, 0);' 'threads are started in'
echo "layers_test: each offence is found"
