// SPDX-License-Identifier: Apache-2.0
#include "sync/pace.h"

#include "base/mem.h"
#include "base/str.h"

#include <stdio.h>

#define SMALL_BYTES (UINT64_C(1) << 20)

/* The cycle `back` before the last one. */
static const struct pace_cycle *cycle_at(const struct pace *pace, uint32_t back)
{
    return &pace->last[(pace->count - 1 - back) % PACE_CYCLES];
}

/* The last `count` cycles all took at least (or, `less`, less than) so much of their gap. */
static bool all(const struct pace *pace, uint32_t count, int64_t percent, bool less)
{
    if (pace->count < count)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        const struct pace_cycle *c = cycle_at(pace, i);
        bool under = c->busy_ms * 100 < c->gap_ms * percent;
        if (under != less || (!less && c->changed < SMALL_BYTES))
            return false;
    }
    return true;
}

void pace_note(struct pace *pace, const struct pace_cycle *cycle, int64_t interval_ms)
{
    pace->last[pace->count++ % PACE_CYCLES] = *cycle;
    if (pace->behind)
        pace->behind = !all(pace, 2, 80, true);
    else
        pace->behind = cycle->busy_ms >= 2 * interval_ms
                       && (all(pace, 2, 200, false) || all(pace, PACE_CYCLES, 90, false));
}

static uint64_t per_s(const struct pace *pace, bool busy)
{
    uint32_t count = pace->count < PACE_CYCLES ? pace->count : PACE_CYCLES;
    uint64_t bytes = 0;
    int64_t ms = 0;

    for (uint32_t i = 0; i < count; i++) {
        const struct pace_cycle *c = cycle_at(pace, i);
        bytes += c->changed;
        ms += busy ? c->busy_ms : c->gap_ms;
    }
    return ms > 0 ? (uint64_t)((double)bytes * 1000 / (double)ms) : 0;
}

uint64_t pace_changed_per_s(const struct pace *pace)
{
    return per_s(pace, false);
}

uint64_t pace_sent_per_s(const struct pace *pace)
{
    return per_s(pace, true);
}

void pace_advice(const struct pace *pace, const struct pace_policy *policy, char *ret_text,
                 size_t len)
{
    int64_t sent = 0, applied = 0, busy = 0;
    char rate[32];

    for (uint32_t i = 0; i < PACE_CYCLES && i < pace->count; i++) {
        const struct pace_cycle *c = cycle_at(pace, i);
        sent += c->sent_ms;
        applied += c->applied_ms;
        busy += c->busy_ms;
    }
    int64_t sealed = busy - sent - applied;
    if (policy->throttle_per_s && policy->wire_per_s * 10 >= policy->throttle_per_s * 8)
        (void)snprintf(ret_text, len, "its throttle of %s/s holds it back: raise that",
                       str_bytes(policy->throttle_per_s, rate, sizeof(rate)));
    else if (applied > sent && applied > sealed)
        (void)snprintf(ret_text, len,
                       "the disks at %s are what is slow; a longer interval writes blocks once "
                       "that change often",
                       policy->peer);
    else if (sealed > sent && policy->compression == COMPRESSION_ZSTD)
        (void)snprintf(ret_text, len,
                       "reading and compressing is what is slow: compression lz4 or none costs "
                       "less");
    else if (sealed > sent)
        (void)snprintf(ret_text, len,
                       "reading the changes at this site is what is slow; a longer interval reads "
                       "blocks once that change often");
    else if (policy->compression != COMPRESSION_ZSTD)
        (void)snprintf(ret_text, len, "the link is what is slow: compression zstd sends less");
    else
        (void)snprintf(ret_text, len,
                       "the link is what is slow; a longer interval sends blocks once that change "
                       "often");
}
