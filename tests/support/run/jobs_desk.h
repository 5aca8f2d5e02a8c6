// SPDX-License-Identifier: Apache-2.0
/* Jobs over a real state.db, an inline pool and a fake clock, with a peer that is a pipe: its answer
 * lies in it before the question is asked. One thread. */
#pragma once

#include "run/job.h"

struct jobs_desk {
    struct clock_fake clock;
    struct loop *loop;
    struct pool *pool;
    struct state *state;
    struct jobs *jobs;
    char path[256]; /* of state.db */
    struct link *peer_end;
};

/* Made in `dir`; nothing runs yet. */
void jobs_desk_init(struct jobs_desk *desk, const char *dir);
/* A daemon's start and end: what is durable stays. `world` names what is not the desk's: estate, dir,
 * ctx, open_link. */
void jobs_desk_start(struct jobs_desk *desk, const struct jobs_world *world);
void jobs_desk_stop(struct jobs_desk *desk);
/* Ends the turn: what it decided is durable and begins. */
void jobs_desk_turn_end(struct jobs_desk *desk);
/* The same, and runs until nothing is left to do. */
void jobs_desk_settle(struct jobs_desk *desk);
/* A link to a peer that answers `answer`, or refuses (`refusal` not NULL). */
struct link *jobs_desk_link(struct jobs_desk *desk, const char *peer, const json_t *answer,
                            const struct err *refusal);
