// SPDX-License-Identifier: Apache-2.0
#include "base/sm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool sm_allows(const struct sm *sm, int from, int to)
{
    for (size_t i = 0; i < sm->move_count; i++)
        if (sm->moves[i].from == from && sm->moves[i].to == to)
            return true;
    return from == to;
}

void sm_move(const struct sm *sm, int *state, int to)
{
    if (!sm_allows(sm, *state, to)) {
        (void)fprintf(stderr, "muster: bug: %s must not go from %s to %s\n", sm->what,
                      sm_name(sm, *state), sm_name(sm, to));
        abort();
    }
    *state = to;
}

const char *sm_name(const struct sm *sm, int state)
{
    if (state < 0 || (size_t)state >= sm->name_count || !sm->names[state])
        return "?";
    return sm->names[state];
}

int sm_parse(const struct sm *sm, const char *name)
{
    for (size_t i = 0; name && i < sm->name_count; i++)
        if (sm->names[i] && strcmp(sm->names[i], name) == 0)
            return (int)i;
    return -1;
}
