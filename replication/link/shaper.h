// SPDX-License-Identifier: Apache-2.0
/* How fast a site pair sends: one shaper per peer, shared by the threads of all sessions to it. Each
 * session has a flow. Flows that want to send at the same time share by weight, piece by piece: none
 * waits for another one to be done. Bytes are those of messages, without what TLS adds (0.2 %).
 * Any thread; a flow by one at a time. */
#pragma once

#include "base/cancel.h"
#include "link/throttle_plan.h"

/* No more is asked for at a time: so much one flow may be ahead of another. */
#define SHAPER_PIECE_MAX (256u * 1024u)

struct shaper;
struct shaper_flow;

/* `clock` must outlive it. Without limits at first. */
struct shaper *shaper_new(struct clock *clock);
void shaper_free(struct shaper *shaper); /* after its flows; NULL is fine */
/* At once, also for those that wait. */
void shaper_set_plan(struct shaper *shaper, const struct throttle_plan *plan);

struct shaper_status {
    struct throttle_plan plan;
    uint64_t limit_per_s; /* of the plan now; 0: none */
    uint64_t used_per_s;  /* sent in the latest whole second */
    uint64_t sent_bytes;  /* ever */
    size_t waiting;       /* flows that wait now */
};
void shaper_status(struct shaper *shaper, struct shaper_status *ret_status);

/* Deltas come before bulk (initial copies, resyncs), by weight, not altogether. */
#define SHAPER_DELTA 4u
#define SHAPER_BULK  1u
struct shaper_flow *shaper_flow_new(struct shaper *shaper);
void shaper_flow_free(struct shaper_flow *flow); /* NULL is fine */
/* `plan`: its own limit besides the shaper's. `weight` of at least 1. From the next piece on. */
void shaper_flow_set(struct shaper_flow *flow, const struct throttle_plan *plan, uint32_t weight);

/* How many of `bytes` may be asked for in one go at the present limits: at least 1, at most `bytes` and
 * SHAPER_PIECE_MAX; an eighth of a second's worth. */
size_t shaper_piece(struct shaper_flow *flow, size_t bytes);
/* 0: `bytes` may be sent now, and are counted. Else milliseconds until asking again makes sense, at most
 * SHAPER_LOOK_MS: limits may have changed by then. Who gives up instead says so by shaper_leave. */
#define SHAPER_LOOK_MS 200
int64_t shaper_ask(struct shaper_flow *flow, size_t bytes);
void shaper_leave(struct shaper_flow *flow);
/* Waits until they may be sent. -1: the cancel ended it. */
int shaper_take(struct shaper_flow *flow, size_t bytes, struct cancel *cancel, struct err *err)
    MUST_CHECK;
