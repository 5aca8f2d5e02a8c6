// SPDX-License-Identifier: Apache-2.0
#include "support/run/jobs_desk.h"

#include "support/expect.h"

#include <stdio.h>

void jobs_desk_init(struct jobs_desk *desk, const char *dir)
{
    memset(desk, 0, sizeof(*desk));
    clock_fake_init(&desk->clock, 1000000);
    (void)snprintf(desk->path, sizeof(desk->path), "%s/state.db", dir);
}

void jobs_desk_turn_end(struct jobs_desk *desk)
{
    EXPECT_OK(state_turn_end(desk->state, &err));
    jobs_turn_committed(desk->jobs);
}

static void turn_end(void *ctx)
{
    jobs_desk_turn_end(ctx);
}

void jobs_desk_start(struct jobs_desk *desk, const struct jobs_world *world)
{
    struct jobs_world full = *world;

    EXPECT_OK(state_open(desk->path, &desk->state, &err));
    desk->loop = loop_new(&desk->clock.clock);
    desk->pool = pool_new_inline(desk->loop);
    full.loop = desk->loop;
    full.pool = desk->pool;
    full.clock = &desk->clock.clock;
    full.state = desk->state;
    full.site = world->site ? world->site : "paris";
    desk->jobs = jobs_new(&full);
    loop_set_turn_end(desk->loop, turn_end, desk);
}

void jobs_desk_stop(struct jobs_desk *desk)
{
    jobs_stop(desk->jobs);
    while (pool_busy(desk->pool) > 0)
        (void)loop_step(desk->loop, 0);
    jobs_free(desk->jobs);
    pool_free(desk->pool);
    loop_free(desk->loop);
    state_close(desk->state);
    link_close(desk->peer_end);
    desk->peer_end = NULL;
}

void jobs_desk_settle(struct jobs_desk *desk)
{
    jobs_desk_turn_end(desk);
    while (loop_step(desk->loop, 0)) {
    }
}

struct link *jobs_desk_link(struct jobs_desk *desk, const char *peer, const json_t *answer,
                            const struct err *refusal)
{
    struct transport *ours;
    struct transport *theirs;

    transport_pair(1U << 20, &ours, &theirs);
    link_close(desk->peer_end);
    desk->peer_end = link_new(theirs, "paris");
    if (refusal)
        EXPECT_OK(link_answer_err(desk->peer_end, refusal, NULL, &err));
    else
        EXPECT_OK(link_answer(desk->peer_end, answer, NULL, 0, NULL, &err));
    return link_new(ours, peer);
}
