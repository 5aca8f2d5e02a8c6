// SPDX-License-Identifier: Apache-2.0
/* The one event-driven trunk: descriptors (epoll), timers by the clock seam, and messages from
 * other threads. Callbacks run on the loop's thread and never block. All functions but loop_post
 * belong to that thread. */
#pragma once

#include "base/clock.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct loop;
typedef void loop_fn(void *ctx);
typedef void loop_fd_fn(void *ctx, uint32_t events); /* EPOLLIN, ... */

struct loop *loop_new(struct clock *clock);
void loop_free(struct loop *loop);
struct clock *loop_clock(const struct loop *loop);

void loop_watch(struct loop *loop, int fd, uint32_t events, loop_fd_fn *fn, void *ctx);
void loop_unwatch(struct loop *loop, int fd);

/* Runs fn once, `after_ms` from now. Returns an id for loop_timer_cancel; 0 is never used. */
uint64_t loop_timer(struct loop *loop, int64_t after_ms, loop_fn *fn, void *ctx);
void loop_timer_cancel(struct loop *loop, uint64_t id); /* gone already: fine */

/* From any thread: fn runs on the loop's thread, in order of posting. */
void loop_post(struct loop *loop, loop_fn *fn, void *ctx);

/* Drops what is still to be run for `ctx`: posts and timers. For an object that goes away. */
void loop_forget(struct loop *loop, const void *ctx);

/* Runs after each turn's callbacks, before the loop waits again: the place of the one
 * transaction per turn. */
void loop_set_turn_end(struct loop *loop, loop_fn *fn, void *ctx);

/* One turn; waits at most `max_wait_ms` for something to do. True when something ran. With a fake
 * clock the waiting is real, in short slices: posts, descriptors and timers that became due end
 * it. Work that callbacks post belongs to the next turn. */
bool loop_step(struct loop *loop, int64_t max_wait_ms);
void loop_run(struct loop *loop); /* until loop_stop */
void loop_stop(struct loop *loop);
