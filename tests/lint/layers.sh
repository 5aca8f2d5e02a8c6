#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The layers: an include goes down, never up or sideways; and what may be touched in one room only.
# Prints each offence as FILE:LINE and exits 1; with a folder as argument it checks that tree.
set -eu
cd "${1:-$(dirname "$0")/../..}"

awk '
BEGIN {
    split("base 0 core 1 state 1 replica 1 qemu 1 link 1 host 1 block 2 plugin 2 providers 3 sync 3 " \
          "sites 4 verbs 5 plan 6 run 7 cli 7 api 8 daemon 9", words, " ")
    for (i = 1; i in words; i += 2)
        layer[words[i]] = words[i + 1]
}
FNR == 1 {
    count = split(FILENAME, part, "/")
    room = part[count - 1]
    if (!(room in layer)) {
        print FILENAME ": no such room; add it to the table in tests/lint/layers.sh and docs/source.md"
        bad = 1
    }
    files++
}
/^[ \t]*#[ \t]*include[ \t]*"/ {
    split($0, quoted, "\"")
    split(quoted[2], target, "/")
    includes++
    if (quoted[2] !~ /\//) {
        print FILENAME ":" FNR ": an include names its room: \"ROOM/" quoted[2] "\""
        bad = 1
    } else if (!(target[1] in layer)) {
        print FILENAME ":" FNR ": unknown room in " quoted[2]
        bad = 1
    } else if (target[1] != room && layer[target[1]] >= layer[room]) {
        print FILENAME ":" FNR ": " room " (layer " layer[room] ") includes " quoted[2] \
              " (layer " layer[target[1]] ")"
        bad = 1
    }
}
function only(pattern, where, what) {
    if ($0 ~ pattern && FILENAME !~ where) {
        print FILENAME ":" FNR ": " what
        bad = 1
    }
}
{
    only("include[ \t]*<(lua|lauxlib|lualib)\\.h>", "^lua/host/", "lua.h belongs to lua/host")
    only("include[ \t]*<sqlite3\\.h>", "^replication/base/db\\.c$", "sqlite3.h belongs to base/db.c")
    only("clock_gettime[ \t]*\\(", "^replication/base/clock\\.c$",
         "the clock is read through base/clock.h")
    only("pthread_create[ \t]*\\(",
         "^(engine/core/pool|replication/base/crew|replication/sync/[a-z_]+)\\.c$",
         "threads are started in core/pool.c, base/crew.c and sync/ only")
    only("include[ \t]*<openssl/(ssl|x509)", "^replication/(link|base)/",
         "TLS and X.509 belong to replication/link")
    only("(CREATE TABLE|INSERT INTO|DELETE FROM|SELECT .* FROM )", "^engine/state/",
         "SQL belongs to engine/state")
}
END {
    if (!bad)
        printf "layers: %d files, %d includes, all go down\n", files, includes
    exit bad
}' $(find replication engine lua -name '*.[ch]' | LC_ALL=C sort)
