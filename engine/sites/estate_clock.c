// SPDX-License-Identifier: Apache-2.0
/* The peers' clocks against ours. In memory: they are measured again soon after a start. */
#include "base/mem.h"
#include "sites/estate_internal.h"

#include <stdio.h>

static struct estate_clock *find(struct estate *estate, const char *peer)
{
    VEC_FOREACH(clock, &estate->clocks)
        if (str_eq(clock->peer, peer))
            return clock;
    return NULL;
}

void estate_clock_note(struct estate *estate, const char *peer, int64_t apart_ms)
{
    bool apart = apart_ms >= ESTATE_CLOCK_APART_MS || apart_ms <= -ESTATE_CLOCK_APART_MS;

    estate_lock(estate);
    struct estate_clock *clock = find(estate, peer);
    if (!clock) {
        clock = estate_clocks_push(&estate->clocks);
        (void)snprintf(clock->peer, sizeof(clock->peer), "%s", peer);
    }
    clock->apart_ms = apart_ms;
    if (!apart)
        clock->since_ms = 0;
    else if (clock->since_ms == 0)
        clock->since_ms = estate->config.clock->wall_ms(estate->config.clock);
    estate_unlock(estate);
}

bool estate_clock_look(struct estate *estate, const char *peer, int64_t *ret_apart_ms,
                       int64_t *ret_since_ms)
{
    estate_lock(estate);
    const struct estate_clock *clock = find(estate, peer);
    if (clock) {
        *ret_apart_ms = clock->apart_ms;
        *ret_since_ms = clock->since_ms;
    }
    estate_unlock(estate);
    return clock != NULL;
}
