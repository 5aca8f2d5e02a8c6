// SPDX-License-Identifier: Apache-2.0
/* State machines as tables. `moves` lists what is allowed; one function moves. A move of our
 * own that is not in the table is a bug and aborts; a request of somebody's is checked first
 * with sm_allows. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct sm_move {
    int from;
    int to;
};

struct sm {
    const char *what; /* "run", "machine", for the abort's message */
    const char *const *names;
    size_t name_count;
    const struct sm_move *moves;
    size_t move_count;
};

bool sm_allows(const struct sm *sm, int from, int to);
/* Aborts unless the table allows it; staying where one is, is always allowed. */
void sm_move(const struct sm *sm, int *state, int to);
const char *sm_name(const struct sm *sm, int state);
/* The state of that name, or -1. */
int sm_parse(const struct sm *sm, const char *name);
