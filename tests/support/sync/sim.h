// SPDX-License-Identifier: Apache-2.0
/* A duo under trouble, all of it from one seed; after every event an oracle that knows what the disks
 * held at each cut, and when, looks at what both sites say and hold:
 *
 *   invariant 1   no point that was acknowledged is gone or changed, each that is kept is bit-exact
 *   invariant 2   each of them is all disks at one instant
 *   invariant 3   once lyon is promoted, nothing is written there under the old generation
 *   invariant 9   the time the newest point is said to be from is not later than the true one
 *   invariant 10  when the faults end, replication catches up
 *
 * What is wrong is text in `failure`; nothing aborts. */
#pragma once

#include "base/str.h"
#include "support/sync/duo.h"

#define SIM_LOG 16

struct sim_point { /* as it was seen first */
    uint64_t point;
    uint64_t generation;
    struct sha256 hash;
    uint64_t cut;
};
VEC_DEFINE(sim_points, struct sim_point)

struct sim {
    struct duo duo;
    struct fake_machine *machine;
    uint64_t number;
    uint64_t dice;
    char failure[700];

    struct sim_points points;
    uint64_t told_durable; /* by the session, ever */
    uint64_t told_applied;
    uint64_t seen_durable; /* at the last full look */
    uint64_t seen_applied;
    bool look;         /* at everything, whatever has changed */
    uint64_t promoted; /* the promotion's point; 0: none */
    bool clock_lost;   /* paris started anew after its clock went back: it cannot know better */
    int64_t clock_back_ms;

    uint64_t events;
    char log[SIM_LOG][160]; /* a ring */
};

/* How often each kind of event came, over all seeds. */
struct sim_counts {
    uint64_t *at; /* sim_event_count() of them */
    uint64_t events;
    uint64_t points;
    uint64_t cuts;
    uint64_t breaks;
    uint64_t links;
    uint64_t served;
    uint64_t disk_errors;
    uint64_t disk_full;
};
size_t sim_event_count(void);
const char *sim_event_name(size_t kind);

/* A build that is wrong. */
struct sim_bug {
    const char *name;
    const char *lyon_lie; /* syncs that do nothing (site_fs.h) */
    const char *paris_lie;
    struct duo_bug bug;
};

/* Plays one seed below `dir`. True: nothing was wrong; else why is in `ret_failure`, with the last
 * events. `bug` may be NULL. */
bool sim_play(const char *dir, uint64_t seed, const struct sim_bug *bug, struct sim_counts *counts,
              struct str *ret_failure);
