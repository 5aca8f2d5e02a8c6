// SPDX-License-Identifier: Apache-2.0
/* Which names a compiled function uses that are not its own: what only shows when a line is run would
 * else be found in a disaster. Plain values, no Lua state; any thread. */
#pragma once

#include "base/vec.h"

#include <stdbool.h>

enum code_what {
    CODE_READS_GLOBAL,
    CODE_WRITES_GLOBAL,
    CODE_WRITES_SHARED, /* a local variable outside of it */
};

struct code_use {
    enum code_what what;
    unsigned line;
    char *name;
};
VEC_DEFINE(code_uses, struct code_use)
void code_uses_done(struct code_uses *uses);

/* Of a function and of those written inside of it, from what lua_dump gives with its names (not
 * stripped), in order of the code. False: of a form that is not known here; nothing is told then. */
bool code_scan(const char *dump, size_t len, struct code_uses *ret_uses);
