// SPDX-License-Identifier: Apache-2.0
/* The door between the loop and what blocks: jobs run on pool threads, their ends come back to
 * the loop. A job owns its input, result and error until `done` ran. */
#pragma once

#include "base/cancel.h"
#include "core/loop.h"

#include <stddef.h>

struct pool;
struct pool_job {
    void (*run)(struct pool_job *job);  /* on a pool thread; blocks; watches job->cancel */
    void (*done)(struct pool_job *job); /* on the loop thread, after run; frees the job */
    struct cancel *cancel;              /* owned by the job's maker; may be NULL */
    struct pool_job *next;              /* the pool's own */
};

/* Threads are started as jobs need them, at most `max_threads`. */
struct pool *pool_new(struct loop *loop, unsigned max_threads);
/* The same; its threads give way to all others of the host (base/background.h). */
struct pool *pool_new_background(struct loop *loop, unsigned max_threads);
/* Runs each job at once, in pool_submit; `done` still arrives by the loop: for simulation. */
struct pool *pool_new_inline(struct loop *loop);
void pool_submit(struct pool *pool, struct pool_job *job);
size_t pool_busy(struct pool *pool); /* queued or running */
/* Waits for all jobs (fire their cancels first) and runs their `done`; drops none. Loop thread. */
void pool_free(struct pool *pool);
