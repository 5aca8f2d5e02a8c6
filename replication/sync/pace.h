// SPDX-License-Identifier: Apache-2.0
/* Does replication keep pace with the changes? Each cycle says how much had changed since the cut
 * before, and how long it took to bring that to the replica. When that takes longer than it took to
 * change, and goes on so, the link (or what else is slow) does not carry the changes. Plain values
 * and functions. */
#pragma once

#include "replica/frame.h"

#include <stdbool.h>
#include <stdint.h>

struct pace_cycle {
    uint64_t changed;   /* bytes of changed blocks */
    int64_t gap_ms;     /* from the cut before to this one */
    int64_t busy_ms;    /* from this cut until the replica had applied it */
    int64_t sent_ms;    /* of that: on the way, */
    int64_t applied_ms; /* and at the replica */
};

#define PACE_CYCLES 4
struct pace {
    struct pace_cycle last[PACE_CYCLES]; /* a ring */
    uint32_t count;                      /* ever noted */
    bool behind;
};

/* Notes a cycle; `behind` is what is known now. It falls behind when two cycles in a row took twice
 * as long as their changes took to come, or four nine tenths of it, and the last one two intervals
 * and more (small ones do not count: what they cost is no question of rates). It keeps pace again
 * after two cycles that took less than eight tenths. */
void pace_note(struct pace *pace, const struct pace_cycle *cycle, int64_t interval_ms);
/* Over the cycles that are known; 0 without any. */
uint64_t pace_changed_per_s(const struct pace *pace);
uint64_t pace_sent_per_s(const struct pace *pace);

/* What holds it back, as far as its policy can tell. */
struct pace_policy {
    const char *peer;
    enum compression compression;
    uint64_t throttle_per_s; /* in force now; 0: none */
    uint64_t wire_per_s;     /* as measured */
    int64_t interval_ms;
};
/* What a person can do about it: one line. */
void pace_advice(const struct pace *pace, const struct pace_policy *policy, char *ret_text,
                 size_t len);
